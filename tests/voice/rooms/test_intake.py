"""Offers: as many calls as lines, a few goodbyes more, bad input refused or served; each refusal is told."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from livekit import api
from livekit.agents import JobRequest
from livekit.protocol import agent as proto

from tests.support.fake_server import FakeServer, participant
from tests.support.waiting import wait_until
from voicectl.memory.config import load
from voicectl.memory.room_log import RoomEvent, recent
from voicectl.memory.store.engine import Store, open_store
from voicectl.memory.store.leases import LeaseState, open_leases
from voicectl.voice.config import VoiceSettings
from voicectl.voice.events import RoomMark
from voicectl.voice.intake import GOODBYES, MAX_METADATA, MAX_ROOM, Intake, metadata
from voicectl.voice.rooms.admin import RoomAdmin
from voicectl.voice.rooms.busy import BusyRooms
from voicectl.voice.rooms.notes import Notes
from voicectl.voice.rooms.registry import live_calls

pytestmark = pytest.mark.unit


class Scene:
    """One worker's intake with real leases."""

    def __init__(self, home: Path, capacity: int) -> None:
        settings = load(VoiceSettings, home=home)
        self.server, self.running = FakeServer(), set[str]()
        self.store: Store = open_store(settings)
        self.leases = open_leases(settings)
        self.notes = Notes(self.store, "worker")
        busy = BusyRooms(self.notes, self.leases, cast(RoomAdmin, self.server))
        self.intake = Intake(capacity, self.leases, self.notes, busy, lambda: set(self.running))

    async def offer(self, room: str, text: str = "{}", number: str = "1") -> str:
        """What becomes of an offer: accepted, refused for all, or left to others."""
        said: list[str] = []

        async def reject(terminate: bool) -> None:
            said.append("refused" if terminate else "left to others")

        async def accept(arguments: Any) -> None:
            self.running.add(arguments.identity)
            said.append("accepted")

        mark = self.server.made[room].metadata if room in self.server.made else ""
        about = api.Room(name=room, sid="RM_1", metadata=mark)
        job = proto.Job(id=f"AJ_{number}", room=about, metadata=text, agent_name="voicectl")
        await self.intake.answer(JobRequest(job=job, on_reject=reject, on_accept=accept))
        (answer,) = said
        return answer

    async def settle(self) -> None:
        await self.intake._tasks.done()
        await self.notes.written()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path, capacity=2)
    yield made
    made.leases.close()
    made.store.close()


async def test_a_burst_gets_every_line_and_not_one_more(scene: Scene) -> None:
    for n in range(4):
        scene.server.make(f"call-{n}", participant("customer"))

    answers = await asyncio.gather(*(scene.offer(f"call-{n}", number=str(n)) for n in range(4)))
    await scene.settle()

    assert sorted(answers) == ["accepted", "accepted", "left to others", "left to others"]
    assert sorted(RoomMark.BUSY in scene.server.marks(f"call-{n}") for n in range(4)) == [False, False, True, True]
    assert [n.event for n in recent(scene.store)].count(RoomEvent.FULL) == 2


async def test_a_job_that_is_still_being_accepted_while_it_is_listed_takes_one_line(scene: Scene) -> None:
    scene.running.add("agent-AJ_1")
    scene.intake._offered.add("agent-AJ_1")
    scene.leases.claim("room:call-1", "agent-AJ_1", 15.0)

    assert await scene.offer("call-2", number="2") == "accepted"


async def test_a_call_that_is_wound_up_takes_no_line(scene: Scene) -> None:
    for n in range(2):
        grant = scene.leases.claim(f"room:call-{n}", f"agent-{n}", 15.0, LeaseState.HELD)
        scene.running.add(f"agent-{n}")
    assert await scene.offer("call-2") == "left to others"

    scene.leases.move(grant, LeaseState.CLOSING, 10.0)

    assert await scene.offer("call-2") == "accepted"


async def test_an_offer_of_a_held_room_is_refused_for_all_and_both_are_named(scene: Scene) -> None:
    held = scene.leases.claim("room:call-1", "agent-0", 15.0, LeaseState.HELD)

    assert await scene.offer("call-1") == "refused"

    await scene.settle()
    (noted,) = recent(scene.store)
    assert (noted.event, noted.ours, noted.theirs) == (RoomEvent.CONFLICT, "agent-AJ_1", "agent-0")
    assert noted.their_fence == held.fence


async def test_goodbyes_are_said_over_capacity_with_a_limit_and_take_no_line(scene: Scene) -> None:
    for n in range(2):
        assert await scene.offer(f"call-{n}", number=str(n)) == "accepted"

    goodbyes = [await scene.offer(f"busy-{n}", '{"busy": "1"}', f"b{n}") for n in range(GOODBYES + 1)]

    assert goodbyes == ["accepted"] * GOODBYES + ["left to others"]
    assert live_calls(scene.leases) == {"agent-AJ_0", "agent-AJ_1"}
    scene.running.discard("agent-AJ_0")
    assert await scene.offer("call-9", number="9") == "accepted"


async def test_the_mark_of_a_room_goes_when_an_agent_takes_it(scene: Scene) -> None:
    scene.server.make("call-1", participant("customer"), voice_busy="123.0")

    assert await scene.offer("call-1") == "accepted"

    await scene.settle()
    assert RoomMark.BUSY not in scene.server.marks("call-1")


@pytest.mark.parametrize(
    "name", ["Ünïcödé 部屋 🎧", "a b\tc\n", "../../etc/passwd", "'; drop table leases; --", "%s{}", "x" * MAX_ROOM]
)
async def test_a_room_may_be_called_anything(scene: Scene, name: str) -> None:
    assert await scene.offer(name) == "accepted"
    assert scene.leases.read(f"room:{name}") is not None


@pytest.mark.parametrize("name", ["", "x" * (MAX_ROOM + 1), "nul\0nul"])
async def test_a_room_that_cannot_be_kept_is_refused_with_the_reason(
    scene: Scene, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert await scene.offer(name) == "refused"
    assert [getattr(r, "why", "") for r in caplog.records if r.message == "offer refused"]


@pytest.mark.parametrize(
    "text", ["not JSON", "[1, 2]", "null", '"text"', '{"desk": ' + "[" * 2000, "{" * 100_000, "x" * (MAX_METADATA + 1)]
)
async def test_metadata_of_any_kind_is_served_and_said(
    scene: Scene, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert await scene.offer("call-1", text) == "accepted"

    assert "a job's metadata is ignored" in caplog.messages


def test_of_metadata_words_are_taken() -> None:
    assert metadata("") == {}
    assert metadata('{"desk": "shop", "n": 1, "deep": {"a": 1}}') == {"desk": "shop"}


async def test_only_the_workers_own_canary_shows_that_dispatches_reach_it(scene: Scene) -> None:
    assert await scene.offer("canary-of-another") == "left to others"
    assert not scene.intake.reached.is_set()
    assert await scene.offer(scene.intake.canary) == "refused"
    assert scene.intake.reached.is_set()


async def test_with_a_store_that_hangs_every_job_counts_and_the_offer_is_answered(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    thawed = threading.Event()

    def hangs(*_: object) -> set[str]:
        thawed.wait(30)
        return set()

    monkeypatch.setattr("voicectl.voice.intake.live_calls", hangs)
    monkeypatch.setattr("voicectl.voice.intake.COUNT_S", 0.01)
    try:
        scene.running.add("agent-1")
        async with asyncio.timeout(10):
            assert await scene.offer("call-1") == "accepted"
            assert await scene.offer("call-2", number="2") == "left to others"
    finally:
        thawed.set()


async def test_with_the_store_away_every_job_counts(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    from voicectl.memory.errors import StoreUnavailable

    def away(*_: object) -> set[str]:
        raise StoreUnavailable("leases", "away")

    monkeypatch.setattr("voicectl.voice.intake.live_calls", away)
    scene.running |= {"agent-1", "agent-2", "busy-3"}
    assert await scene.offer("call-1") == "left to others"
    scene.running.discard("agent-1")
    assert await scene.offer("call-1") == "accepted"
    await wait_until(lambda: "" if scene.leases.read("room:call-1") else "not claimed")
