"""How long until a turn is durable, at the pace of twenty calls: 16 turns a second, at random moments.

Twenty recorders, each with its own connection to one store, as twenty jobs have; here they are threads of one process,
so that only the store and the disk are shared as they would be, and Python's lock is shared more than it would be.
"""

from __future__ import annotations

import random
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import func, select

from bench.figures import spread
from bench.moody_letta import MoodyLetta, syncer, until
from voicectl.memory import calls
from voicectl.memory.config import MemorySettings, load
from voicectl.memory.recorder import LATE_MS, Recorder, Role, Turn
from voicectl.memory.store.engine import open_store
from voicectl.memory.store.schema import turns

CALLS = 20
TURNS_A_SECOND = 16.0
WORDS = "I would like to know when my order arrives, please. " * 2


def paced(count: int, seed: int, *, mirrored: bool) -> dict[str, object]:
    """Hand over turns at random moments; returns how long each took until it was durable.

    Args:
        count: Turns in all.
        seed: Of the moments and of who speaks.
        mirrored: A syncer mirrors them meanwhile.
    """
    rng = random.Random(seed)
    home = Path(tempfile.mkdtemp(prefix="bench-"))
    store = open_store(load(MemorySettings, home=home))
    recorders = [
        Recorder(
            store,
            calls.open_call(store, customer=f"user:{n}", room=f"room-{n}", desk="assistant", fence=1),
            journal_dir=home / "journal",
        )
        for n in range(CALLS)
    ]

    def durable(recorder: Recorder) -> float:
        recorder.flush(10)
        return recorder.figures.last_ms

    with ExitStack() as stack:
        letta = stack.enter_context(MoodyLetta()) if mirrored else None
        if letta is not None:
            stack.enter_context(syncer(home, letta.url))
            recorders[0].add(Turn("first", Role.USER, "hello", at_ms=1))
            until(lambda: "" if letta.markers() else "nothing is mirrored")
        for number, recorder in enumerate(recorders):
            recorder.add(Turn(f"warm-{number}", Role.USER, "hello", at_ms=1))
            recorder.flush(10)
        pool = stack.enter_context(ThreadPoolExecutor(CALLS))
        waiting: list[Future[float]] = []
        began = due = time.monotonic()
        for number in range(count):
            due += rng.expovariate(TURNS_A_SECOND)
            time.sleep(max(0.0, due - time.monotonic()))
            recorder = rng.choice(recorders)
            recorder.add(Turn(f"item-{number}", rng.choice((Role.USER, Role.ASSISTANT)), WORDS, at_ms=number))
            waiting.append(pool.submit(durable, recorder))
        took = [f.result() for f in waiting]
        lasted_s = time.monotonic() - began
        in_letta = len(letta.markers()) if letta is not None else None
    for recorder in recorders:
        recorder.close()
    with store.read() as connection:
        found = connection.execute(select(func.count()).select_from(turns)).scalar_one()
    store.close()
    return {
        "calls": CALLS,
        "turns_a_second": round(count / lasted_s, 1),
        "event_to_durable": spread(took),
        "later_than_50_ms": sum(ms > LATE_MS for ms in took),
        "journalled": sum(r.figures.journalled for r in recorders),
        "turns_in_the_store": {"expected": count + CALLS + int(mirrored), "found": found},
        "mirrored_meanwhile": in_letta,
    }
