"""The store or Letta stands still for 5, 30 and 60 s with calls on: no call is affected, nothing is lost or doubled.

    python bench/stalls.py --seconds 5,30,60 --seed 1
    python bench/stalls.py --only "letta stopped" --seconds 60
    python bench/stalls.py --spoken --seconds 30,60       (stalls_spoken.py)

Text path: three calls through AgentSession and a plain agent beside them take turns, in an order drawn by seed, before,
during and after the stall; a real syncer mirrors them into a real Letta (--stub: into the tests' stub). The store is
locked by a foreign process, or is a PostgreSQL stopped by SIGSTOP; Letta is stopped so too, or reached through a proxy
that hangs. Afterwards the turns are counted in the store and by SQL in Letta's database. Exit 1 if anything is not as
promised.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import select

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.figures import pairs, spread  # noqa: E402
from bench.moody_letta import syncer, until  # noqa: E402
from bench.moody_proxy import MoodyProxy  # noqa: E402
from bench.our_turns import OurTurns  # noqa: E402
from bench.plain_turns import PlainTurns  # noqa: E402
from tests.support.letta_server import RealLetta, real_letta  # noqa: E402
from tests.support.letta_stub import LettaStub  # noqa: E402
from tests.support.locked import locked  # noqa: E402
from tests.support.mirror_proof import not_mirrored  # noqa: E402
from tests.support.postgres import Cluster  # noqa: E402
from voicectl.cli.system.letta_processes import Access  # noqa: E402
from voicectl.memory import calls  # noqa: E402
from voicectl.memory.backends.letta import LettaBackend  # noqa: E402
from voicectl.memory.store.engine import Store  # noqa: E402
from voicectl.memory.store.schema import letta_agents, turns  # noqa: E402
from voicectl.memory.sync.verify import verify  # noqa: E402

CALLS = 3
WARM_UP = 20
BEFORE_S, AFTER_S = 10.0, 5.0
PAUSE_S = 0.08  # between two pairs of turns: about ten replies a second, as many as sixty calls have
REPLY = "I see."
LEVEL_S = 300.0
MIRRORED = "select count(*) from messages where sender_id is not null"


@contextmanager
def stopped(letta: RealLetta | Stub) -> Iterator[None]:
    """Letta's processes, stopped where they are; its PostgreSQL runs, so that it can be looked into."""
    if not isinstance(letta, RealLetta):
        raise SystemExit("a stub cannot be stopped; use --only, or leave --stub out")
    assert letta.processes.server is not None
    first = psutil.Process(letta.processes.server.pid)
    family = [first, *first.children(recursive=True)]
    for process in family:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in family:
            process.send_signal(signal.SIGCONT)


@contextmanager
def frozen(cluster: Cluster | None) -> Iterator[None]:
    """PostgreSQL's processes, stopped where they are; connections stay open, and nobody answers."""
    assert cluster is not None
    cluster.freeze()
    try:
        yield
    finally:
        cluster.thaw()


@contextmanager
def hung(proxy: MoodyProxy) -> Iterator[None]:
    """Letta takes requests and never answers."""
    proxy.mood("hung")
    yield
    proxy.mood("ok")


POSTGRESQL = "postgresql frozen"
Stall = Callable[[Path, Any, MoodyProxy, Cluster | None], AbstractContextManager[None]]
STALLS: dict[str, Stall] = {
    "store locked": lambda home, *_: locked(home / "memory.db"),
    "store and leases locked": lambda home, *_: locked(home / "memory.db", home / "leases.db"),
    POSTGRESQL: lambda _home, _letta, _proxy, cluster: frozen(cluster),
    "letta stopped": lambda _home, letta, *_: stopped(letta),
    "letta hung": lambda _home, _letta, proxy, _cluster: hung(proxy),
}


@contextmanager
def some_store(name: str, home: Path) -> Iterator[Cluster | None]:
    """The store of an arm, as its settings name it: a PostgreSQL of its own where that is what stands still."""
    if name != POSTGRESQL:
        yield None
        return
    with Cluster(home / "cluster", fsync=True) as cluster:
        os.environ["DATABASE_URL"] = cluster.create("stalls")
        try:
            yield cluster
        finally:
            del os.environ["DATABASE_URL"]


class Stub:
    """The tests' stub in the real server's place, as far as it is asked here."""

    def __init__(self, stub: LettaStub) -> None:
        self._stub = stub
        self.url = stub.url
        self.access = Access(int(stub.url.rpartition(":")[2]), "stub", 0, "")

    def number(self, _statement: str) -> int:
        return len(self._stub.rows)

    def rows(self, agent_id: str) -> list[tuple[str, str, str, str]]:
        of = {key for key, c in self._stub.conversations.items() if c["agent_id"] == agent_id}
        mine = [r for r in self._stub.rows if r["conversation"] in of]
        return [(r["role"], r["sender_id"], r["content"], r["conversation"]) for r in mine]


@contextmanager
def some_letta(*, stub: bool) -> Iterator[RealLetta | Stub]:
    """A Letta for all arms."""
    if stub:
        with LettaStub() as made:
            yield Stub(made)
        return
    with tempfile.TemporaryDirectory(prefix="stalls-letta-") as folder, real_letta(Path(folder) / "letta") as letta:
        yield letta


class Calls:
    """Some calls of ours on one store, and a plain agent beside them.

    Args:
        home: The VOICE_HOME.
        rng: Draws who speaks next.
    """

    def __init__(self, home: Path, rng: random.Random) -> None:
        self._rng = rng
        self.plain = PlainTurns()
        self.ours = [OurTurns(home, customer=f"user:{secrets.token_hex(4)}") for _ in range(CALLS)]
        self.store: Store = self.ours[0].store
        self._turns = 0

    async def open(self) -> None:
        for one in (self.plain, *self.ours):
            await one.open()
        for _ in range(WARM_UP):
            await self._pair()
        gc.collect()  # a full collection takes 110 ms and would hit either arm (see reply_path.py)
        gc.freeze()

    async def _pair(self) -> tuple[float, float]:
        mine = self._rng.choice(self.ours)
        took: dict[PlainTurns, float] = {}
        self._turns += 1
        for one in self._rng.sample((self.plain, mine), 2):
            took[one] = await one.turn(f"turn {self._turns}")
            if isinstance(one, OurTurns):  # durable before the next; its reading of memory may hang, and goes on
                await asyncio.to_thread(one.recorder.flush, 10)
        if self._turns % 10 == 0:
            for one in (self.plain, *self.ours):
                await one.trim()
        return took[self.plain], took[mine]

    async def talk(self, seconds: float) -> tuple[list[float], list[float]]:
        """Take turns for a while; returns milliseconds of the plain ones and of ours."""
        ends = time.monotonic() + seconds
        found: list[tuple[float, float]] = []
        while time.monotonic() < ends:
            found.append(await self._pair())
            await asyncio.sleep(PAUSE_S)
        return [p for p, _ in found], [o for _, o in found]

    async def end(self) -> None:
        await self.plain.close()
        for one in self.ours:
            await one.close()
            calls.finish(self.store, one.call, "bench")

    def kept(self) -> dict[str, object]:
        """What the store has of the calls."""
        with self.store.read() as connection:
            rows = connection.execute(select(turns.c.role, turns.c.text)).all()
        said = [r.text for r in rows if r.role == "assistant"]
        return {
            "replies_asked": self.replies,
            "replies_in_the_store": len(said),
            "other_words": [text for text in said if text != REPLY][:5],
            "turns_handed_over": sum(len(o.handed_over) for o in self.ours),
            "turns_in_the_store": sum(o.rows() for o in self.ours),
            "in_order": all(o.recorded() == o.handed_over for o in self.ours),
        }

    @property
    def journalled(self) -> int:
        """How many turns went to a journal so far, because the store would not take them."""
        return sum(o.recorder.figures.journalled for o in self.ours)

    @property
    def replies(self) -> int:
        """How many turns of ours were run, by how often the model was asked."""
        return sum(o.llm.calls for o in self.ours)


def in_letta(letta: RealLetta | Stub, store: Store, one: OurTurns) -> dict[str, int]:
    """The call's turns in Letta's database, by SQL, against those in the store."""
    with store.read() as connection:
        spoken = select(turns.c.seq).where(turns.c.call_id == one.call.id, turns.c.role.in_(["user", "assistant"]))
        wanted = [f"{one.call.id}#{seq}" for seq in connection.execute(spoken.order_by(turns.c.seq)).scalars()]
        of = select(letta_agents.c.agent_id).where(letta_agents.c.customer == one.call.customer)
        agent = str(connection.execute(of).scalar_one())
    there = [marker for _, marker, _, _ in letta.rows(agent)]
    once = list(dict.fromkeys(there))
    return {
        "turns": len(wanted),
        "lost": len(set(wanted) - set(there)),
        "doubled": len(there) - len(once),
        "foreign": len(set(there) - set(wanted)),
        "out_of_order": sum(a != b for a, b in zip([m for m in wanted if m in set(there)], once, strict=False)),
    }


def compared(letta: RealLetta | Stub, store: Store) -> list[str]:
    """What `voicectl sync verify` finds."""
    backend = LettaBackend(letta.url, letta.access.key, "http://127.0.0.1:1/v1")
    try:
        return [f"{d.row} {d.kind} {d.detail}" for d in verify(store, backend).differences]
    finally:
        backend.close()


async def arm(name: str, stalls_s: list[float], letta: RealLetta | Stub, rng: random.Random) -> dict[str, Any]:
    """One kind of stall, as often as wanted in the same calls, with a store and a syncer of its own."""
    home = Path(tempfile.mkdtemp(prefix="stalls-"))
    result: dict[str, Any] = {}
    with MoodyProxy(letta.access.port) as proxy, some_store(name, home) as cluster:
        line = Calls(home, rng)
        await line.open()
        with syncer(home, proxy.url, letta.access.key):
            empty = letta.number(MIRRORED)
            await asyncio.to_thread(until, lambda: "" if letta.number(MIRRORED) > empty else "nothing is mirrored", 90)
            for seconds in stalls_s:
                plain, ours = await line.talk(BEFORE_S)
                before = {"plain": spread(plain), "ours": spread(ours), "pairs": pairs(plain, ours)}
                journalled, there = line.journalled, letta.number(MIRRORED)
                with STALLS[name](home, letta, proxy, cluster):
                    plain, ours = await line.talk(seconds)
                    journalled, there = line.journalled - journalled, letta.number(MIRRORED) - there
                result[f"{seconds:g} s"] = found = {
                    "replies": len(ours),
                    "before": before,
                    "during": {"plain": spread(plain), "ours": spread(ours), "pairs": pairs(plain, ours)},
                    "turns_journalled": journalled,
                    "rows_reaching_letta": there,
                }
                print(f"{name} {seconds:g} s: {found}", file=sys.stderr, flush=True)
            await line.talk(AFTER_S)
            over = time.monotonic()
            await asyncio.to_thread(
                until, lambda: "journals wait" if list((home / "journal").glob("*.jsonl")) else "", 30
            )
            result["store"] = line.kept()
            await line.end()
            await asyncio.to_thread(until, lambda: not_mirrored(line.store), LEVEL_S)
        result["letta_level_after_s"] = round(time.monotonic() - over, 1)
        result["letta"] = [in_letta(letta, line.store, o) for o in line.ours]
        result["verify"] = compared(letta, line.store)
        line.store.close()
    result["as_promised"] = as_promised(result)
    return result


def as_promised(found: dict[str, Any]) -> bool:
    """Whether every reply came with its own words, and every turn is in the store and in Letta once and in order."""
    kept, there = found["store"], found["letta"]
    return (
        not kept["other_words"]
        and kept["replies_asked"] == kept["replies_in_the_store"]
        and kept["turns_handed_over"] == kept["turns_in_the_store"]
        and kept["in_order"]
        and not any(one[what] for one in there for what in ("lost", "doubled", "foreign", "out_of_order"))
        and not found["verify"]
    )


async def text(given: argparse.Namespace) -> dict[str, Any]:
    """All stalls on the text path, one after the other on one Letta."""
    rng = random.Random(given.seed)
    result: dict[str, Any] = {
        "seed": given.seed,
        "stub": given.stub,
        "cores": os.cpu_count(),
        "load_1_min": round(os.getloadavg()[0], 2),
    }
    with some_letta(stub=given.stub) as letta:
        for name in STALLS:
            if name in (given.only or STALLS):
                result[name] = await arm(name, given.seconds, letta, rng)
                print(f"{name}: as promised: {result[name]['as_promised']}", file=sys.stderr, flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=lambda t: [float(x) for x in t.split(",")], default=[5.0, 30.0, 60.0])
    parser.add_argument("--only", nargs="*", choices=list(STALLS), help="some kinds of stall")
    parser.add_argument("--stub", action="store_true", help="a stub of Letta, which needs no minute to start")
    parser.add_argument("--spoken", action="store_true", help="real calls by sound, with the store locked")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what we started ends with us
    with redirect_stdout(sys.stderr):  # what servers say at their start is no part of the document
        if given.spoken:
            from bench.stalls_spoken import spoken

            result = asyncio.run(spoken(given.only or list(STALLS), given.seconds))
        else:
            result = asyncio.run(text(given))
    print(json.dumps({"schema_version": 1, **result}, indent=1))
    sys.exit(0 if all(v["as_promised"] for v in result.values() if isinstance(v, dict)) else 1)


if __name__ == "__main__":
    main()
