"""Call back a second after hanging up, while a memory step is due: is the first answer later than without one?

    python bench/call_back.py --pairs 10 --seed 1

The small local model answers calls and takes memory steps, so the two could be in each other's way. In each pair both
arms are placed, in an order drawn by seed: `due` (the steps of the call before and of three other calls are due) and
`none` (nothing is). A third arm, `running`, calls in the moment in which a step is under way. Seconds from the end of
the caller's question to the first audible frame of the answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import statistics
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from sqlalchemy import select, update

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.installation import Installation  # noqa: E402
from tests.support.pairs import Pair, pairs  # noqa: E402
from tests.support.remembering import BETWEEN_S, Customers  # noqa: E402
from voicectl.memory.calls import finish, now_ms, open_call  # noqa: E402
from voicectl.memory.learning.states import StepState  # noqa: E402
from voicectl.memory.recorder import Role, Turn, write_turn  # noqa: E402
from voicectl.memory.store.engine import Store  # noqa: E402
from voicectl.memory.store.schema import calls, memory_steps  # noqa: E402

OTHERS = 3
UNTIL_RUNNING_S = 60.0


def others_ended(store: Store) -> None:
    """Calls of other customers that have something to teach."""
    for _ in range(OTHERS):
        call = open_call(store, customer=f"user:{secrets.token_hex(4)}", room=secrets.token_hex(4), desk="d", fence=1)
        with store.write() as connection:
            for role, text in ((Role.USER, "I moved to Leeds and I play the violin"), (Role.ASSISTANT, "I see.")):
                write_turn(connection, call, Turn(secrets.token_hex(4), role, text, now_ms()))
        finish(store, call, "hung up")


def nothing_due(store: Store) -> None:
    with store.write() as connection:
        connection.execute(update(calls).values(learnt=1))


async def until_running(store: Store) -> bool:
    deadline = time.monotonic() + UNTIL_RUNNING_S
    while time.monotonic() < deadline:
        with store.read() as connection:
            running = select(memory_steps.c.call_id).where(memory_steps.c.state == StepState.RUNNING)
            if connection.execute(running).first() is not None:
                return True
        await asyncio.sleep(0.1)
    return False


async def arm(name: str, customers: Customers, store: Store, pair: Pair) -> float:
    """Seconds until the question of the second call is answered."""
    nothing_due(store)
    customer = f"user:{secrets.token_hex(4)}"
    await customers.call(customer, pair.told)
    if name == "none":
        nothing_due(store)
    else:
        others_ended(store)
    if name == "running" and not await until_running(store):
        raise TimeoutError("no memory step began")
    if name != "running":
        await asyncio.sleep(BETWEEN_S)
    (_, _), (_, seconds) = await customers.call(customer, pair.question)
    return seconds


async def measure(customers: Customers, store: Store, count: int, seed: int) -> dict[str, list[float]]:
    draw = random.Random(seed)
    took: dict[str, list[float]] = {"due": [], "none": [], "running": []}
    await arm("none", customers, store, next(iter(pairs(seed + 1))))  # warm
    for pair in islice(pairs(seed), count):
        for name in draw.sample(sorted(took), len(took)):
            took[name].append(await arm(name, customers, store, pair))
        print({k: round(v[-1], 2) for k, v in took.items()}, file=sys.stderr, flush=True)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="call-back-"))
    with Installation(folder / "home", None, {"MEMORY_STEP": "auto"}) as installation:
        installation.start("syncer")
        store = installation.store()
        took = asyncio.run(measure(Customers(installation), store, given.pairs, given.seed))
        with store.read() as connection:
            steps = len(connection.execute(select(memory_steps.c.call_id)).all())
        store.close()
        installation.kill("syncer")
    median = {name: statistics.median(values) for name, values in took.items()}
    result = {
        "schema_version": 1,
        "seed": given.seed,
        "pairs": given.pairs,
        "median_s": {name: round(value, 3) for name, value in median.items()},
        "due_of_none": round(median["due"] / median["none"], 3),
        "running_of_none": round(median["running"] / median["none"], 3),
        "steps_begun": steps,
        "seconds": {name: [round(v, 2) for v in values] for name, values in took.items()},
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
