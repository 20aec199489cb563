"""The processes that crash.py kills: a recorder with many customers, and a syncer. Both can die at a named point.

Each is forked by a server that has imported all of it (`start`), because a thousand of them die in an hour. It says
what it did, a line each: `said CALL ITEM SECONDS` when a turn was handed over, `died POINT SECONDS` before it dies.
The syncer's time limits are those in `Limits`, shorter than the product's, so that a thousand deaths fit into an hour.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from dataclasses import dataclass, fields
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from voicectl.memory.calls import CallState, finish, now_ms, open_call  # noqa: E402
from voicectl.memory.config import MemorySettings, load  # noqa: E402
from voicectl.memory.errors import StoreUnavailable  # noqa: E402
from voicectl.memory.recorder import Recorder, Role, Signals, Turn  # noqa: E402
from voicectl.memory.store.engine import Store, open_store  # noqa: E402
from voicectl.memory.store.schema import calls, turns  # noqa: E402

NEEDED = ("voicectl.memory.syncer", "voicectl.memory.backends.letta", "voicectl.memory.sync.settling")


@dataclass(frozen=True)
class Limits:
    """Seconds; the product's are 10, 5, 20 and 30."""

    append_s: float = 3.0
    absence_s: float = 1.5
    lease_s: float = 5.0
    ghost_s: float = 8.0


def say(*words: object) -> None:
    os.write(1, (" ".join(str(w) for w in words) + "\n").encode())


def fuse(point: str, hits: int) -> Any:
    """A callable that dies when it is called for the n-th time."""
    left = [hits]

    def burn(*_: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            say("died", point, time.monotonic())
            os.kill(os.getpid(), signal.SIGKILL)

    return burn


class Talk:
    """Customers who talk until each has said its share of the quota."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.home = Path(plan["home"])
        self.settings = load(MemorySettings, home=self.home)
        self.store: Store = open_store(self.settings)
        self.random = random.Random(f"{plan['seed']}-{plan['incarnation']}")
        self.signals = Signals()
        if plan.get("die_at"):
            point, hits = plan["die_at"]
            assert point in {f.name for f in fields(Signals)}, point
            self.signals = Signals(**{point: fuse(point, hits)})

    async def run(self) -> None:
        say("ready")
        customers = [f"user:crash {self.plan['seed']} {n}" for n in range(self.plan["customers"])]
        async with asyncio.TaskGroup() as group:
            for number, customer in enumerate(customers):
                group.create_task(self.customer(number, customer))

    def quota(self, number: int) -> int:
        """How many turns this customer may have said by now; new customers come along as the quota grows."""
        whole = json.loads((self.home / "quota.json").read_text())
        done = whole["turns"] / whole["of"]
        present = max(1, round(self.plan["customers"] * min(1.0, done * 2)))
        return round(whole["turns"] / present) if number < present else 0

    def last(self) -> bool:
        whole = json.loads((self.home / "quota.json").read_text())
        return bool(whole["last"])

    def counts(self, customer: str, call_id: str | None = None) -> int:
        statement = select(func.count()).select_from(turns.join(calls)).where(calls.c.customer == customer)
        if call_id is not None:
            statement = statement.where(calls.c.id == call_id)
        with self.store.read() as connection:
            return int(connection.execute(statement).scalar_one())

    def in_a_call(self, customer: str) -> bool:
        with self.store.read() as connection:
            open_ = select(calls.c.id).where(calls.c.customer == customer, calls.c.state != CallState.ENDED)
            return connection.execute(open_).first() is not None

    async def patient(self, work: Any, *args: Any) -> Any:
        while True:
            try:
                return await asyncio.to_thread(work, *args)
            except StoreUnavailable:
                await asyncio.sleep(0.05)

    async def customer(self, number: int, customer: str) -> None:
        while True:
            said = await self.patient(self.counts, customer)
            if said < self.quota(number) or (self.last() and await self.patient(self.in_a_call, customer)):
                await self.call(number, customer)  # at the end: the call that a killed recorder left is ended
            elif self.last():
                return
            else:
                await asyncio.sleep(0.1)

    async def call(self, number: int, customer: str) -> None:
        def begin() -> Any:
            with self.store.read() as connection:
                ended = connection.execute(
                    select(func.count()).where(calls.c.customer == customer, calls.c.state == CallState.ENDED)
                ).scalar_one()
            return open_call(
                self.store, customer=customer, room=f"{customer} {ended}", desk="d", fence=self.plan["incarnation"]
            )

        call = await self.patient(begin)
        recorder = Recorder(self.store, call, journal_dir=self.home / "journal", signals=self.signals)
        add = recorder.add

        def told(turn: Turn) -> None:
            say("said", call.id, turn.item_id, time.monotonic())
            add(turn)

        recorder.add = told  # type: ignore[method-assign]
        length = await self.patient(self.counts, customer, call.id)
        most = self.random.randint(6, 30)
        mouth = await self.mouth(recorder)
        while length < most:
            if await self.patient(self.counts, customer) >= self.quota(number):
                if self.last():
                    break
                await asyncio.sleep(0.1)  # the call stays on
                continue
            length += await mouth(f"{self.plan['incarnation']}.{length} {self.random.random()}")
            await asyncio.sleep(self.random.uniform(0, 2 * self.plan["pace_s"]))
            await asyncio.to_thread(recorder.flush, 5)
        while not await asyncio.to_thread(recorder.flush, 5):
            pass
        await asyncio.to_thread(recorder.close)
        await self.patient(finish, self.store, call, "done")

    async def mouth(self, recorder: Recorder) -> Any:
        if not self.plan["session"]:

            async def plain(text: str) -> int:
                for role in (Role.USER, Role.ASSISTANT):
                    recorder.add(Turn(f"item-{random.getrandbits(64):x}", role, f"{role} {text}", now_ms()))
                return 2

            return plain
        from bench.plain_turns import PlainTurns
        from voicectl.voice.listening import Listener

        session = PlainTurns()
        Listener(session.session, recorder, lambda *_: None)
        await session.open()

        async def spoken(text: str) -> int:
            await session.turn(text)
            return 2

        return spoken


def sync(plan: dict[str, Any]) -> None:
    """The syncer of the product with shorter limits, and a fuse."""
    import logging

    from voicectl.memory import syncer
    from voicectl.memory.backends import letta
    from voicectl.memory.sync import blocks, mirror, settling
    from voicectl.memory.sync.states import Point

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    limits = Limits()
    mirror.APPEND_S, syncer.LEASE_S = limits.append_s, limits.lease_s
    settling.ABSENCE_S, settling.GHOST_S = limits.absence_s, limits.ghost_s
    syncer.POLL_S, syncer.ON_CALL_S, syncer.SWEEP_S = 0.1, 1.0, 2.0
    made = letta.LettaBackend
    letta.LettaBackend = lambda *a, **k: made(*a, **k, write_s=limits.append_s)  # type: ignore[misc,assignment]
    assert blocks
    if plan.get("die_at"):
        name, hits = plan["die_at"]
        burn = fuse(name, hits)
        whole = syncer.Syncer
        syncer.Syncer = lambda *a, **k: whole(  # type: ignore[misc,assignment]
            *a, **k, signal=lambda point: burn() if point == Point(name) else None
        )
    say("ready")
    syncer.run(load(MemorySettings))


def live(role: str, plan: dict[str, Any], env: dict[str, str], said: Connection, log: str) -> None:
    """What a process does from its birth on."""
    os.dup2(said.fileno(), 1)
    os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), 2)
    os.environ.clear()
    os.environ.update(env)
    if role == "recorder":
        asyncio.run(Talk(plan).run())
        say("finished")
    else:
        sync(plan)


def start(role: str, plan: dict[str, Any], env: dict[str, str], log: Path) -> tuple[BaseProcess, Connection]:
    """A new process, and where it says what it does."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.crash", "bench.plain_turns", "voicectl.voice.listening", *NEEDED])
    listening, saying = context.Pipe(duplex=False)
    process = context.Process(target=live, args=(role, plan, env, saying, str(log)), daemon=True)
    process.start()
    saying.close()
    return process, listening
