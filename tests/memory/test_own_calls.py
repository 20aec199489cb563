"""Calls of programs that hold them by themselves: a dead program's are ended, a living one's never."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from voicectl.memory import Memory, own_calls
from voicectl.memory.calls import Call, CallState, now_ms, open_call
from voicectl.memory.learning import due
from voicectl.memory.recorder import Journal, Role, Turn, write_turn
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import calls

PROGRAM = """
import sys, time
from voicectl.memory import Memory
call = Memory(sys.argv[1]).call(sys.argv[2])
call.said("user", "I like trains.")
print(call.call.id, call._recorder.flush(10), flush=True)
time.sleep(600)
"""


def state(store: Store, call_id: str) -> tuple[str, str]:
    with store.read() as connection:
        row = connection.execute(select(calls.c.state, calls.c.reason).where(calls.c.id == call_id)).one()
    return str(row.state), str(row.reason)


def own(store: Store, journal_dir: Path, **other: Any) -> Call:
    """A call that this process holds, or with `other` in place of what is true of it."""
    call = open_call(store, customer="user:ada", room=f"{own_calls.OWN_ROOMS}{now_ms()}{other}", desk="", fence=1)
    own_calls.note(store, call, journal_dir)
    with store.write() as connection:
        row = connection.execute(select(calls.c.progress).where(calls.c.id == call.id)).scalar_one()
        program = {**json.loads(row)["program"], **other}
        mine = update(calls).where(calls.c.id == call.id)
        connection.execute(mine.values(progress=json.dumps({"program": program})))
    return call


@pytest.fixture(scope="module")
def dead() -> int:
    """The id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


@pytest.mark.process
def test_the_call_of_a_killed_program_is_ended_by_whoever_opens_the_store_and_a_living_ones_is_not(
    tmp_path: Path,
) -> None:
    file = tmp_path / "memory.db"
    running = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, file, f"user:{n}"], stdout=subprocess.PIPE, text=True)
        for n in range(3)
    ]
    killed, lively, frozen = running
    try:
        ids = [p.stdout.readline().split() for p in running if p.stdout]
        assert [flushed for _, flushed in ids] == ["True"] * 3
        killed.kill()
        killed.wait()
        frozen.send_signal(signal.SIGSTOP)
        late = Turn("late", Role.USER, "I am allergic to nuts.", now_ms())
        Journal(tmp_path / "journal" / f"{ids[0][0]}.jsonl", 1).append([late])

        with Memory(file) as memory:
            assert [state(memory.store, call)[0] for call, _ in ids] == [
                CallState.ENDED,
                CallState.OPEN,
                CallState.OPEN,
            ]
            assert state(memory.store, ids[0][0])[1] == "abandoned"
            assert [found.said for found in memory.search("user:0", "trains nuts")] == [
                "I am allergic to nuts.",
                "I like trains.",
            ]
            lively.kill()
            lively.wait()
            memory.call("user:someone else").close()
            assert state(memory.store, ids[1][0])[0] == CallState.ENDED
            assert state(memory.store, ids[2][0])[0] == CallState.OPEN
    finally:
        for process in running:
            process.kill()
            process.communicate()


def test_what_is_not_proven_to_be_dead_stays_open(store: Store, tmp_path: Path, dead: int) -> None:
    reused, ended = own(store, tmp_path, began="1"), own(store, tmp_path, pid=dead)
    restarted = own(store, tmp_path, machine="another boot")
    alive = [
        own(store, tmp_path),
        own(store, tmp_path, pid=dead, space="pid:[another container]"),
        own(store, tmp_path, pid=1, began=own_calls._process(1)[1]),
        own(store, tmp_path, pid="no number"),
        own(store, tmp_path, pid=2**70),
        open_call(store, customer="user:ada", room=f"{own_calls.OWN_ROOMS}old", desk="", fence=1),
        open_call(store, customer="user:ada", room="room-1", desk="", fence=1),
    ]
    with store.write() as connection:  # no own call, whatever is written there
        lookalike = update(calls).where(calls.c.id == alive[-1].id)
        program = {"pid": dead, "began": "1", "machine": "", "space": "", "journal": ""}
        connection.execute(lookalike.values(progress=json.dumps({"program": program})))

    # Another machine shares a PostgreSQL; of SQLite it is this one before it was started again.
    assert own_calls.end_dead(store) == (3 if store.is_sqlite else 2)
    assert own_calls.end_dead(store) == 0

    assert state(store, reused.id) == state(store, ended.id) == (CallState.ENDED, "abandoned")
    assert (state(store, restarted.id)[0] == CallState.ENDED) == store.is_sqlite
    assert {state(store, call.id)[0] for call in alive} == {CallState.OPEN}


def test_a_zombie_is_dead(store: Store, tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    call = own(store, tmp_path, pid=process.pid, began=own_calls._process(process.pid)[1])

    assert own_calls.end_dead(store) == 1
    assert state(store, call.id)[0] == CallState.ENDED
    process.wait()


def test_a_call_whose_turns_cannot_be_read_is_not_ended_yet(store: Store, tmp_path: Path, dead: int) -> None:
    call = own(store, tmp_path, pid=dead)
    (tmp_path / f"{call.id}.jsonl").mkdir()

    assert own_calls.end_dead(store) == 0

    (tmp_path / f"{call.id}.jsonl").rmdir()
    assert own_calls.end_dead(store) == 1


def test_nothing_waits_for_a_call_of_a_program_in_which_nobody_has_spoken_for_an_hour(
    store: Store, tmp_path: Path
) -> None:
    call = own(store, tmp_path)
    assert own_calls.somebody_is_on(store)
    assert not due.quiet(store, 0)
    with store.write() as connection:
        old = now_ms() - own_calls.LEFT_MS - 60_000
        connection.execute(update(calls).values(started_ms=old))
    assert not own_calls.somebody_is_on(store)
    assert due.quiet(store, 0)

    with store.write() as connection:
        write_turn(connection, call, Turn("item", Role.USER, "I am still here.", now_ms()))
    assert own_calls.somebody_is_on(store)
    assert not due.quiet(store, 0)

    with store.write() as connection:
        connection.execute(update(calls).values(room="room-1"))
        connection.exec_driver_sql("update turns set at_ms = 1")
    assert own_calls.somebody_is_on(store), "how long a call on a server lasts is nobody's business"
    assert not due.quiet(store, 0)
