"""Deep recall: words found in all past turns of one customer, whatever the number of others; and what the index costs.

    python bench/deep_recall.py --sizes 1000,100000
    python bench/deep_recall.py --sizes 1000,100000 --postgresql

Two calls of five turns a customer, written in an order in which nobody's rows lie together, the last ones in a
transaction each, as calls write them. A third of all turns holds the word that each customer asks for, half of the
questions hold a rarer word too. Each read asks every size for a customer drawn at random, one size after the other,
after all tables were read once. Append: single turns, one transaction each, into a store with the index and into one
without it, in turn. `rewritten_s` is what one `memory forget` holds up writers for, to leave no bytes behind.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import insert

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from voicectl.memory import traces  # noqa: E402
from voicectl.memory.calls import open_call  # noqa: E402
from voicectl.memory.config import MemorySettings, load  # noqa: E402
from voicectl.memory.search import search  # noqa: E402
from voicectl.memory.store.engine import Store, open_store  # noqa: E402
from voicectl.memory.store.schema import calls, customers, turns  # noqa: E402
from voicectl.memory.turns import Role, Turn, write_turn  # noqa: E402

CALLS, TURNS_A_CALL = 2, 5
COMMON = "order", "delivery", "pizza", "address", "table", "price", "parcel", "doctor", "school", "garden"
RARE = 20_000
ONE_BY_ONE = 2000  # turns at the end that are written in transactions of their own: an index in many pieces
BATCH = 20_000


def sentence(draw: random.Random) -> str:
    words = [f"word{draw.randrange(RARE)}x" for _ in range(6)]
    words += draw.sample(COMMON, 3)
    if draw.random() < 1 / 3:
        words.append("ordered")
    draw.shuffle(words)
    return " ".join(words)


def rows(size: int, draw: random.Random) -> Iterator[tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """Calls with their turns, a batch at a time."""
    order = [n for n in range(size) for _ in range(CALLS)]
    draw.shuffle(order)
    made: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for number, who in enumerate(order):
        call = {"id": f"c{number:016x}", "customer": f"user:{who}", "generation": 1, "room": f"r{number}", "desk": "a"}
        made[0].append({**call, "state": "ended", "fence": 1, "last_seq": TURNS_A_CALL, "started_ms": number * 60_000})
        for seq in range(1, TURNS_A_CALL + 1):
            said = {"call_id": call["id"], "seq": seq, "item_id": f"i{seq}", "role": ("assistant", "user")[seq % 2]}
            made[1].append({**said, "text": sentence(draw), "at_ms": number * 60_000 + seq * 1000})
        if len(made[0]) == BATCH:
            yield made
            made = ([], [])
    yield made


INDEX = "CREATE INDEX ix_turns_words ON turns USING gin (words) WITH (fastupdate = off)"  # as migration 0007 makes it


def fill(opened: Store, size: int, seed: int) -> None:
    store = Store(opened.url, answer_s=None)  # an index takes minutes
    draw = random.Random(seed)
    if not store.is_sqlite:
        with store.write() as connection:
            connection.exec_driver_sql("DROP INDEX ix_turns_words")
    with store.write() as connection:
        for first in range(0, size, BATCH):
            those = range(first, min(size, first + BATCH))
            connection.execute(insert(customers), [{"key": f"user:{n}", "created_ms": 0} for n in those])
    for some_calls, some_turns in rows(size, draw):
        if not some_calls:
            continue
        with store.write() as connection:
            connection.execute(insert(calls), some_calls)
            connection.execute(insert(turns), some_turns)
    if not store.is_sqlite:
        with store.write() as connection:
            connection.exec_driver_sql(INDEX)
    for number in range(ONE_BY_ONE):
        with store.write() as connection:
            said = {"call_id": f"c{draw.randrange(size * CALLS):016x}", "seq": 100 + number, "item_id": f"n{number}"}
            connection.execute(
                insert(turns), {**said, "role": "tool" if number % 2 else "user", "text": sentence(draw), "at_ms": 1}
            )
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE" if store.is_sqlite else "VACUUM ANALYZE")
    store.close()


@contextlib.contextmanager
def opened(places: dict[str, Path], postgresql: bool, at: Path) -> Iterator[dict[str, Store]]:
    with contextlib.ExitStack() as stack:
        cluster = None
        if postgresql:
            from tests.support.postgres import Cluster

            cluster = stack.enter_context(Cluster(at / "cluster", fsync=True))
        stores = {}
        for name, home in places.items():
            given = {"database_url": cluster.create(name)} if cluster else {}
            stores[name] = open_store(load(MemorySettings, home=home, **given))
            stack.callback(stores[name].close)
        yield stores


def ask(store: Store, size: int, draw: random.Random, took: list[float], cpu: list[float]) -> bool:
    """One question; whether anything was found: not one customer in a thousand never said the word."""
    rare = f" the word{draw.randrange(RARE)}x" if draw.random() < 0.5 else ""
    who = f"user:{draw.randrange(size)}"
    began, worked = time.perf_counter(), time.thread_time()
    found = search(store, who, f"what did I order{rare} last time?")
    took.append((time.perf_counter() - began) * 1000)
    cpu.append((time.thread_time() - worked) * 1000)
    return bool(found)


def unindexed(store: Store) -> None:
    """Take the index's triggers away."""
    drops = ("turn_index_said", "turn_index_gone") if store.is_sqlite else ("turn_words_said ON turns",)
    with store.write() as connection:
        for name in drops:
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
        if not store.is_sqlite:
            connection.exec_driver_sql("DROP INDEX ix_turns_words")


def append(stores: dict[str, Store], count: int, draw: random.Random) -> dict[str, Any]:
    """Milliseconds of one turn, one transaction, with and without the index, in turn."""
    unindexed(stores["without"])
    live = {n: open_call(s, customer="user:1", room="bench", desk="a", fence=1) for n, s in stores.items()}
    took: dict[str, list[float]] = {n: [] for n in stores}
    for number in range(count + 50):
        said = sentence(draw)
        for name in sorted(stores, reverse=bool(number % 2)):
            began = time.perf_counter()
            with stores[name].write() as connection:
                write_turn(connection, live[name], Turn(f"i{number}", (Role.USER, Role.ASSISTANT)[number % 2], said, 1))
            if number >= 50:
                took[name].append((time.perf_counter() - began) * 1000)
    return {
        **{f"{n}_turns_a_second": round(1000 * len(v) / sum(v)) for n, v in took.items()},
        **{f"{n}_ms": spread(v) for n, v in took.items()},
        "median_difference_ms": round(
            statistics.median(a - b for a, b in zip(took["with"], took["without"], strict=True)), 3
        ),
    }


def spread(values: list[float]) -> dict[str, float]:
    cut = statistics.quantiles(values, n=100)
    return {"p50": round(cut[49], 3), "p99": round(cut[98], 3), "max": round(max(values), 1)}


def rewritten(store: Store) -> float:
    began = time.perf_counter()
    with store.write() as connection:
        traces.erase(connection, "user:0")
    traces.rewrite(store)
    return round(time.perf_counter() - began, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1000,100000")
    parser.add_argument("--reads", type=int, default=1000)
    parser.add_argument("--appends", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--postgresql", action="store_true")
    args = parser.parse_args()
    sizes = [int(s) for s in args.sizes.split(",")]
    draw = random.Random(args.seed)
    at = Path(tempfile.mkdtemp(prefix="deep-recall-"))
    names = {f"customers_{s}": s for s in sizes}
    try:
        with opened({n: at / n for n in [*names, "with", "without"]}, args.postgresql, at) as stores:
            for name, size in names.items():
                began = time.perf_counter()
                fill(stores[name], size, args.seed)
                print(f"{size} customers in {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
            took: dict[int, list[float]] = {s: [] for s in sizes}
            cpu: dict[int, list[float]] = {s: [] for s in sizes}
            empty = 0
            for number in range(2 * args.reads):  # the first half warms
                if number == args.reads:
                    for size in sizes:
                        took[size].clear()
                        cpu[size].clear()
                for name, size in names.items():
                    empty += not ask(stores[name], size, draw, took[size], cpu[size])
            assert empty < args.reads * len(sizes) / 50, f"{empty} customers said nothing about it"
            appended = append({n: stores[n] for n in ("with", "without")}, args.appends, draw)
            gone = {s: rewritten(stores[n]) for n, s in names.items()}
    finally:
        shutil.rmtree(at, ignore_errors=True)
    figures = {
        "schema_version": 1,
        "store": "postgresql" if args.postgresql else "sqlite",
        "seed": args.seed,
        "reads": args.reads,
        "sizes": {
            str(s): {
                "ms": spread(took[s]),
                "cpu_ms": spread(cpu[s]),
                "p50_growth": round(statistics.median(took[s]) / statistics.median(took[sizes[0]]), 2),
                "rewritten_s": gone[s],
            }
            for s in sizes
        },
        "append": appended,
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
