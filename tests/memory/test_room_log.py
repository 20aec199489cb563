"""The room log: a line and a row for what happened to a room, counts that only grow, and nothing that it can break."""

from __future__ import annotations

import logging
import time

import pytest
from sqlalchemy import insert, select, update

from voicectl.memory import calls, room_log, traces
from voicectl.memory.errors import StoreUnavailable
from voicectl.memory.room_log import Noted, RoomEvent, note
from voicectl.memory.store import schema
from voicectl.memory.store.engine import Store

pytestmark = pytest.mark.unit


def test_a_note_is_a_row_and_a_line_with_both_identities_and_fences(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    before = calls.now_ms()

    note(store, RoomEvent.EVICTED, "r1", ours="mine", our_fence=7, theirs="other", their_fence=6, why="no lease")

    (row,) = room_log.recent(store)
    assert row == Noted(row.id, row.at_ms, RoomEvent.EVICTED, "r1", "mine", 7, "other", 6, "no lease")
    assert before <= row.at_ms <= calls.now_ms()
    (line,) = caplog.records
    assert line.levelno == logging.WARNING
    assert line.message == "an agent was evicted"
    said = {n: line.__dict__[n] for n in ("event", "room", "ours", "our_fence", "theirs", "their_fence", "why")}
    assert said == {
        **{"event": "evicted", "room": "r1", "ours": "mine", "our_fence": 7},
        **{"theirs": "other", "their_fence": 6, "why": "no lease"},
    }


def test_every_event_can_be_noted_and_is_counted(store: Store) -> None:
    for event in RoomEvent:
        note(store, event, "r1")
    note(store, RoomEvent.BUSY, "r2")

    assert room_log.counts(store) == dict.fromkeys(RoomEvent, 1) | {RoomEvent.BUSY: 2}


def test_the_latest_come_first_of_all_rooms_or_of_one(store: Store) -> None:
    for number, room in enumerate(("r1", "r2", "r1", "r3")):
        note(store, RoomEvent.DISPATCHED, room, our_fence=number)

    assert [n.our_fence for n in room_log.recent(store)] == [3, 2, 1, 0]
    assert [n.our_fence for n in room_log.recent(store, 1)] == [3]
    assert [n.our_fence for n in room_log.recent(store, room="r1")] == [2, 0]
    assert room_log.recent(store, room="r9") == []


@pytest.mark.parametrize("text", ["\x00\x1b[2J", "\ud800", "নাম", "' OR 1=1 --", "x" * 5000])
def test_texts_of_others_are_kept_without_what_a_database_refuses_and_cut(store: Store, text: str) -> None:
    note(store, RoomEvent.CONFLICT, text, ours=text, theirs=text, their_fence=2**70, our_fence=-1, why=text)

    (row,) = room_log.recent(store, room=text)
    assert len(row.room) <= room_log.MAX_ROOM
    assert len(row.theirs) <= room_log.MAX_IDENTITY
    assert len(row.why) <= room_log.MAX_WHY
    assert "\x00" not in row.why
    assert (row.our_fence, row.their_fence) == (0, room_log.MAX_FENCE)


def test_a_store_that_is_away_costs_the_row_and_nothing_else(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: Store) -> None:
        raise StoreUnavailable("memory.db", "disk I/O error")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "write", away)
        note(store, RoomEvent.TAKEOVER, "r1", ours="web", our_fence=2, theirs="dead", their_fence=1)

    assert [r.message for r in caplog.records] == [
        "a room was taken over",
        "what happened to a room is not in the store",
    ]
    lost = caplog.records[1].__dict__
    assert (lost["event"], lost["room"], lost["theirs"], lost["their_fence"]) == ("takeover", "r1", "dead", 1)
    assert lost["store"] == "disk I/O error"
    assert room_log.recent(store) == []


def test_another_fault_than_an_absent_store_is_not_hidden(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Store) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(Store, "write", broken)

    with pytest.raises(RuntimeError, match="a mistake"):
        note(store, RoomEvent.BUSY, "r1")


def test_old_rows_are_pruned_and_what_was_counted_stays(store: Store) -> None:
    for room in ("old", "old", "new"):
        note(store, RoomEvent.BUSY, room)
    with store.write() as connection:
        aged = round((time.time() - room_log.KEEP_S - 60) * 1000)
        connection.execute(update(schema.room_log).where(schema.room_log.c.room == "old").values(at_ms=aged))

    assert room_log.prune(store) == 2
    assert room_log.prune(store) == 0

    assert [n.room for n in room_log.recent(store)] == ["new"]
    assert room_log.counts(store)[RoomEvent.BUSY] == 3


def test_of_too_many_rows_the_newest_are_kept(store: Store) -> None:
    for number in range(5):
        note(store, RoomEvent.BUSY, f"r{number}")

    assert room_log.prune(store, keep_rows=2) == 3

    assert [n.room for n in room_log.recent(store)] == ["r4", "r3"]


def test_an_event_of_a_later_program_is_passed_over(store: Store) -> None:
    note(store, RoomEvent.BUSY, "r1")
    later = {"room": "r1", "ours": "", "our_fence": 0, "theirs": "", "their_fence": 0, "why": "", "at_ms": 1}
    with store.write() as connection:
        connection.execute(insert(schema.room_log).values(event="not known yet", **later))
        connection.execute(insert(schema.room_counts).values(event="not known yet", number=9))

    assert [n.event for n in room_log.recent(store)] == [RoomEvent.BUSY]
    assert set(room_log.counts(store)) == set(RoomEvent)


def test_what_happened_to_a_forgotten_customers_rooms_is_forgotten_and_stays_counted(store: Store) -> None:
    calls.open_call(store, customer="user:1", room="r1", desk="assistant", fence=1)
    for room in ("r1", "r2"):
        note(store, RoomEvent.CONFLICT, room)

    with store.write() as connection:
        erased = traces.erase(connection, "user:1")

    assert erased["room_log"] == 1
    assert [n.room for n in room_log.recent(store)] == ["r2"]
    assert room_log.counts(store)[RoomEvent.CONFLICT] == 2
    with store.read() as connection:
        assert connection.execute(select(schema.calls.c.id)).all() == []
