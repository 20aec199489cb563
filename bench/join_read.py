"""Joining a call is one read: its time hardly grows with the number of customers.

    python bench/join_read.py --sizes 1000,100000,1000000
    python bench/join_read.py --sizes 1000,100000 --postgresql

Ten turns, two calls and four lines of profile a customer, written in an order in which nobody's rows lie together. Each
run asks every size for customers drawn at random, one size after the other, so that a slow moment of the machine meets
all of them. Warm means that the tables were read once; cold, that the system was told to forget them. SQLite needs
about 3.5 GB of disk for a million customers (`--at`), and keeps it only with `--keep`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.engine import make_url

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from voicectl.memory import recall  # noqa: E402
from voicectl.memory.config import MemorySettings, load  # noqa: E402
from voicectl.memory.store.engine import Store, open_store  # noqa: E402

STRIDE = 7_368_787  # a prime: customers' rows are written in an order of its own
CALLS, TURNS_A_CALL, LINES = 2, 5, 4
COLD_READS = 50

RANGE = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {last})"
WHO = f"'user:' || ((n.i * CAST({STRIDE} AS BIGINT)) % {{n}})"


def statements(customers: int, random_id: str) -> Iterator[str]:
    """SQL that both databases take."""
    numbers = RANGE.format(last=customers - 1)
    who = WHO.format(n=customers)
    yield f"INSERT INTO customers (key, generation, created_ms) {numbers} SELECT {who}, 1, 0 FROM n"
    for number in range(CALLS):
        yield (
            "INSERT INTO calls (id, customer, generation, room, desk, state, fence, last_seq, started_ms) "
            f"{numbers} SELECT {random_id}, {who}, 1, 'room-' || n.i, 'assistant', 'ended', 1, {TURNS_A_CALL}, "
            f"{number} * 1000000000 + n.i FROM n"
        )
    yield (
        "INSERT INTO turns (call_id, seq, item_id, role, text, at_ms) "
        f"WITH RECURSIVE k(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM k WHERE i < {TURNS_A_CALL}) "
        "SELECT c.id, k.i, 'item_' || k.i || '_' || c.id, CASE k.i % 2 WHEN 1 THEN 'user' ELSE 'assistant' END, "
        "'what was said in turn ' || k.i || ' of ' || c.id || ', about as long as a sentence is', c.started_ms + k.i "
        "FROM calls c CROSS JOIN k"
    )
    for number in range(LINES):
        yield (
            "INSERT INTO profile_ops (customer, generation, block, op, line, source, at_ms) "
            f"{numbers} SELECT {who}, 1, 'profile', 'add', 'fact number {number} of this customer', 'tool', 1 FROM n"
        )
    yield (
        "INSERT INTO profile_lines (customer, block, position, line, op_id) "
        "SELECT customer, block, id, line, id FROM profile_ops"
    )


def fill_sqlite(path: Path, customers: int) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("synchronous=OFF", "journal_mode=OFF", "cache_size=-4000000", "foreign_keys=OFF"):
        connection.execute(f"PRAGMA {pragma}")
    for statement in statements(customers, "'c' || lower(hex(randomblob(8)))"):
        connection.execute("BEGIN")
        connection.execute(statement)
        connection.execute("COMMIT")
    connection.execute("ANALYZE")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()


def fill_postgresql(opened: Store, customers: int) -> None:
    store = Store(opened.url, answer_s=None)  # a statement may take minutes here
    with store.engine.connect() as connection:
        connection.execute(text("SET synchronous_commit = off"))
        for statement in statements(customers, "'c' || substr(md5(random()::text || n.i), 1, 16)"):
            connection.execute(text(statement))
        connection.commit()
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    store.close()


@contextlib.contextmanager
def databases(sizes: list[int], at: Path, postgresql: bool) -> Iterator[dict[int, Store]]:
    with contextlib.ExitStack() as stack:
        cluster = None
        if postgresql:
            from tests.support.postgres import Cluster

            cluster = stack.enter_context(Cluster(at / "cluster"))
        stores: dict[int, Store] = {}
        for size in sizes:
            began = time.perf_counter()
            home = at / f"customers-{size}"
            url = make_url(cluster.create(f"customers_{size}")) if cluster else None
            given = {"database_url": url.render_as_string(hide_password=False)} if url else {}
            found = home.exists()
            store = open_store(load(MemorySettings, home=home, **given))
            if cluster:
                fill_postgresql(store, size)
            elif not found:
                store.close()
                fill_sqlite(home / "memory.db", size)
                store = open_store(load(MemorySettings, home=home))
            stores[size] = store
            stack.callback(store.close)
            print(f"{size} customers in {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        yield stores


def read_ms(store: Store, customer: int, cpu: list[float] | None = None) -> float:
    """Milliseconds of one read; into `cpu` what of them was work of ours, whatever else the machine did."""
    began, worked = time.perf_counter(), time.thread_time()
    known = recall.read(store, f"user:{customer}")
    took = (time.perf_counter() - began) * 1000
    if cpu is not None:
        cpu.append((time.thread_time() - worked) * 1000)
    assert len(known.tail) == CALLS * TURNS_A_CALL, "a customer without turns"
    assert len(known.lines) == LINES, "a customer without lines"
    return took


def cold_ms(store: Store, customers: list[int]) -> list[float]:
    """Reads with nothing of the database in memory; SQLite only, because the server's cache is not ours to empty."""
    path = Path(str(store.url.database))
    found = []
    for customer in customers:
        store.close()
        for name in (path, path.with_name(f"{path.name}-wal")):
            if name.exists():
                fd = os.open(name, os.O_RDONLY)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(fd)
        found.append(read_ms(store, customer))
    return found


def warm(store: Store, customers: list[int]) -> None:
    if store.is_sqlite:
        with Path(str(store.url.database)).open("rb") as f:
            while f.read(1 << 24):
                pass
    for customer in customers:
        read_ms(store, customer)


def at(values: list[float], share: float) -> float:
    return round(sorted(values)[min(len(values) - 1, int(len(values) * share))], 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1000,100000")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--reads", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--at", type=Path, help="where to make the databases; there already: used again")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--postgresql", action="store_true")
    args = parser.parse_args()
    sizes = [int(s) for s in args.sizes.split(",")]
    draw = random.Random(args.seed)
    place = args.at or Path(tempfile.mkdtemp(prefix="join-"))
    place.mkdir(parents=True, exist_ok=True)
    try:
        with databases(sizes, place, args.postgresql) as stores:
            asked = {s: [draw.randrange(s) for _ in range(args.reads)] for s in sizes}
            cold = {} if args.postgresql else {s: cold_ms(stores[s], asked[s][:COLD_READS]) for s in sizes}
            for size in sizes:
                warm(stores[size], asked[size])
            took: dict[int, list[list[float]]] = {s: [] for s in sizes}
            cpu: dict[int, list[float]] = {s: [] for s in sizes}
            for _ in range(args.runs):
                run: dict[int, list[float]] = {s: [] for s in sizes}
                for number in range(args.reads):
                    for size in sizes:  # one after the other, read by read
                        run[size].append(read_ms(stores[size], asked[size][number], cpu[size]))
                for size in sizes:
                    took[size].append(run[size])
    finally:
        if not args.keep:
            shutil.rmtree(place, ignore_errors=True)
    medians = {s: [statistics.median(r) for r in took[s]] for s in sizes}
    small = sizes[0]
    print(
        json.dumps(
            {
                "schema_version": 1,
                "store": "postgresql" if args.postgresql else "sqlite",
                "seed": args.seed,
                "runs": args.runs,
                "reads": args.reads,
                "sizes": {
                    str(s): {
                        "p50_ms": round(statistics.median(medians[s]), 3),
                        "p99_ms": at([v for r in took[s] for v in r], 0.99),
                        "worst_run_p99_ms": max(at(r, 0.99) for r in took[s]),
                        "cpu_p50_ms": at(cpu[s], 0.5),
                        "cpu_p99_ms": at(cpu[s], 0.99),
                        "p50_growth": round(
                            statistics.median(m / b for m, b in zip(medians[s], medians[small], strict=True)), 3
                        ),
                        **({"cold_p50_ms": at(cold[s], 0.5), "cold_max_ms": at(cold[s], 1)} if cold else {}),
                    }
                    for s in sizes
                },
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
