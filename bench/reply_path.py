"""Not slower: what our part of a call costs on the reply path, against a plain agent in the same run.

    python bench/reply_path.py --turns 1000 --seed 1
    python bench/reply_path.py --only "letta hung" --fault-turns 200

Text path, a language model that answers at once, both arms interleaved turn by turn, in an order drawn by seed. Ours
records every turn into a real store and keeps the prompt current, as MemoryCall does. Then the same with a part of
memory broken: every reply must come all the same, and every turn must be in the store afterwards. Last, turns paced as
twenty calls produce them: how long from the framework's event until a turn is durable.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.figures import pairs, spread  # noqa: E402
from bench.moody_letta import MoodyLetta, Syncer, syncer, until  # noqa: E402
from bench.our_turns import OurTurns  # noqa: E402
from bench.paced import paced  # noqa: E402
from bench.plain_turns import PlainTurns  # noqa: E402

WARM_UP = 20
NOTHING_LISTENS = "http://127.0.0.1:9"  # the discard port; refused at once
PROMISED_MS = 5.0
TWO_PLAIN = "two plain agents"

Fault = Callable[[OurTurns, Path], AbstractContextManager[None]]


async def interleaved(
    plain: PlainTurns, ours: PlainTurns, count: int, rng: random.Random, go_on: Callable[[], bool] = lambda: True
) -> tuple[list[float], list[float]]:
    """Run pairs of turns; returns milliseconds of the plain ones and of ours."""
    took: dict[PlainTurns, list[float]] = {plain: [], ours: []}
    for number in range(count):
        if not go_on():
            break
        for arm in rng.sample((plain, ours), 2):
            took[arm].append(await arm.turn(f"turn {number}"))
            await arm.settled()
        if number % 10 == 9:
            await plain.trim()
            await ours.trim()
    return took[plain], took[ours]


async def warm_up(plain: PlainTurns, ours: PlainTurns, rng: random.Random) -> None:
    """First turns, which do not count; then what Python has loaded so far is left out of its full collections.

    Those take 110-170 ms here, one in some 500 turns, and hit either arm (measured with gc.callbacks).
    """
    await interleaved(plain, ours, WARM_UP, rng)
    gc.collect()
    gc.freeze()


@contextmanager
def healthy(_ours: OurTurns, _home: Path) -> Iterator[None]:
    yield


@contextmanager
def store_locked(ours: OurTurns, _home: Path) -> Iterator[None]:
    with ours.store.write():  # nobody else can write while this block lasts
        yield


@contextmanager
def mirroring(ours: OurTurns, home: Path, mood: str = "ok") -> Iterator[tuple[MoodyLetta, Syncer]]:
    """A syncer at work, Letta well until now; then the mood."""
    with MoodyLetta() as letta, syncer(home, letta.url) as running:
        until(lambda: "" if len(letta.markers()) >= ours.rows() - 1 else "nothing is mirrored")  # all but the hand-off
        letta.mood = mood
        before = letta.asked
        if mood != "ok":
            until(lambda: "" if letta.asked > before else "the syncer asks nothing")
        yield letta, running


@contextmanager
def syncer_at_work(ours: OurTurns, home: Path) -> Iterator[None]:
    with mirroring(ours, home):
        yield


@contextmanager
def syncer_stopped(ours: OurTurns, home: Path) -> Iterator[None]:
    with mirroring(ours, home) as (_, running):
        running.stop()
        until(lambda: "" if running.stopped else "the syncer is not stopped")
        yield
        if not running.stopped:
            raise RuntimeError("the syncer was not stopped to the end")


@contextmanager
def syncer_stopped_in_a_write(ours: OurTurns, home: Path) -> Iterator[None]:
    with mirroring(ours, home) as (_, running):
        running.stop_in_a_write()  # the first turns give it something to write
        yield
        if not running.stopped:
            raise RuntimeError("the syncer was not stopped to the end")
        running.go_on()


@contextmanager
def letta_hung(ours: OurTurns, home: Path) -> Iterator[None]:
    with mirroring(ours, home, "hung"):
        yield


@contextmanager
def letta_failing(ours: OurTurns, home: Path) -> Iterator[None]:
    with mirroring(ours, home, "500"):
        yield


@contextmanager
def letta_refused(_ours: OurTurns, home: Path) -> Iterator[None]:
    with syncer(home, NOTHING_LISTENS):
        until(lambda: "" if "does not answer" in (home / "syncer.log").read_text() else "no warning of the syncer")
        yield


FAULTS: dict[str, Fault] = {
    "store locked 5 s": store_locked,
    "syncer at work": syncer_at_work,
    "syncer stopped": syncer_stopped,
    "syncer stopped in a write": syncer_stopped_in_a_write,
    "letta hung": letta_hung,
    "letta 500": letta_failing,
    "letta refused": letta_refused,
}


async def two_plain_agents(turns: int, rng: random.Random) -> dict[str, object]:
    """What this machine does to a pair by itself: the floor under the other figures."""
    one, other = PlainTurns(), PlainTurns()
    await one.open()
    await other.open()
    await warm_up(one, other, rng)
    a, b = await interleaved(one, other, turns, rng)
    await one.close()
    await other.close()
    return {"turns_each": len(b), "plain": spread(a), "pairs": pairs(a, b), "within_5_ms_of_its_pair": within(a, b)}


def within(a: list[float], b: list[float]) -> str:
    return f"{sum(abs(y - x) < PROMISED_MS for x, y in zip(a, b, strict=True))} of {len(b)}"


async def arm(name: str, fault: Fault, turns: int, rng: random.Random) -> dict[str, object]:
    """One fault with a store, a call and a syncer of its own."""
    home = Path(tempfile.mkdtemp(prefix="bench-"))
    plain, ours = PlainTurns(), OurTurns(home)
    await plain.open()
    await ours.open()
    await warm_up(plain, ours, rng)
    ours.ours_ms.clear()
    asked = plain.llm.calls, ours.llm.calls
    with fault(ours, home):
        began = time.monotonic()
        locked = name == "store locked 5 s"
        a, b = await interleaved(
            plain, ours, 100_000 if locked else turns, rng, lambda: not locked or time.monotonic() - began < 5
        )
        took_s = time.monotonic() - began
    calls_a, calls_b = plain.llm.calls - asked[0], ours.llm.calls - asked[1]
    await asyncio.to_thread(until, lambda: "" if ours.rows() >= len(set(ours.handed_over)) else "turns are missing")
    figures = ours.recorder.figures
    result: dict[str, object] = {
        "turns_each": len(b),
        "seconds": round(took_s, 1),
        "plain": spread(a),
        "ours": spread(b),
        "pairs": pairs(a, b),
        "within_5_ms_of_its_pair": within(a, b),
        "our_own_span_per_event": spread(ours.ours_ms),
        "model_calls_a_turn": {"plain": calls_a / len(a), "ours": calls_b / len(b)},
        "journalled": figures.journalled,
        "turns_in_the_store": {
            "expected": 2 * (WARM_UP + len(b)),  # user and assistant of each turn
            "found": ours.rows(),
            "in_order": ours.recorded() == ours.handed_over,
        },
    }
    await plain.close()
    await ours.close()
    return result


async def run(given: argparse.Namespace) -> dict[str, object]:
    rng = random.Random(given.seed)
    result: dict[str, object] = {
        "seed": given.seed,
        "cores": os.cpu_count(),
        "load_1_min": round(os.getloadavg()[0], 2),
    }
    wanted = {"healthy": healthy, **FAULTS}
    if given.only in ("", TWO_PLAIN):
        result[TWO_PLAIN] = await two_plain_agents(given.turns, rng)
    for name, fault in wanted.items():
        if given.only in ("", name):
            result[name] = await arm(name, fault, given.turns if name == "healthy" else given.fault_turns, rng)
            print(f"{name}: {result[name]['pairs']}", file=sys.stderr)  # type: ignore[index]
    for name, mirrored in (("paced", False), ("paced, syncer at work", True)):
        if given.only in ("", name):
            result[name] = await asyncio.to_thread(paced, given.paced_turns, given.seed, mirrored=mirrored)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=1000, help="turns of each arm with everything healthy")
    parser.add_argument("--fault-turns", type=int, default=300, help="turns of each arm with one part broken")
    parser.add_argument("--paced-turns", type=int, default=960, help="turns of the paced arms, 16 a second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="one arm by its name")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that syncers end with us
    print(json.dumps(asyncio.run(run(parser.parse_args())), indent=1))


if __name__ == "__main__":
    main()
