"""Remembered, and not by a template: two calls a second apart, a name and a fact, on the real local model.

    python bench/remembered.py --pairs 20 --seed 1
    python bench/remembered.py --pairs 20 --seed 1 --letta-down

Draws names and facts by seed, places both calls through the real server with a token that has no data rights (only
audio can carry anything), transcribes the answers with an ear that is not the agent's, and asks the same question as
another customer. With --letta-down Letta is configured and refuses during all calls; then it is started, and its
database is compared with what was spoken. Starts its own installation; needs what `python -m tests.setup` fetches.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.installation import Installation  # noqa: E402
from tests.support.letta_server import RealLetta  # noqa: E402
from tests.support.mirror_proof import differences, not_mirrored  # noqa: E402
from tests.support.pairs import pairs  # noqa: E402
from tests.support.remembering import Customers, Outcome, with_letta_down  # noqa: E402
from tests.support.waiting import wait_for  # noqa: E402

MIRROR_S = 900.0
ROWS = "select count(*) from messages where role <> 'system' and not is_deleted and conversation_id is not null"


async def calls(customers: Customers, count: int, seed: int) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for pair in islice(pairs(seed), count):
        began = time.monotonic()
        outcomes.append(await customers.remembered(pair))
        print(f"{time.monotonic() - began:5.1f} s {outcomes[-1]}", file=sys.stderr, flush=True)
    return outcomes


def mirrored(installation: Installation, letta: RealLetta, customers: Customers) -> dict[str, Any]:
    """Start Letta, wait until it has everything, and compare."""
    store = installation.store()
    try:
        began = time.monotonic()
        letta.up()
        answered = time.monotonic()
        wait_for(lambda: not_mirrored(store), MIRROR_S)
        return {
            "calls_placed": len(customers.placed),
            "letta_answers_after_s": round(answered - began, 1),
            "then_level_after_s": round(time.monotonic() - answered, 1),
            "rows_in_letta": letta.number(ROWS),
            "differences": differences(letta, store, customers.placed),
        }
    finally:
        store.close()


@contextmanager
def without_letta(folder: Path) -> Iterator[tuple[Installation, None]]:
    with Installation(folder / "home", None) as installation:
        yield installation, None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--letta-down", action="store_true", help="Letta refuses during the calls and is then compared")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    with (with_letta_down if given.letta_down else without_letta)(folder) as (installation, letta):
        customers = Customers(installation)
        outcomes = asyncio.run(calls(customers, given.pairs, given.seed))
        mirror = mirrored(installation, letta, customers) if letta else None
    total = {
        "seed": given.seed,
        "pairs": len(outcomes),
        "letta_down_during_calls": given.letta_down,
        "greeted_by_name": sum(o.greeted_by_name for o in outcomes),
        "fact_heard": sum(o.fact_heard for o in outcomes),
        "told_to_a_stranger": sum(o.told_to_a_stranger for o in outcomes),
        "mirror": mirror,
        "outcomes": [asdict(o) for o in outcomes],
    }
    print(json.dumps(total, indent=1))


if __name__ == "__main__":
    main()
