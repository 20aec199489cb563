"""Turns are durable in order, whatever the store does. Killed processes: test_recorder_crashes.py."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import select

from tests.support.postgres import Cluster
from tests.support.waiting import wait_for
from voicectl.memory import calls
from voicectl.memory.config import MemorySettings
from voicectl.memory.identity import clean
from voicectl.memory.recorder import Journal, Recorder, Role, Turn, replay_left_journals, write_turn
from voicectl.memory.store.engine import Store, open_store
from voicectl.memory.store.schema import calls as calls_table
from voicectl.memory.store.schema import refused_turns, turns

pytestmark = pytest.mark.unit


def turn(number: int, role: Role = Role.USER, text: str = "") -> Turn:
    return Turn(f"item_{number}", role, text or f"turn {number}", at_ms=number)


def texts(store: Store, call_id: str) -> list[str]:
    with store.read() as connection:
        statement = select(turns.c.text).where(turns.c.call_id == call_id).order_by(turns.c.seq)
        return list(connection.execute(statement).scalars())


def refused(store: Store) -> list[str]:
    with store.read() as connection:
        return list(connection.execute(select(refused_turns.c.text).order_by(refused_turns.c.id)).scalars())


def wait_for_texts(store: Store, call_id: str, expected: list[str]) -> None:
    """In the store; a database across a network may take a turn a moment after the journal had it."""
    wait_for(lambda: "" if (found := texts(store, call_id)) == expected else f"in the store: {found}"[:500])


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

    assert recorder.flush(15)
    wait_for_texts(store, call.id, [f"turn {n}" for n in range(50)])


def test_the_same_item_twice_is_one_turn(recorder: Recorder, store: Store, call) -> None:
    recorder.add(turn(1))
    recorder.add(turn(1))

    assert recorder.flush(15)
    wait_for_texts(store, call.id, ["turn 1"])


def test_control_characters_and_lone_surrogates_are_left_out(recorder: Recorder, store: Store, call) -> None:
    recorder.add(turn(1, text="a\x00b\ud800c\x1b"))

    assert recorder.flush(15)
    wait_for_texts(store, call.id, ["abc"])


def test_a_very_long_turn_is_kept_whole(recorder: Recorder, store: Store, call) -> None:
    recorder.add(turn(1, text="x" * 200_000))

    assert recorder.flush(15)
    wait_for_texts(store, call.id, ["x" * 200_000])


def test_a_locked_store_delays_nothing_and_turns_arrive_in_order_afterwards(
    recorder: Recorder, store: Store, call, tmp_path: Path
) -> None:
    with store.write():
        for number in range(5):
            recorder.add(turn(number))
        assert recorder.flush(15), "turns must be durable in the journal while the store is locked"
        assert Journal(tmp_path / "journal" / f"{call.id}.jsonl").waiting
        recorder.add(turn(5))
        assert recorder.flush(15)

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
    recorder.flush(15)
    recorder.close()

    assert told == [True]
    assert texts(store, call.id) == []
    assert refused(store) == ["turn 1"]


def test_no_turn_is_taken_after_the_call_has_ended(recorder: Recorder, store: Store, call) -> None:
    recorder.add(turn(1))
    wait_for_texts(store, call.id, ["turn 1"])
    calls.finish(store, call, "test")

    recorder.add(turn(2))
    recorder.close()

    assert texts(store, call.id) == ["turn 1"]
    assert refused(store) == ["turn 2"]


def test_a_journal_line_cut_short_by_a_crash_is_left_out(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "c1.jsonl")
    journal.append([turn(1)])
    with (tmp_path / "c1.jsonl").open("a") as f:
        f.write('{"item_id": "item_2", "ro')

    assert [t.item_id for t in journal.read()] == ["item_1"]


def test_a_line_after_one_that_was_cut_short_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "c1.jsonl"
    Journal(path).append([turn(1)])
    with path.open("a") as f:
        f.write('{"item_id": "item_2", "ro')

    Journal(path).append([turn(3)])

    assert [t.item_id for t in Journal(path).read()] == ["item_1", "item_3"]


def test_what_was_added_while_others_were_replayed_stays(tmp_path: Path) -> None:
    journal, other = Journal(tmp_path / "c1.jsonl"), Journal(tmp_path / "c1.jsonl")
    journal.append([turn(1)])
    _, raw = journal.entries()
    other.append([turn(2)])

    journal.clear(raw)
    journal.clear(raw)

    assert [t.item_id for t in other.read()] == ["item_2"]


def test_many_who_append_and_replay_at_once_lose_no_line(tmp_path: Path) -> None:
    path = tmp_path / "c1.jsonl"
    seen: list[str] = []
    stop = threading.Event()

    def write(number: int) -> None:
        for n in range(30):
            Journal(path).append([turn(number * 1000 + n)])

    def replay() -> None:
        while not stop.is_set() or path.exists():
            found, raw = Journal(path).entries()
            Journal(path).clear(raw)
            seen.extend(e.turn.item_id for e in found)

    writers = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    replayers = [threading.Thread(target=replay) for _ in range(2)]
    for thread in [*writers, *replayers]:
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    for thread in replayers:
        thread.join()

    assert set(seen) == {f"item_{number * 1000 + n}" for number in range(3) for n in range(30)}


def test_what_a_fenced_out_job_journalled_after_it_was_replaced_is_refused_once(
    store: Store, call, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    Journal(journal / f"{call.id}.jsonl", fence=1).append([turn(1)])  # its last words, before it died
    call2 = calls.open_call(store, customer="user:1", room="r1", desk="assistant", fence=2)
    recorder = Recorder(store, call2, journal_dir=journal)
    wait_for_texts(store, call.id, ["turn 1"])

    Journal(journal / f"{call.id}.jsonl", fence=1).append([turn(2)])  # it was alive after all
    recorder.add(turn(3))
    recorder.close()

    wait_for_texts(store, call.id, ["turn 1", "turn 3"])
    assert refused(store) == ["turn 2"]


def test_left_journals_are_written_under_the_fence_that_said_them(store: Store, call, tmp_path: Path) -> None:
    Journal(tmp_path / f"{call.id}.jsonl", fence=1).append([turn(1)])
    calls.open_call(store, customer="user:1", room="r1", desk="assistant", fence=2)

    assert replay_left_journals(store, tmp_path) == 0
    assert replay_left_journals(store, tmp_path) == 0

    assert texts(store, call.id) == []
    assert refused(store) == ["turn 1"]


@pytest.mark.process
@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
def test_while_postgresql_stands_still_turns_are_durable_at_once_and_arrive_in_order_later(
    store: Store, call, cluster: Cluster, tmp_path: Path
) -> None:
    recorder = Recorder(store, call, journal_dir=tmp_path / "journal")
    recorder.add(turn(0))
    wait_for_texts(store, call.id, ["turn 0"])

    cluster.freeze()
    try:
        for number in range(1, 6):
            recorder.add(turn(number))
            assert recorder.flush(15), "durable in the journal although nobody answers"
    finally:
        cluster.thaw()

    wait_for_texts(store, call.id, [f"turn {n}" for n in range(6)])
    assert recorder.close(30)
    assert list((tmp_path / "journal").glob("*")) == []


def test_turns_wait_while_neither_store_nor_journal_takes_them(store: Store, call, tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file where the folder should be")
    recorder = Recorder(store, call, journal_dir=tmp_path / "journal")
    recorder.add(turn(0))
    wait_for_texts(store, call.id, ["turn 0"])

    with store.write() as connection:
        connection.execute(calls_table.update().values(reason=""))
        recorder.add(turn(1))
        recorder.add(turn(2))
        assert not recorder.flush(0.3), "not durable, and not said to be"

    assert recorder.flush(15)
    wait_for_texts(store, call.id, [f"turn {n}" for n in range(3)])
    recorder.close()


def test_a_store_of_a_newer_version_that_refuses_rows_leaves_them_in_the_journal(
    store: Store, call, tmp_path: Path
) -> None:
    recorder = Recorder(store, call, journal_dir=tmp_path / "journal")
    wait_for(lambda: "still connecting" if recorder._trying else "")
    with store.write() as connection:
        connection.exec_driver_sql("alter table turns rename to turns_of_tomorrow")

    recorder.add(turn(1))
    assert recorder.flush(15)
    recorder.close()
    assert [t.item_id for t in Journal(tmp_path / "journal" / f"{call.id}.jsonl").read()] == ["item_1"]

    with store.write() as connection:
        connection.exec_driver_sql("alter table turns_of_tomorrow rename to turns")
    assert replay_left_journals(store, tmp_path / "journal") == 1
    assert texts(store, call.id) == ["turn 1"]


FULL = """
import resource, signal, sys, time
from pathlib import Path
from voicectl.memory import calls
from voicectl.memory.config import MemorySettings, load
from voicectl.memory.recorder import Recorder, Role, Turn
from voicectl.memory.store.engine import open_store

home = Path(sys.argv[1])
store = open_store(load(MemorySettings, home=home))
call = calls.open_call(store, customer="user:1", room="r1", desk="assistant", fence=1)
recorder = Recorder(store, call, journal_dir=home / "journal")
recorder.add(Turn("item_0", Role.USER, "before", 1))
assert recorder.flush(15)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
used = max(p.stat().st_size for p in home.iterdir() if p.is_file())
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (used + 1000, hard))  # no file of ours may grow past the largest one
recorder.add(Turn("item_1", Role.USER, "x" * 30_000, 2))
assert recorder.flush(15), "not durable"
assert list((home / "journal").glob("*.jsonl")), "not in the journal"
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
recorder.add(Turn("item_2", Role.USER, "after", 3))
assert recorder.close(30)
print(call.id)
"""


@pytest.mark.process
@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_a_full_disk_under_the_database_loses_no_turn(settings: MemorySettings) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(settings.home)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr

    store = open_store(settings)
    assert texts(store, done.stdout.strip()) == ["before", "x" * 30_000, "after"]
    store.close()


anything = st.text(st.characters(codec=None), max_size=120)


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(item_id=anything, text=anything, agent=anything, at_ms=st.integers(), interrupted=st.booleans())
def test_whatever_recognition_and_providers_say_is_stored(
    store: Store, call, item_id: str, text: str, agent: str, at_ms: int, interrupted: bool
) -> None:
    said = Turn(f"{uuid4()}{item_id}", Role.USER, text, at_ms, interrupted, agent * 3, '{"agent": "a"}')

    for _ in range(2):
        with store.write() as connection:
            assert write_turn(connection, call, said)

    with store.read() as connection:
        newest = select(turns).where(turns.c.call_id == call.id).order_by(turns.c.seq.desc()).limit(1)
        row = connection.execute(newest).one()
    assert row.text == clean(text)
    assert bool(row.interrupted) == interrupted


def test_two_long_ids_with_the_same_beginning_are_two_turns(store: Store, call) -> None:
    with store.write() as connection:
        for end in ("a", "b"):
            assert write_turn(connection, call, Turn("x" * 200 + end, Role.TOOL, end, 1))

    assert texts(store, call.id) == ["a", "b"]


def test_tools_hand_offs_and_interruptions_keep_their_place_over_two_jobs(store: Store, call, tmp_path: Path) -> None:
    first = Recorder(store, call, journal_dir=tmp_path / "journal")
    first.add(turn(1, Role.USER))
    first.add(Turn("item_2", Role.TOOL, '{"tool": "recall"}', 2, agent="reception"))
    first.add(Turn("item_3", Role.ASSISTANT, "I was say", 3, interrupted=True, progress='{"agent": "reception"}'))
    first.close()
    call2 = calls.open_call(store, customer="user:1", room="r1", desk="assistant", fence=2)
    second = Recorder(store, call2, journal_dir=tmp_path / "journal")
    second.add(Turn("item_4", Role.HANDOFF, "reception -> kitchen", 4))
    second.add(Turn("item_5", Role.ASSISTANT, "Goodbye.", 5))
    second.close()

    with store.read() as connection:
        rows = connection.execute(select(turns).where(turns.c.call_id == call.id).order_by(turns.c.seq)).all()
    assert [(r.seq, r.role, r.interrupted) for r in rows] == [
        (1, "user", 0),
        (2, "tool", 0),
        (3, "assistant", 1),
        (4, "handoff", 0),
        (5, "assistant", 0),
    ]
    assert call2.progress == {"agent": "reception"}
