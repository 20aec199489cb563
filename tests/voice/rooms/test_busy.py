"""Who waits for a line: marked once, told by figures of the store, in the order of waiting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from livekit import api

from tests.support.fake_server import FakeServer, participant
from voicectl.memory.config import load
from voicectl.memory.room_log import RoomEvent, counts
from voicectl.memory.store.engine import Store, open_store
from voicectl.memory.store.leases import Lease, Leases, LeaseState, open_leases
from voicectl.voice.config import VoiceSettings
from voicectl.voice.events import RoomMark
from voicectl.voice.rooms.admin import RoomAdmin, room_marks
from voicectl.voice.rooms.busy import REFUSED_S, WAIT_S, BusyRooms, busy_since, lines
from voicectl.voice.rooms.notes import Notes

pytestmark = pytest.mark.unit

NOW = 1_000_000.0
ROOM = "call-1"


@pytest.fixture
def server() -> FakeServer:
    made = FakeServer()
    made.make(ROOM, participant("customer"))
    return made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = open_store(load(VoiceSettings, home=tmp_path))
    yield made
    made.close()


@pytest.fixture
def leases(tmp_path: Path) -> Iterator[Leases]:
    made = open_leases(load(VoiceSettings, home=tmp_path))
    yield made
    made.close()


@pytest.fixture
def busy(server: FakeServer, store: Store, leases: Leases) -> BusyRooms:
    return BusyRooms(Notes(store, "web"), leases, cast(RoomAdmin, server), lambda: NOW)


def row(name: str, owner: str, state: LeaseState = LeaseState.HELD, remaining_s: float = 2.0) -> Lease:
    return Lease(name, state, owner, 1, "n", remaining_s)


def worker(capacity: object, agent_name: str = "voicectl") -> Lease:
    return row(f"worker:{agent_name}", f'{{"capacity": {capacity}, "agent_name": "{agent_name}"}}')


def test_lines_are_what_the_store_says_of_workers_and_calls() -> None:
    rows = [
        worker(3),
        worker(50, "another"),
        worker('"many"'),
        row("worker:by-hand", "not JSON"),
        row("worker:gone", '{"capacity": 9}', remaining_s=-1),
        row("room:a", "agent-1"),
        row("room:b", "agent-2", LeaseState.ACCEPTED),
        row("room:c", "agent-3", LeaseState.CLOSING),
        row("room:d", "agent-4", remaining_s=-1),
        row("room:e", "busy-5"),
        row("customer:f", "syncer"),
        Lease("room:h", LeaseState.HELD, "agent-7", 1, "n", 2.0, "another"),
    ]

    found = lines(rows, "voicectl")

    assert (found.workers, found.capacity, found.used, found.free, found.full) == (1, 3, 2, 1, False)
    assert lines(rows, "voicectl", but="agent-1").free == 2
    assert lines([*rows, row("room:g", "agent-6")], "voicectl").full
    assert not lines([], "voicectl").full, "no worker listed is not: no line"


async def test_a_refused_room_is_marked_with_the_time_once_and_keeps_its_other_marks(
    busy: BusyRooms, server: FakeServer, store: Store
) -> None:
    await busy.refused(ROOM)
    assert server.marks(ROOM) == {RoomMark.DESK: "assistant", RoomMark.BUSY: f"{NOW:.3f}"}
    before = server.made[ROOM].metadata

    busy._clock = lambda: NOW + 9
    await busy.refused(ROOM)

    assert server.made[ROOM].metadata == before
    await busy._notes.written()
    assert counts(store)[RoomEvent.BUSY] == 1
    await busy.unmark(ROOM)
    assert server.marks(ROOM) == {RoomMark.DESK: "assistant"}


async def test_a_room_that_another_worker_takes_is_not_marked(
    busy: BusyRooms, server: FakeServer, leases: Leases
) -> None:
    leases.claim(f"room:{ROOM}", "agent-1", 15.0)

    await busy.refused(ROOM)

    assert RoomMark.BUSY not in server.marks(ROOM)
    assert REFUSED_S < 1.0, "told within 3 s of joining"


@pytest.mark.parametrize("metadata", ["", "{}", '{"their": "room"}', "[1]", "not JSON"])
async def test_rooms_of_others_are_left_as_they_are(busy: BusyRooms, server: FakeServer, metadata: str) -> None:
    server.made[ROOM].metadata = metadata

    await busy.mark(ROOM)

    assert server.made[ROOM].metadata == metadata


async def test_a_silent_server_is_survived(busy: BusyRooms, server: FakeServer) -> None:
    server.silent = True

    await busy.mark(ROOM)
    await busy.unmark(ROOM)


def waiting(name: str, since: object) -> api.Room:
    return api.Room(name=name, metadata=f'{{"voice.desk": "assistant", "voice.busy": "{since}"}}')


def test_the_oldest_are_served_first_and_who_waited_long_enough_is_told_when_there_is_no_line(busy: BusyRooms) -> None:
    rooms = [waiting("b", NOW - 5), waiting("a", NOW - WAIT_S), waiting("c", NOW - 1), api.Room(name="d")]

    def due(capacity: int, *more: Lease) -> tuple[list[str], list[str], list[str]]:
        return busy.due(rooms, {r.name: r for r in (worker(capacity), *more)}, "voicectl")

    assert due(2) == (["a", "b"], [], [])
    assert due(0) == ([], ["a"], [])
    assert due(1, row("room:a", "agent-1")) == ([], [], ["a"])
    assert due(1, row("room:a", "busy-1")) == (["b"], [], [])
    assert due(3, row("room:b", "web", LeaseState.TAKEOVER)) == (["a", "c"], [], [])
    assert busy.due(rooms, {}, "voicectl") == (["a", "b", "c"], [], []), "no worker is listed: perhaps one comes"


@pytest.mark.parametrize(
    ("mark", "since"),
    [(str(NOW - 5), NOW - 5), (str(NOW + 500), NOW), ("nan", NOW), ("-inf", NOW), ("soon", NOW), ("", NOW)],
)
def test_nobody_is_sent_away_for_a_clock_or_a_forged_mark(mark: str, since: float) -> None:
    assert busy_since(waiting("a", mark).metadata, NOW) == since


def test_a_room_without_a_mark_does_not_wait() -> None:
    assert busy_since('{"voice.desk": "assistant"}', NOW) is None
    assert busy_since("not JSON", NOW) is None
    assert room_marks("[1]") is None
