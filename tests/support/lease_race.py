"""Processes that claim the same few names as fast as they can, and a check of what each believed to hold, and when.

Every grant is logged by who got it, with the span of time in which it was certainly valid: from the answer of the claim
to just before the release, or to the time to live after the last renewal was asked for. Two spans of one name that
overlap, or a fence seen twice, are a double grant.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from voicectl.memory.config import MemorySettings, load
from voicectl.memory.errors import FencedOut, StoreUnavailable
from voicectl.memory.store.leases import LeaseHeld, open_leases

NAMES = ("room:a", "customer:b", "room:c")
TTL_S = 0.05  # so short that leases run out under their owners too


@dataclass(frozen=True)
class Held:
    """A grant and the span in which its owner could rely on it."""

    name: str
    fence: int
    nonce: str
    owner: str
    since: float
    until: float


def one(home: str, url: str | None, number: int, claims: int, seed: int) -> None:
    """One process: claim, renew, release or forget; its log goes to `home/race-<number>.jsonl`."""
    leases = open_leases(load(MemorySettings, home=Path(home), **({"database_url": url} if url else {})))
    draw = random.Random(seed * 1000 + number)
    owner = f"p{number}"
    busy = 0
    with (Path(home) / f"race-{number}.jsonl").open("w") as log:
        for _ in range(claims):
            name = draw.choice(NAMES)
            asked = time.monotonic()
            try:
                grant = leases.claim(name, owner, TTL_S)
                since, good_until = time.monotonic(), asked + TTL_S
                while draw.random() < 0.3:
                    asked = time.monotonic()
                    leases.renew(grant, TTL_S)
                    good_until = asked + TTL_S
                until = min(time.monotonic(), good_until)
                if draw.random() < 0.9:
                    leases.release(grant)
                else:
                    until = good_until  # as if it had been killed: the lease has to run out
            except LeaseHeld:
                continue
            except FencedOut:  # ran out while it was held
                until = min(good_until, time.monotonic())
            except StoreUnavailable:
                busy += 1
                continue
            if until > since:
                log.write(json.dumps(asdict(Held(name, grant.fence, grant.nonce, owner, since, until))) + "\n")
            else:  # too slow to have relied on it for a moment, yet its fence is its own
                log.write(json.dumps(asdict(Held(name, grant.fence, grant.nonce, owner, since, since))) + "\n")
        log.write(json.dumps({"busy": busy}) + "\n")
    leases.close()


def race(home: Path, url: str | None, *, processes: int, claims: int, seed: int) -> tuple[list[Held], int]:
    """Run it. Returns every grant, and how often the store was too busy to answer."""
    home.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    share = claims // processes
    running = [context.Process(target=one, args=(str(home), url, n, share, seed)) for n in range(processes)]
    for process in running:
        process.start()
    for process in running:
        process.join()
        assert process.exitcode == 0, f"a racing process ended with {process.exitcode}"
    grants: list[Held] = []
    busy = 0
    for number in range(processes):
        for line in (home / f"race-{number}.jsonl").read_text().splitlines():
            values = json.loads(line)
            if "busy" in values:
                busy += values["busy"]
            else:
                grants.append(Held(**values))
    return grants, busy


def doubles(grants: list[Held]) -> list[str]:
    """What must not be: a fence granted twice, or two owners at one time.

    A span without length is a grant whose answer came after it had run out: its fence counts, its time does not.
    """
    found: list[str] = []
    for name in {g.name for g in grants}:
        mine = sorted((g for g in grants if g.name == name), key=lambda g: g.fence)
        for before, after in itertools.pairwise(mine):
            if after.fence == before.fence:
                found.append(f"{name}: fence {after.fence} for {before.owner} and {after.owner}")
        for before, after in itertools.pairwise([g for g in mine if g.until > g.since]):
            if after.fence != before.fence and after.since < before.until:
                overlap = before.until - after.since
                found.append(f"{name}: {after.owner} while {before.owner} held it for {overlap:.4f} s")
    return found
