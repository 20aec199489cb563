"""What the reconciler does not wait for: a server that is slow, a room that cannot be listed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from livekit import api

from tests.support.fake_server import agent, participant
from tests.support.room_scene import ROOM, Scene
from tests.support.waiting import wait_until
from voicectl.memory.calls import open_call, open_call_of_room
from voicectl.voice.rooms.evidence import STAMP_S
from voicectl.voice.rooms.reconciler import UNDER_WAY_S
from voicectl.voice.rooms.registry import TTL_S
from voicectl.voice.rooms.sightings import ABSENT_S, RETURN_S

pytestmark = pytest.mark.unit


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.leases.close()
    made.store.close()


async def test_while_a_look_waits_for_the_server_it_goes_on_to_be_shown_that_the_store_takes_writes(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def rooms() -> list[api.Room]:
        await asyncio.Event().wait()
        return []

    def proven() -> str:
        stamped = evidence._stamped
        if stamped is not None and scene.clock.now - stamped < STAMP_S:
            scene.clock.now += STAMP_S / 2  # no faster than it writes
        return "" if evidence.proves else "not proven"

    evidence = scene.reconciler._evidence
    monkeypatch.setattr("voicectl.voice.rooms.reconciler.STAMP_S", 0.001)
    monkeypatch.setattr(scene.server, "rooms", rooms)
    scene.server.make(ROOM, agent("agent-1", 1), participant("customer"))
    scene.holds(ROOM, "agent-1", ttl_s=TTL_S / 2)
    running = asyncio.create_task(scene.reconciler.run())

    await wait_until(proven)

    assert await scene.reconciler.heal(ROOM)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert not [r.name for r in scene.leases.rows(taken=True) if r.name.startswith("observer:")]


async def test_a_slow_server_delays_looks_and_stops_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = scene.server.rooms

    async def rooms() -> list[api.Room]:
        for _ in range(5):
            scene.clock.now += STAMP_S / 2
            await scene.reconciler._stamp()
        return await answer()

    monkeypatch.setattr(scene.server, "rooms", rooms)
    scene.server.make(ROOM, agent("agent-1", 1), participant("customer"))
    scene.holds(ROOM, "agent-1")

    await scene.passes(10)

    assert scene.server.asked == [f"remove {ROOM} agent-1", f"dispatch {ROOM} voicectl"]


async def test_a_write_that_fails_lets_nothing_count_that_was_seen_before(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.proven()
    scene.server.make(ROOM, agent("agent-1", 1), participant("customer"))
    scene.holds(ROOM, "agent-1", 3600.0)
    await scene.passes(RETURN_S)
    scene.server.people[ROOM].pop(0)
    await scene.passes(ABSENT_S - 1)

    with scene.leases.store.write():
        scene.clock.now += STAMP_S
        await scene.reconciler._stamp()

    await scene.passes(ABSENT_S - 1)
    assert scene.server.dispatched == []
    await scene.passes(RETURN_S)
    assert len(scene.server.dispatched) == 1


async def test_a_room_that_cannot_be_listed_keeps_no_other_from_its_agent(scene: Scene) -> None:
    await scene.proven()
    for room in ("bad", "good"):
        scene.server.make(room, agent(f"agent-{room}", 1), participant("customer"))
        scene.holds(room, f"agent-{room}", 3600.0)
    scene.server.make("waiting", participant("customer"))
    await scene.passes(RETURN_S)
    scene.server.people["bad"].pop(0)
    await scene.passes(ABSENT_S - 1)
    scene.server.unlisted.add("bad")
    scene.server.people["good"].pop(0)

    await scene.passes(max(ABSENT_S, UNDER_WAY_S) + 1)

    assert {room for room, _ in scene.server.dispatched} == {"good", "waiting"}
    scene.server.unlisted.clear()
    await scene.passes(ABSENT_S - 0.5)
    assert "bad" not in dict(scene.server.dispatched), "nobody has seen for so long that its holder is not there"
    await scene.passes(RETURN_S)
    assert "bad" in dict(scene.server.dispatched)


async def test_a_room_that_cannot_be_healed_keeps_no_other_call_open(scene: Scene) -> None:
    await scene.proven()
    scene.server.make("bad", participant("customer"))
    scene.holds("bad", "agent-bad", 0.0)
    scene.server.unlisted.add("bad")
    open_call(scene.store, customer="user:1", room=ROOM, desk="assistant", fence=1)

    await scene.passes(scene.settings.reconnect_grace_s + 2)

    assert open_call_of_room(scene.store, ROOM) is None
