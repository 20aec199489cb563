"""Turns are durable in order, whatever the store does; a process that is killed loses nothing that was durable."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from sqlalchemy import select

from tests.support.waiting import wait_for
from voicectl.memory import calls
from voicectl.memory.config import MemorySettings, load
from voicectl.memory.recorder import Journal, Recorder, Role, Turn, replay_left_journals
from voicectl.memory.store.engine import Store, open_store
from voicectl.memory.store.schema import refused_turns, turns

pytestmark = pytest.mark.unit


def turn(number: int, role: Role = Role.USER, text: str = "") -> Turn:
    return Turn(f"item_{number}", role, text or f"turn {number}", at_ms=number)


def texts(store: Store, call_id: str) -> list[str]:
    with store.read() as connection:
        statement = select(turns.c.text).where(turns.c.call_id == call_id).order_by(turns.c.seq)
        return list(connection.execute(statement).scalars())


@pytest.fixture
def call(store: Store) -> calls.Call:
    return calls.open_call(store, customer="user:1", room="r1", desk="assistant", fence=1)


@pytest.fixture
def recorder(store: Store, call: calls.Call, tmp_path: Path):
    made = Recorder(store, call, journal_dir=tmp_path / "journal")
    yield made
    made.close()


def test_turns_are_written_in_the_order_they_were_handed_over(recorder: Recorder, store: Store, call) -> None:
    for number in range(50):
        recorder.add(turn(number))

    assert recorder.flush(5)
    assert texts(store, call.id) == [f"turn {n}" for n in range(50)]


def test_the_same_item_twice_is_one_turn(recorder: Recorder, store: Store, call) -> None:
    recorder.add(turn(1))
    recorder.add(turn(1))

    assert recorder.flush(5)
    assert texts(store, call.id) == ["turn 1"]


def test_control_characters_and_lone_surrogates_are_left_out(recorder: Recorder, store: Store, call) -> None:
    recorder.add(turn(1, text="a\x00b\ud800c\x1b"))

    assert recorder.flush(5)
    assert texts(store, call.id) == ["abc"]


def test_a_very_long_turn_is_kept_whole(recorder: Recorder, store: Store, call) -> None:
    recorder.add(turn(1, text="x" * 200_000))

    assert recorder.flush(5)
    assert len(texts(store, call.id)[0]) == 200_000


def test_a_locked_store_delays_nothing_and_turns_arrive_in_order_afterwards(
    recorder: Recorder, store: Store, call, tmp_path: Path
) -> None:
    with store.write():
        for number in range(5):
            recorder.add(turn(number))
        assert recorder.flush(5), "turns must be durable in the journal while the store is locked"
        assert Journal(tmp_path / "journal" / f"{call.id}.jsonl").waiting
        recorder.add(turn(5))
        assert recorder.flush(5)

    wait_for(lambda: "" if len(texts(store, call.id)) == 6 else f"only {texts(store, call.id)}")
    assert texts(store, call.id) == [f"turn {n}" for n in range(6)]
    wait_for(lambda: "the journal is still there" if recorder._journal.waiting else "")


def test_a_turn_of_a_fenced_out_job_goes_to_the_refused_list_and_the_job_learns_it(
    store: Store, call, tmp_path: Path
) -> None:
    told: list[bool] = []
    recorder = Recorder(store, call, journal_dir=tmp_path / "journal", on_fenced_out=lambda: told.append(True))
    calls.open_call(store, customer="user:1", room="r1", desk="assistant", fence=2)

    recorder.add(turn(1))
    recorder.flush(5)
    recorder.close()

    assert told == [True]
    assert texts(store, call.id) == []
    with store.read() as connection:
        assert connection.execute(select(refused_turns.c.text)).scalars().all() == ["turn 1"]


def test_no_turn_is_taken_after_the_call_has_ended(recorder: Recorder, store: Store, call) -> None:
    recorder.add(turn(1))
    recorder.flush(5)
    calls.finish(store, call, "test")

    recorder.add(turn(2))
    recorder.flush(5)

    assert texts(store, call.id) == ["turn 1"]


def test_a_journal_line_cut_short_by_a_crash_is_left_out(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "c1.jsonl")
    journal.append([turn(1)])
    with (tmp_path / "c1.jsonl").open("a") as f:
        f.write('{"item_id": "item_2", "ro')

    assert [t.item_id for t in journal.read()] == ["item_1"]


CHILD = textwrap.dedent(
    """
    import os, signal, sys, threading
    from pathlib import Path
    from voicectl.memory import calls
    from voicectl.memory.config import MemorySettings, load
    from voicectl.memory.recorder import Recorder, Role, Signals, Turn
    from voicectl.memory.store.engine import open_store

    home, point = Path(sys.argv[1]), sys.argv[2]
    store = open_store(load(MemorySettings, home=home))
    call = calls.open_call(store, customer="user:1", room="r1", desk="assistant", fence=1)
    armed = threading.Event()
    die = lambda: os.kill(os.getpid(), signal.SIGKILL) if armed.is_set() else None
    recorder = Recorder(store, call, journal_dir=home / "journal", signals=Signals(**{point: die}))
    recorder.add(Turn("item_1", Role.USER, "first", 1))
    assert recorder.flush(5)
    print(call.id, flush=True)
    armed.set()
    if point == "after_journal":
        lock = store.write(); lock.__enter__()
    recorder.add(Turn("item_2", Role.USER, "second", 2))
    recorder.flush(5)
    """
)


@pytest.mark.process
@pytest.mark.parametrize(
    ("point", "kept"),
    [
        ("before_commit", ["first"]),  # the one turn inside the window of protocols 4
        ("after_commit", ["first", "second"]),
        ("after_journal", ["first", "second"]),
    ],
)
def test_a_killed_recorder_loses_nothing_that_was_durable(tmp_path: Path, point: str, kept: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path), point], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    call_id = done.stdout.strip()

    store = open_store(load(MemorySettings, home=tmp_path))
    replay_left_journals(store, tmp_path / "journal")
    replay_left_journals(store, tmp_path / "journal")

    assert texts(store, call_id) == kept
    assert list((tmp_path / "journal").glob("*")) == []
    store.close()
