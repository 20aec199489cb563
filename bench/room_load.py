"""Many customers at once: bursts, more than there are lines, and full lines on saturated cores.

Afterwards nothing may be left: no room, no live lease, no job, no file handle more than before.
Not here: the customers themselves (room_callers.py).
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import psutil
from sqlalchemy import select

from bench.room_callers import Crowd, Experience
from bench.room_figures import seconds
from bench.room_house import House
from tests.support.locked import locked
from voicectl.memory.room_log import RoomEvent
from voicectl.memory.store.leases import LeaseState
from voicectl.memory.store.schema import calls, turns
from voicectl.voice.rooms.admin import RoomAdmin

SERVED_S, TOLD_S, LEFT_S = 60.0, 3.0, 60.0
UNHEARD_S = 20.0  # who has not heard the greeting by then asks whether anybody is there
QUEUE_S = 30.0  # how long who is told busy waits at most
ENDED_S = 10.0  # and the words after it
ASK_EVERY_S = 15.0
SPARE_FILES = 8
LIVE = (LeaseState.ACCEPTED, LeaseState.HELD, LeaseState.TAKEOVER)
BURN = "while True: pass"
ASK_OFTEN_S = 3.0
SETTLED_S = 5.0  # a lease's life and a look later, nothing may have happened


@dataclass(frozen=True)
class Weight:
    """What a worker holds."""

    processes: int
    files: int


def weigh(house: House) -> Weight:
    """The first machine's worker now."""
    worker = psutil.Process(house.first.processes["worker"].pid)
    return Weight(len(worker.children(recursive=True)), worker.num_fds())


async def left_over(house: House, admin: RoomAdmin, before: Weight, *, first: bool) -> list[str]:
    """What is still there after LEFT_S that was not there before; the first calls of a worker open what it keeps."""
    deadline = time.monotonic() + LEFT_S
    while left := await _left(house, admin, before, files=not first):
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.5)
    return left


async def _left(house: House, admin: RoomAdmin, before: Weight, *, files: bool) -> list[str]:
    rooms = [r.name for r in await admin.rooms() if not r.name.startswith("canary-")]
    rows = await asyncio.to_thread(house.leases.rows)
    leases = [r.name for r in rows if r.name.startswith("room:") and r.live and r.state in LIVE]
    now = weigh(house)
    left = [f"rooms {rooms}"] if rooms else []
    left += [f"leases {leases}"] if leases else []
    left += [f"{now.processes} processes, {before.processes} before"] if now.processes > before.processes else []
    left += [f"{now.files} files, {before.files} before"] if files and now.files > before.files + SPARE_FILES else []
    return left


def _experienced(many: list[Experience]) -> dict[str, Any]:
    return {
        "customers": len(many),
        "heard": sum(e.heard_s is not None for e in many),
        "told_busy": sum(e.busy_s is not None for e in many),
        "connected_after": seconds([e.connected_s for e in many]),
        "heard_after": seconds([e.heard_s for e in many]),
        "told_after": seconds([e.told_s for e in many]),
        "two_voices": [e.room for e in many if len(e.agents) > 1],
        "failed": [f"{e.room}: {e.failed or e.why}" for e in many if e.failed or e.ended_s is not None],
    }


async def _wait(longest_s: float, enough: Callable[[], bool]) -> None:
    deadline = time.monotonic() + longest_s
    while not enough() and time.monotonic() < deadline:
        await asyncio.sleep(0.1)


async def bursts(house: House, admin: RoomAdmin, count: int, lines: int) -> dict[str, Any]:
    """So many customers at the same instant; the first burst meets a worker that has just come up."""
    found: dict[str, Any] = {"bursts": []}
    for number in range(count + 1):
        if number == 0:
            house.first.kill("worker", signal.SIGKILL)
            house.first.start("worker")
            await asyncio.to_thread(house.first.wait_listed)
        before = weigh(house)
        tickets = [house.ticket() for _ in range(lines)]
        async with Crowd(tickets, UNHEARD_S) as crowd:
            await _wait(SERVED_S, lambda crowd=crowd: crowd.served >= lines)
            many = await crowd.hang_up()
        one = {"worker": "warm" if number else "cold", **_experienced(many)}
        one["left_over"] = await left_over(house, admin, before, first=number == 0)
        one["as_promised"] = one["heard"] == lines and not (one["two_voices"] or one["failed"] or one["left_over"])
        found["bursts"].append(one)
        print(f"burst {number}: {one}", file=sys.stderr, flush=True)
    return found | {"as_promised": all(b["as_promised"] for b in found["bursts"])}


async def capacity(house: House, admin: RoomAdmin, count: int, lines: int, more: int) -> dict[str, Any]:
    """More customers than lines, with tokens of when lines were free: each is served, or told, then served or ended."""
    found: dict[str, Any] = {"rounds": []}
    for number in range(count):
        before = weigh(house)
        tickets = [house.ticket() for _ in range(lines + more)]
        async with Crowd(tickets) as crowd:
            await _wait(SERVED_S, lambda crowd=crowd: crowd.served >= lines)
            refused = await asyncio.to_thread(_token_status, house)
            await asyncio.sleep(QUEUE_S + ENDED_S)
            many = await crowd.hang_up()
        served = [e for e in many if e.heard_s is not None and e.busy_s is None]
        waited = [e for e in many if e.busy_s is not None]
        one = {
            **_experienced(many),
            "served_at_once": len(served),
            "busy_after": seconds([e.busy_s for e in waited]),
            "busy_then_words": sum(e.heard_s is not None for e in waited),
            "busy_then_ended": sum(e.ended_s is not None for e in waited),
            "token_endpoint_when_full": refused,
            "told_late_or_never": [e.room for e in many if e.busy_s is None and e.heard_s is None],
            "left_over": await left_over(house, admin, before, first=number == 0),
        }
        late = [e for e in waited if (e.busy_s or 0) - (e.connected_s or 0) > TOLD_S]
        one["as_promised"] = (
            len(served) == lines
            and len(waited) == more
            and not late
            and refused == 503
            and not one["told_late_or_never"]
            and not one["left_over"]
            and not one["two_voices"]
        )
        found["rounds"].append(one)
        print(f"capacity {number + 1}: {one}", file=sys.stderr, flush=True)
    return found | {"as_promised": all(r["as_promised"] for r in found["rounds"])}


def _token_status(house: House) -> int:
    wanted = {"participant_identity": "user:late"}
    return httpx.post(f"{house.first.url}/api/token", json=wanted, timeout=5, trust_env=False).status_code


@contextmanager
def burning() -> Iterator[None]:
    """Every core busy with something else."""
    fires = [subprocess.Popen([sys.executable, "-c", BURN]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for fire in fires:
            fire.kill()
            fire.wait()


async def saturated(house: House, admin: RoomAdmin, lines: int, duration_s: float) -> dict[str, Any]:
    """Full lines on saturated cores: nobody's lease runs out, nobody is taken over."""
    before = weigh(house)
    tickets = [house.ticket() for _ in range(lines)]
    rooms = {t.room for t in tickets}
    async with Crowd(tickets, ASK_EVERY_S) as crowd:
        await _wait(SERVED_S, lambda: crowd.served >= lines)
        fences = await asyncio.to_thread(_fences, house, rooms)
        with burning():
            began, lowest = time.monotonic(), 1.0e9
            while time.monotonic() - began < duration_s:
                rows = await asyncio.to_thread(house.leases.rows)
                ours = [r.remaining_s for r in rows if r.name.removeprefix("room:") in rooms]
                lowest = min([lowest, *ours])
                await asyncio.sleep(0.2)
            load = os.getloadavg()[0]
        after = await asyncio.to_thread(_fences, house, rooms)
        many = await crowd.hang_up()
    found = {
        **_experienced(many),
        "minutes": round(duration_s / 60, 1),
        "load_1_min": round(load, 1),
        "least_left_of_a_lease_s": round(lowest, 2),
        "fences_unchanged": fences == after and len(fences) == lines,
        "taken_over": (await asyncio.to_thread(house.noted))[RoomEvent.TAKEOVER],
        "asked": sum(e.asked for e in many),
        "answered": sum(e.answered for e in many),
        "left_over": await left_over(house, admin, before, first=True),
    }
    one_voice = not found["two_voices"] and not found["failed"] and found["heard"] == lines
    return found | {"as_promised": one_voice and found["fences_unchanged"] and found["taken_over"] == 0}


async def stalls(house: House, admin: RoomAdmin, lines: int, seconds_locked: list[float]) -> dict[str, Any]:
    """Store and leases stand still with calls on: nobody is put out or taken over, and every word is kept."""
    found: dict[str, Any] = {}
    files = [house.first.home / name for name in ("memory.db", "leases.db")]
    for stands_s in seconds_locked:
        tickets = [house.ticket() for _ in range(lines)]
        rooms = {t.room for t in tickets}
        async with Crowd(tickets, ASK_OFTEN_S) as crowd:
            await _wait(SERVED_S, lambda crowd=crowd: crowd.served >= lines)
            await asyncio.sleep(2 * ASK_OFTEN_S)
            fences, noted = await asyncio.to_thread(_fences, house, rooms), await asyncio.to_thread(house.noted)
            with locked(*files):
                await asyncio.sleep(stands_s)
            await asyncio.sleep(2 * ASK_OFTEN_S + SETTLED_S)
            after, since = await asyncio.to_thread(_fences, house, rooms), await asyncio.to_thread(house.noted)
            many = await crowd.hang_up()
        await _wait(LEFT_S, lambda: _replayed(house))
        one = {
            **_experienced(many),
            "fences_unchanged": fences == after and len(fences) == lines,
            "taken_over": since[RoomEvent.TAKEOVER] - noted[RoomEvent.TAKEOVER],
            "evicted": since[RoomEvent.EVICTED] - noted[RoomEvent.EVICTED],
            "asked": sum(e.asked for e in many),
            "answered": sum(e.answered for e in many),
            "in_the_store": await asyncio.to_thread(_kept, house, rooms),
        }
        one["as_promised"] = (
            one["fences_unchanged"]
            and not (one["taken_over"] or one["evicted"] or one["failed"] or one["two_voices"])
            and one["asked"] == one["answered"]
            and one["in_the_store"] == {"user": one["asked"], "assistant": one["answered"] + lines}
        )
        found[f"{stands_s:g} s"] = one
        print(f"store locked {stands_s:g} s: {one}", file=sys.stderr, flush=True)
    return found | {"as_promised": all(one["as_promised"] for one in found.values())}


def _replayed(house: House) -> bool:
    return not list((house.first.home / "journal").glob("*.jsonl"))


def _kept(house: House, rooms: set[str]) -> dict[str, int]:
    store = house.first.store()
    try:
        with store.read() as connection:
            statement = select(turns.c.role).join(calls).where(calls.c.room.in_(rooms))
            return dict(Counter(r for r in connection.execute(statement).scalars() if r in ("user", "assistant")))
    finally:
        store.close()


def _fences(house: House, rooms: set[str]) -> dict[str, int]:
    return {r.name: r.fence for r in house.leases.rows() if r.name.removeprefix("room:") in rooms}
