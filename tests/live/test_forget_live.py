"""A customer is forgotten with a call on and a syncer that stands still: no byte is left, on neither side."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.letta_server import RealLetta
from tests.support.waiting import wait_for
from voicectl.cli.system.letta_scrub import scrub
from voicectl.memory import profile, traces
from voicectl.memory.backends.letta import LettaBackend
from voicectl.memory.calls import Call, open_call
from voicectl.memory.config import MemorySettings
from voicectl.memory.errors import Refused
from voicectl.memory.forget import Forgetting
from voicectl.memory.identity import hashed
from voicectl.memory.in_letta import InLetta
from voicectl.memory.profile import Block, Origin, Source
from voicectl.memory.recorder import Role, Turn
from voicectl.memory.store.engine import Store
from voicectl.memory.store.leases import LeaseState, open_leases
from voicectl.memory.turns import write_turn

pytestmark = [pytest.mark.letta, pytest.mark.timeout(600)]

WHO, OTHER = "+8801700000042", "user:other"
SECRET, KEPT = "quicksilver-marzipan", "rhubarb-crumble"

# Stops itself where it has committed that it will send turns and has not sent them, once the file `freeze` is there.
CHILD = """
import os, signal, sys
from pathlib import Path
from voicectl.memory import syncer
from voicectl.memory.config import MemorySettings, load
from voicectl.memory.sync.states import Point
settings = load(MemorySettings)
def stop(point):
    flag = settings.home / "freeze"
    if point == Point.INTENT_COMMITTED and flag.exists():
        flag.unlink()
        os.kill(os.getpid(), signal.SIGSTOP)
syncer.LEASE_S = 4.0
whole = syncer.Syncer
syncer.Syncer = lambda *a, **k: whole(*a, **k, signal=stop)
syncer.run(settings)
"""


@contextmanager
def syncer(home: Path, letta: RealLetta) -> Iterator[subprocess.Popen[bytes]]:
    env = {**os.environ, "VOICE_HOME": str(home), "LETTA_BASE_URL": letta.url, "LETTA_API_KEY": letta.access.key}
    process = subprocess.Popen([sys.executable, "-c", CHILD], env=env, cwd=Path.cwd())
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(30)


def say(store: Store, call: Call, item: str, text: str) -> None:
    with store.write() as connection:
        assert write_turn(connection, call, Turn(item, Role.USER, text, 1))


def in_letta(letta: RealLetta, text: str, number: int) -> str:
    found = letta.number(f"select count(*) from messages where content::text like '%{text}%'")
    return "" if found >= number else f"{found} messages with {text} in Letta"


def stopped(process: subprocess.Popen[bytes]) -> str:
    state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
    return "" if state == "T" else f"its state is {state}"


def tables_with(letta: RealLetta, *needles: str) -> list[str]:
    """Tables of Letta's database that hold one of the needles in any column of any row."""
    names = letta.processes.sql("select tablename from pg_tables where schemaname = 'public'")
    return [
        f"{name}: {needle}"
        for (name,) in names
        for needle in needles
        if letta.number(f"select count(*) from \"{name}\" t where t::text like '%{needle}%'")
    ]


def files_with(root: Path, *needles: str) -> list[str]:
    found = []
    for path in root.rglob("*"):
        if path.is_symlink() or not path.is_file():
            continue
        data = path.read_bytes()
        found += [f"{path.relative_to(root)}: {needle}" for needle in needles if needle.encode() in data]
    return found


def test_no_byte_of_a_forgotten_customer_is_left_on_either_side(
    letta: RealLetta, store: Store, settings: MemorySettings
) -> None:
    leases = open_leases(settings)
    backend = LettaBackend(letta.url, letta.access.key, "http://127.0.0.1:1/v1")
    data = Path(letta.processes.sql("show data_directory")[0][0])
    closed: list[str] = []
    forgetting = Forgetting(store, leases, settings.home, backend, close_rooms=lambda rooms: closed.extend(rooms) or "")
    call = open_call(store, customer=WHO, room="call-1", desk="assistant", fence=1)
    other = open_call(store, customer=OTHER, room="call-2", desk="assistant", fence=1)
    leases.claim("room:call-1", "job", 600, LeaseState.HELD)
    with syncer(settings.home, letta) as process:
        say(store, call, "1", f"my password is {SECRET}")
        say(store, other, "1", f"my favourite is {KEPT}")
        profile.put(store, WHO, f"password is {SECRET}", Origin(Source.TOOL, call.id, "1"))
        profile.put(store, WHO, f"said {SECRET} to us", Origin(Source.OPERATOR), Block.OPERATOR_NOTES)
        wait_for(lambda: in_letta(letta, SECRET, 1) or in_letta(letta, KEPT, 1), 60)
        wait_for(lambda: "" if any("block" in t for t in tables_with(letta, SECRET)) else "no block", 30)
        (settings.home / "freeze").touch()
        say(store, call, "2", f"again: {SECRET}")
        wait_for(lambda: stopped(process), 30)
        assert files_with(data, SECRET)
        assert files_with(settings.home, SECRET)
        with pytest.raises(Refused, match="on a call"):
            forgetting.run(WHO)

        receipt = forgetting.run(WHO, end_calls=True)
        process.send_signal(signal.SIGCONT)
        say(store, other, "2", f"more {KEPT}")
        wait_for(lambda: in_letta(letta, KEPT, 2), 60)

    assert receipt.left == []
    assert (receipt.letta, receipt.agents, closed) == (InLetta.CLEAR, 1, ["call-1"])
    assert traces.rows(store, WHO) == {}
    assert tables_with(letta, SECRET, hashed(WHO)) == []
    assert files_with(settings.home, SECRET, WHO) == []
    assert files_with(data, SECRET)  # PostgreSQL only marks what was deleted
    scrub(letta.processes)
    assert files_with(data, SECRET, hashed(WHO)) == []
    assert not any(SECRET in line for line in letta.log)
    assert files_with(data, KEPT)
    backend.close()
    leases.close()
