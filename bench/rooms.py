"""One voice in every room, whatever is injected, killed, frozen or restarted: measured by sound, on a real server.

    python bench/rooms.py all                          (everything at full count: about 80 minutes)
    python bench/rooms.py injections --count 200 --bystanders 50 --seed 1
    python bench/rooms.py job-kills --count 100
    python bench/rooms.py freeze --count 20
    python bench/rooms.py worker-kills --count 20 --frozen 5
    python bench/rooms.py server-restarts --count 10
    python bench/rooms.py new-rooms --count 20
    python bench/rooms.py burst --count 2
    python bench/rooms.py capacity
    python bench/rooms.py saturated --minutes 10
    python bench/rooms.py stalls                       (5, 30 and 60 s)
    python bench/rooms.py effects --count 25

Scripted engines on loopback, so that a job is light and the machine is not the limit. Prints JSON with the seed; exits
with 1 where something was not as promised. What is done: room_injections.py, room_kills.py, room_load.py,
room_effects.py.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.room_effects import effects  # noqa: E402
from bench.room_house import House, house  # noqa: E402
from bench.room_injections import injections  # noqa: E402
from bench.room_kills import freezes, job_kills, new_rooms, server_restarts, worker_kills  # noqa: E402
from bench.room_load import bursts, capacity, saturated, stalls  # noqa: E402
from bench.spoken_path import plain_ready, plain_worker  # noqa: E402
from voicectl.voice.rooms.admin import room_admin  # noqa: E402

FULL = {
    "injections": 200,
    "bystanders": 50,
    "job-kills": 100,
    "freeze": 20,
    "worker-kills": 20,
    "frozen": 5,
    "server-restarts": 10,
    "new-rooms": 20,
    "burst": 3,
    "capacity": 2,
    "saturated": 1,
    "stalls": 3,
    "effects": 25,
}
SHORT = {**dict.fromkeys(FULL, 1), "injections": 20, "bystanders": 3, "job-kills": 10, "freeze": 3, "worker-kills": 3}
SHORT |= {"server-restarts": 2, "new-rooms": 4}
WHAT = [name for name in FULL if name not in ("bystanders", "frozen")]
TWO_MACHINES = ("worker-kills",)
STALLS_S = [5.0, 30.0, 60.0]
LINES = 10  # what one worker of ours carries by default with hosted engines


async def part(what: str, here: House, given: argparse.Namespace, counts: dict[str, int]) -> dict[str, Any]:
    """One part in a house that is up."""
    count = counts[what]
    async with room_admin(here.first.settings) as admin:
        if what == "injections":
            stranger = plain_worker(here.first, here.engines) if given.stranger else nullcontext()
            with stranger:
                if given.stranger:
                    await plain_ready(here.first)
                return await injections(here, admin, count, counts["bystanders"], given.seed, plain=given.stranger)
        if what == "worker-kills":
            return await worker_kills(here, admin, count, counts["frozen"])
        if what == "burst":
            return await bursts(here, admin, count, LINES)
        if what == "capacity":
            return await capacity(here, admin, count, LINES, LINES // 2)
        if what == "saturated":
            return await saturated(here, admin, LINES, given.minutes * 60)
        if what == "stalls":
            return await stalls(here, admin, LINES // 2, STALLS_S[:count])
        if what == "effects":
            return await effects(here, admin, count)
        work = {"job-kills": job_kills, "freeze": freezes, "server-restarts": server_restarts, "new-rooms": new_rooms}
        return await work[what](here, admin, count)


def run(given: argparse.Namespace) -> dict[str, Any]:
    """The parts that were asked for."""
    counts = dict(SHORT if given.short else FULL)
    if given.count is not None:
        counts[given.what] = given.count
    counts["bystanders"] = counts["bystanders"] if given.bystanders is None else given.bystanders
    counts["frozen"] = counts["frozen"] if given.frozen is None else given.frozen
    found: dict[str, Any] = {"seed": given.seed, "cores": os.cpu_count(), "load_1_min": round(os.getloadavg()[0], 2)}
    for what in WHAT if given.what == "all" else [given.what]:
        with house(machines=2 if what in TWO_MACHINES else 1, settings={"VOICE_CAPACITY": str(LINES)}) as here:
            found[what] = asyncio.run(part(what, here, given, counts))
            print(f"{what}: {found[what]}", file=sys.stderr, flush=True)
    found["as_promised"] = all(v["as_promised"] for v in found.values() if isinstance(v, dict))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["all", *WHAT])
    parser.add_argument("--count", type=int, help="how often; bursts, and rounds of capacity")
    parser.add_argument("--bystanders", type=int, help="must-not-evict cases between the injections")
    parser.add_argument("--frozen", type=int, help="whole workers that are stopped, besides those that are killed")
    parser.add_argument("--minutes", type=float, default=10.0, help="of saturation")
    parser.add_argument("--stranger", action="store_true", help="a real worker of somebody else is a rival, too")
    parser.add_argument("--short", action="store_true", help="the counts of the test suite")
    parser.add_argument("--seed", type=int, default=1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that everything ends with us
    logging.getLogger("livekit").setLevel(logging.CRITICAL)  # it reports every ordinary end as an error
    found = run(parser.parse_args())
    print(json.dumps(found, indent=1))
    sys.exit(not found["as_promised"])


if __name__ == "__main__":
    main()
