"""Asking for an agent: again and again with a limit, one grant at most, and no dispatch of the holder's withdrawn."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from livekit import api

from tests.support.fake_server import FakeServer, participant
from voicectl.memory.config import load
from voicectl.memory.errors import FencedOut
from voicectl.memory.room_log import RoomEvent, recent
from voicectl.memory.store.engine import Store, open_store
from voicectl.memory.store.leases import Grant, Leases, LeaseState, open_leases
from voicectl.voice.config import VoiceSettings
from voicectl.voice.rooms.admin import RoomAdmin
from voicectl.voice.rooms.asking import GAPS_S, TAKEOVER_TTL_S, Asking
from voicectl.voice.rooms.notes import Notes

pytestmark = pytest.mark.unit

ROOM = "call-1"
QUICK = (0.02,) * 4


class Scene:
    def __init__(self, home: Path) -> None:
        settings = load(VoiceSettings, home=home)
        self.server = FakeServer()
        self.server.make(ROOM, participant("customer"))
        self.store: Store = open_store(settings)
        self.leases: Leases = open_leases(settings)
        self.notes = Notes(self.store, "web")
        self.asking = Asking(self.notes, self.leases, cast(RoomAdmin, self.server), QUICK)
        self.grant: Grant = self.leases.take_new(f"room:{ROOM}", "web", TAKEOVER_TTL_S, note="voicectl")

    def claim_at(self, attempt: int) -> None:
        """A worker that claims when it is asked for the so-manyth time."""

        def offered(room: str, metadata: dict[str, str]) -> None:
            number = len(self.server.dispatched)
            for dispatch in self.server.jobs[room]:
                dispatch.state.jobs.append(api.Job(id=f"AJ_{number}")) if dispatch.id == f"AD_{number}" else None
            if number == attempt:
                self.leases.claim(f"room:{room}", f"agent-AJ_{number}", 15.0)

        self.server.on_dispatch = offered

    async def ask(self) -> bool | None:
        return await self.asking.ask(self.grant, ROOM, "voicectl", {"takeover": "1"})

    async def events(self) -> list[RoomEvent]:
        await self.notes.written()
        return [n.event for n in reversed(recent(self.store))]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.leases.close()
    made.store.close()


def test_with_one_of_two_workers_frozen_six_are_asked_for_in_the_first_seconds() -> None:
    assert sum(GAPS_S[:5]) <= 2.5
    assert max(GAPS_S) < TAKEOVER_TTL_S, "while one is waited for the takeover stays ours"


async def test_the_first_claim_ends_it_and_nothing_is_withdrawn(scene: Scene) -> None:
    scene.claim_at(1)

    assert await scene.ask() is True

    assert scene.server.dispatched == [(ROOM, {"takeover": "1"})]
    assert not [a for a in scene.server.asked if a.startswith("delete")]
    assert await scene.events() == [RoomEvent.DISPATCHED]


async def test_what_was_lost_is_asked_for_again_and_withdrawn_when_one_has_claimed_but_never_the_holders(
    scene: Scene,
) -> None:
    scene.claim_at(3)

    assert await scene.ask() is True

    assert [a for a in scene.server.asked if a.startswith("delete")] == ["delete AD_1", "delete AD_2"]
    assert await scene.events() == [RoomEvent.DISPATCHED, RoomEvent.UNCLAIMED] * 2 + [RoomEvent.DISPATCHED]


async def test_where_the_server_has_not_filed_the_holders_job_yet_nothing_is_withdrawn(scene: Scene) -> None:
    scene.claim_at(3)
    filed = scene.server.on_dispatch

    def unfiled(room: str, metadata: dict[str, str]) -> None:
        filed(room, metadata)
        for dispatch in scene.server.jobs[room]:
            del dispatch.state.jobs[:]

    scene.server.on_dispatch = unfiled

    assert await scene.ask() is True

    assert not [a for a in scene.server.asked if a.startswith("delete")]


async def test_it_gives_up_after_a_limit_says_so_and_leaves_no_dispatch(scene: Scene) -> None:
    assert await scene.ask() is False

    assert len(scene.server.dispatched) == len(QUICK)
    assert scene.server.jobs[ROOM] == []
    events = await scene.events()
    assert events[-1] == RoomEvent.GAVE_UP
    assert events.count(RoomEvent.UNCLAIMED) == len(QUICK)


async def test_a_customer_who_has_left_is_not_asked_for(scene: Scene) -> None:
    scene.server.on_dispatch = lambda room, metadata: scene.server.people[room].clear()

    assert await scene.ask() is None

    assert len(scene.server.dispatched) == 1
    row = scene.leases.read(f"room:{ROOM}")
    assert row is not None
    assert row.state == LeaseState.FREE


async def test_a_server_that_is_silent_in_between_is_asked_again(scene: Scene) -> None:
    scene.server.silent = True
    asyncio.get_running_loop().call_later(QUICK[0] * 1.5, setattr, scene.server, "silent", False)
    scene.claim_at(1)

    assert await scene.ask() is True


@pytest.mark.parametrize("by", ["a claim that was given back", "another reconciler"])
async def test_who_is_not_alone_any_more_stops(scene: Scene, by: str) -> None:
    def offered(room: str, metadata: dict[str, str]) -> None:
        if by == "another reconciler":
            scene.leases.claim(f"room:{room}", "worker-2", TAKEOVER_TTL_S, LeaseState.TAKEOVER)
        else:
            scene.leases.release(scene.leases.claim(f"room:{room}", "agent-lost-assignment", 15.0))

    scene.server.on_dispatch = offered

    with pytest.raises(FencedOut):
        await scene.ask()

    assert len(scene.server.dispatched) == 1
