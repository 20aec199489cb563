"""Leases: what a claim costs beside a bare write of the same database, and that no two ever hold a name.

    python bench/leases.py cost --seconds 60
    python bench/leases.py race --claims 100000 --processes 8
    python bench/leases.py cost --postgresql        (and race --postgresql)

Cost: 20 claims a second while 20 calls in other processes renew theirs once a second, and between two claims a bare
BEGIN IMMEDIATE, UPDATE, COMMIT on one row of the same database with the same pragmas. Race: see
tests/support/lease_race.py.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from tests.support.lease_race import doubles, race  # noqa: E402
from voicectl.memory.config import MemorySettings, load  # noqa: E402
from voicectl.memory.store.leases import LeaseState, open_leases  # noqa: E402

CLAIMS_S = 20
CALLS, HOLDERS = 20, 4


def keep(home: str, url: str | None, number: int, stop: Event) -> None:
    """A process that keeps its share of the calls alive."""
    leases = open_leases(load(MemorySettings, home=Path(home), **given(url)))
    share = CALLS // HOLDERS
    grants = [leases.claim(f"room:call-{number}-{n}", "job", 3, LeaseState.HELD) for n in range(share)]
    time.sleep(random.random())
    while not stop.is_set():
        for n, grant in enumerate(grants):
            grants[n] = leases.renew(grant, 3)
            time.sleep(1 / share)
    leases.close()


def given(url: str | None) -> dict[str, Any]:
    return {"database_url": url} if url else {}


def bare_write(home: Path, url: str | None) -> Callable[[], None]:
    if url:
        import psycopg

        remote = psycopg.connect(url, autocommit=True)
        remote.execute("CREATE SCHEMA bench")  # a table of ours beside the store would make it foreign
        remote.execute("CREATE TABLE bench.bare (id int primary key, n bigint)")
        remote.execute("INSERT INTO bench.bare VALUES (1, 0)")
        statements = ["BEGIN", "UPDATE bench.bare SET n = n + 1 WHERE id = 1", "COMMIT"]

        def write() -> None:
            for statement in statements:
                remote.execute(statement.encode())

        return write
    local = sqlite3.connect(home / "leases.db", isolation_level=None, timeout=0.8)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        local.execute(f"PRAGMA {pragma}")
    local.execute("CREATE TABLE bare (id integer primary key, n integer)")
    local.execute("INSERT INTO bare VALUES (1, 0)")

    def write_here() -> None:
        local.execute("BEGIN IMMEDIATE")
        local.execute("UPDATE bare SET n = n + 1 WHERE id = 1")
        local.execute("COMMIT")

    return write_here


def spread(values: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(values, n=100)
    return {"p50_ms": round(cuts[49], 3), "p99_ms": round(cuts[98], 3), "max_ms": round(max(values), 3)}


def cost(home: Path, url: str | None, seconds: float) -> dict[str, Any]:
    leases = open_leases(load(MemorySettings, home=home, **given(url)))
    bare = bare_write(home, url)
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    holders = [context.Process(target=keep, args=(str(home), url, n, stop)) for n in range(HOLDERS)]
    for process in holders:
        process.start()
    while len([r for r in leases.rows() if r.live]) < CALLS:
        time.sleep(0.05)
    claims: list[float] = []
    bares: list[float] = []
    try:
        begun = time.perf_counter()
        for number in range(int(seconds * CLAIMS_S)):
            for turn in (0, 1):
                wait = begun + (number + turn / 2) / CLAIMS_S - time.perf_counter()
                if wait > 0:
                    time.sleep(wait)
                at = time.perf_counter()
                if turn == number % 2:
                    grant = leases.claim(f"room:new-{number}", "bench", 15)
                    claims.append((time.perf_counter() - at) * 1000)
                    leases.release(grant)
                else:
                    bare()
                    bares.append((time.perf_counter() - at) * 1000)
    finally:
        stop.set()
        for process in holders:
            process.join()
        leases.close()
    ours, plain = spread(claims), spread(bares)
    return {
        "claims": len(claims),
        "claim": ours,
        "bare": plain,
        "p50_ratio": round(ours["p50_ms"] / plain["p50_ms"], 2),
        "p99_ratio": round(ours["p99_ms"] / plain["p99_ms"], 2),
    }


@contextlib.contextmanager
def place(postgresql: bool) -> Iterator[tuple[Path, str | None]]:
    with tempfile.TemporaryDirectory(prefix="leases-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        if not postgresql:
            yield home, None
            return
        from tests.support.postgres import Cluster

        with Cluster(Path(folder) / "cluster", fsync=True) as cluster:
            yield home, cluster.create("leases_bench")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("cost", "race"))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--claims", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 20))
    parser.add_argument("--postgresql", action="store_true")
    args = parser.parse_args()
    begun = time.perf_counter()
    with place(args.postgresql) as (home, url):
        if args.what == "cost":
            found = cost(home, url, args.seconds)
        else:
            grants, busy = race(home, url, processes=args.processes, claims=args.claims, seed=args.seed)
            wrong = doubles(grants)
            found = {"seed": args.seed, "claims": args.claims, "grants": len(grants), "busy": busy}
            found |= {"double_grants": len(wrong), "examples": wrong[:5]}
    found |= {"store": "postgresql" if args.postgresql else "sqlite", "took_s": round(time.perf_counter() - begun, 1)}
    print(json.dumps({"schema_version": 1, **found}, indent=1))
    sys.exit(1 if found.get("double_grants") else 0)


if __name__ == "__main__":
    main()
