"""The recorder's process is killed at every point named beside its code; a fresh one finds what was durable, once.

The child kills itself with SIGKILL inside the point. Then the call's successor, or whoever replays left journals, opens
the same store, and all rows are looked at.
"""

from __future__ import annotations

import dataclasses
import threading

import pytest
from sqlalchemy import select

from tests.support.crash import die, killed
from tests.support.waiting import wait_for
from voicectl.memory import calls
from voicectl.memory.config import MemorySettings
from voicectl.memory.recorder import Recorder, Role, Signals, Turn, replay_left_journals
from voicectl.memory.store.engine import Store, open_store
from voicectl.memory.store.schema import calls as calls_table
from voicectl.memory.store.schema import refused_turns, turns

pytestmark = pytest.mark.process


def child(settings: MemorySettings, point: str) -> None:
    store = open_store(settings)
    call = calls.open_call(store, customer="user:1", room="r1", desk="assistant", fence=1)
    armed = threading.Event()
    signals = Signals(**{point: lambda: die() if armed.is_set() else None})
    recorder = Recorder(store, call, journal_dir=settings.home / "journal", signals=signals)
    recorder.add(Turn("item_1", Role.USER, "first", 1))
    wait_for(lambda: "" if texts(store, call.id) == ["first"] else "the first turn is not there", 20)
    assert recorder.flush(15)
    wait_for(lambda: "an attempt is out" if recorder._journal.waiting or recorder._trying else "")
    armed.set()
    if "journal" in point:  # the store refuses: somebody holds what is written
        with store.write() as connection:
            connection.exec_driver_sql("update calls set reason = reason")
            recorder.add(Turn("item_2", Role.USER, "second", 2))
            recorder.flush(20)
    recorder.add(Turn("item_2", Role.USER, "second", 2))
    recorder.flush(20)
    recorder.close()


# What must be there afterwards, at least: before the commit and before the journal a crash may take the one turn inside
# protocols 4's window. A PostgreSQL that took its time before the crash has left that turn in the journal already.
BOTH = ["first", "second"]
KEPT = {
    "before_commit": ["first"],
    "after_commit": ["first", "second"],
    "after_clear": ["first", "second"],
    "before_journal": ["first"],
    "after_journal": ["first", "second"],
}


def texts(store: Store, call_id: str) -> list[str]:
    with store.read() as connection:
        statement = select(turns.c.text).where(turns.c.call_id == call_id).order_by(turns.c.seq)
        return list(connection.execute(statement).scalars())


def crash(settings: MemorySettings, point: str) -> str:
    """Let a child die at a point; returns its call."""
    killed(child, settings, point)
    store = open_store(settings)
    with store.read() as connection:
        call_id = str(connection.execute(select(calls_table.c.id)).scalar_one())
    store.close()
    return call_id


def test_every_named_point_has_its_crash() -> None:
    assert set(KEPT) == {f.name for f in dataclasses.fields(Signals)}


@pytest.mark.parametrize("point", sorted(KEPT))
def test_a_successor_finds_what_was_durable_and_goes_on_in_order(settings: MemorySettings, point: str) -> None:
    call_id = crash(settings, point)
    store = open_store(settings)

    call = calls.open_call(store, customer="user:1", room="r1", desk="assistant", fence=2)
    recorder = Recorder(store, call, journal_dir=settings.home / "journal")
    inherited = texts(store, call_id)
    recorder.add(Turn("item_3", Role.ASSISTANT, "third", 3))
    recorder.close()

    assert call.id == call_id
    assert inherited in (KEPT[point], BOTH), "a successor reads the history right after its recorder was made"
    wait_for(lambda: "" if texts(store, call_id) == [*inherited, "third"] else f"{texts(store, call_id)}")
    assert list((settings.home / "journal").glob("*")) == []
    with store.read() as connection:
        assert connection.execute(select(refused_turns.c.text)).scalars().all() == []
    store.close()


@pytest.mark.parametrize("point", sorted(KEPT))
def test_without_a_successor_the_journal_is_replayed_once(settings: MemorySettings, point: str) -> None:
    call_id = crash(settings, point)
    store = open_store(settings)

    replay_left_journals(store, settings.home / "journal")
    replay_left_journals(store, settings.home / "journal")

    assert texts(store, call_id) in (KEPT[point], BOTH)
    assert list((settings.home / "journal").glob("*")) == []
    store.close()
