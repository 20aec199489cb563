"""Calls that a program holds by itself (alone.py): who holds each, and which of them nobody holds any more.

    note(store, call, journal_dir)    this very process holds it
    end_dead(store)                   whoever comes by: calls whose process is proven to have ended are ended

The proof: process id and the moment that process began, on this machine as it runs now. Where it cannot be had (another
machine, another container) the call stays open; after LEFT_MS without a word nothing waits for it any more. Not here:
calls in rooms of a LiveKit server, whose agents hold leases (voice/rooms/).
"""

from __future__ import annotations

import json
import logging
import os
import uuid
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, and_, func, not_, select, update

from voicectl.memory.calls import Call, CallState, abandon, now_ms
from voicectl.memory.journal import Journal, replay_journal
from voicectl.memory.store.engine import Store
from voicectl.memory.store.leases import host_boot_id
from voicectl.memory.store.schema import calls, turns

log = logging.getLogger(__name__)

OWN_ROOMS = "alone-"  # such a call has no room on a server and no lease: only the program that holds it speaks for it
LEFT_MS = 3_600_000  # nobody said anything for so long: the program is taken for dead, as far as others wait for it
_LINUX = Path("/proc/self/stat").exists()


def note(store: Store, call: Call, journal_dir: Path) -> None:
    """Write down that this process holds a call, and where its turns may lie.

    Raises:
        StoreUnavailable: Nothing was written.
    """
    me = os.getpid()
    program = {
        "pid": me,
        "began": _process(me)[1],
        "machine": _machine(),
        "space": _space(),
        "journal": f"{journal_dir}",
    }
    with store.write() as connection:
        mine = update(calls).where(calls.c.id == call.id)
        connection.execute(mine.values(progress=json.dumps({**call.progress, "program": program})))


def end_dead(store: Store) -> int:
    """End the calls of programs that are gone, with all their turns; returns how many.

    Raises:
        StoreUnavailable: The store did not answer; what is not ended is the next time.
    """
    held = select(calls.c.id, calls.c.room, calls.c.progress).where(_own(), calls.c.state != CallState.ENDED)
    with store.read() as connection:
        rows = connection.execute(held).all()
    ended = 0
    for row in rows:
        try:
            program = json.loads(row.progress)["program"]
            path = Path(program["journal"]) / f"{row.id}.jsonl"
            if not _is_gone(program, one_machine=store.is_sqlite):
                continue
        except (ValueError, KeyError, TypeError, OverflowError):
            continue  # of an earlier version, or edited by hand
        if path.exists():
            replay_journal(store, path)
        if Journal(path).waiting:
            continue  # once it has ended, no turn is taken
        if abandon(store, row.room, 0):
            log.warning("a call whose program died was abandoned", extra={"room": row.room})
            ended += 1
    return ended


def silent(at_ms: int) -> ColumnElement[bool]:
    """Whether it is a call of such a program, and nobody has said anything in it for LEFT_MS."""
    last = select(func.max(turns.c.at_ms)).where(turns.c.call_id == calls.c.id).correlate(calls).scalar_subquery()
    return and_(_own(), func.coalesce(last, calls.c.started_ms) < at_ms - LEFT_MS)


def somebody_is_on(store: Store) -> bool:
    """Whether there is a call for which others should wait.

    Raises:
        StoreUnavailable: The store did not answer.
    """
    on = select(calls.c.id).where(calls.c.state != CallState.ENDED, not_(silent(now_ms()))).limit(1)
    with store.read() as connection:
        return connection.execute(on).first() is not None


def _own() -> ColumnElement[bool]:
    return calls.c.room.startswith(OWN_ROOMS, autoescape=True)


def _is_gone(program: dict[str, Any], *, one_machine: bool) -> bool:
    """Whether a process is proven to have ended."""
    if program["machine"] != _machine():
        return one_machine and _LINUX  # this machine has been started again since
    if program["space"] != _space():
        return False  # in another container its number is another one
    try:
        os.kill(int(program["pid"]), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # it is somebody else's, and lives
    state, began = _process(int(program["pid"]))
    return bool(began) and (began != program["began"] or state == "Z")


def _machine() -> str:
    return host_boot_id() if _LINUX else f"{uuid.getnode():x}"


def _space() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _process(pid: int) -> tuple[str, str]:
    """State of a process and when it began, in ticks since the machine did: no change of the clock moves that."""
    try:
        # The second field is the command's name, in brackets, and may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return fields[0], fields[19]
    except (OSError, IndexError):
        return "", ""
