"""Agents die: killed, frozen, evicted, with their worker, with the server. Who takes over is heard, and how soon.

A takeover is split where the product can be told from the server: the dead lease is taken (detection), the dead agent
is removed (eviction), a job accepts (dispatch), it joins, and its first word is audible. Times are seconds after the
kill. Not here: rivals (room_injections.py), many callers at once (room_load.py).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from bench.room_figures import seconds
from bench.room_house import Call, House, alive, call, signal_job
from bench.room_line import Line, Silent
from bench.room_watch import Watch
from voicectl.memory.errors import FencedOut
from voicectl.voice.rooms.admin import RoomAdmin
from voicectl.voice.rooms.registry import lease_name

HEARD_S = 30.0
JOB_S, FROZEN_S, WORKER_S, WORKER_FROZEN_S, ROOM_S = 2.0, 8.0, 5.0, 10.0, 5.0
AFTER_THAW_S = 5.0  # longer than a thawed job takes to say what it had in its buffers
SERVER_AWAY_S = 1.0
AWAY_S, LONG_AWAY_S = 1.0, 3.0
SERVER_BACK_S = 40.0
STEPS = ("detected", "evicted", "accepted", "joined", "heard")


@dataclass
class Trial:
    """One death and what followed.

    Args:
        steps: Seconds after it, by step.
        wrong: What must not be.
    """

    steps: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


async def takeover(on: Call, trial: Trial, died: float, within_s: float) -> None:
    """Wait for the next agent's first word and look at the steps to it; then it is asked something."""
    dead = on.agent
    fence = max(s.fence for s in on.watch.changes if s.at <= died)
    new, heard = await on.line.heard(died, HEARD_S, but=(dead,))
    on.agent = new
    times = {
        "detected": next((s.at for s in on.watch.changes if s.at > died and s.answered and s.fence > fence), None),
        "evicted": on.watch.gone(dead, died),
        "accepted": on.watch.first(died, "owner", is_=new),
        "joined": on.line.when("joined", new, died),
        "heard": heard,
    }
    trial.steps = {name: round(at - died, 3) for name, at in times.items() if at is not None}
    if trial.steps["heard"] > within_s:
        trial.wrong.append(f"heard only after {trial.steps['heard']} s")
    await on.line.quiet(0.3)
    if await on.watch.settle(time.monotonic(), 5) is None:
        trial.wrong.append(f"not one agent: {on.watch.now.words}")
    if (answered := await on.answer()) != new:
        trial.wrong.append(f"{answered} answers, not {new}")
    if on.line.disconnected:
        trial.wrong.append(f"the customer was put out: {on.line.disconnected}")


Death = Callable[[House, Call, Trial, int], Awaitable[None]]


async def trials(house: House, admin: RoomAdmin, count: int, what: str, death: Death) -> list[Trial]:
    """So many calls, and a death in each."""
    done = []
    for number in range(count):
        trial = Trial()
        ticket = house.ticket(machine=number % len(house.machines))
        try:
            async with call(house, admin, ticket) as on:
                await on.greeted()
                await asyncio.wait_for(death(house, on, trial, number), 120)
        except (Silent, TimeoutError, ConnectionError) as e:
            trial.wrong.append(f"{type(e).__name__}: {e}")
        if trial.wrong:
            trial.wrong.append(f"room {ticket.room}")
        done.append(trial)
        print(f"{what} {number + 1}/{count}: {trial.steps} {trial.wrong}", file=sys.stderr, flush=True)
    return done


def summary(done: list[Trial], limit_s: float, **more: Any) -> dict[str, Any]:
    """Each step by itself, from the kill and from the step before."""
    found: dict[str, Any] = {
        "trials": len(done),
        "served": sum("heard" in t.steps for t in done),
        "as_promised_of_them": sum(not t.wrong for t in done),
        "limit_p95_s": limit_s,
        "after_the_kill": {s: seconds([t.steps.get(s) for t in done]) for s in STEPS},
        "step_by_step": {
            f"{a} → {b}": seconds([t.steps[b] - t.steps[a] for t in done if a in t.steps and b in t.steps])
            for a, b in pairwise(STEPS)
        },
        "wrong": [t.wrong for t in done if t.wrong],
        **more,
    }
    heard = found["after_the_kill"]["heard"]
    late = [w for t in done for w in t.wrong if not w.startswith(("heard only", "room "))]
    found["as_promised"] = found["served"] == len(done) and not late and heard.get("p95_s", 0.0) <= limit_s
    return found


async def job_kills(house: House, admin: RoomAdmin, count: int) -> dict[str, Any]:
    """SIGKILL of the job that speaks; each third time the control plane is restarted meanwhile."""

    async def death(house: House, on: Call, trial: Trial, number: int) -> None:
        pid = await on.pid()
        web = number % 3 == 2
        if web:
            house.first.kill("web", signal.SIGKILL)
        died = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        if web:
            house.first.start("web")
        await takeover(on, trial, died, JOB_S)
        if web:
            await asyncio.to_thread(house.first.wait_ready)

    return summary(await trials(house, admin, count, "job kill", death), JOB_S)


async def freezes(house: House, admin: RoomAdmin, count: int) -> dict[str, Any]:
    """The shipped job is stopped and wakes up later; is evicted by somebody; is fenced out by hand. By turns."""

    async def death(house: House, on: Call, trial: Trial, number: int) -> None:
        old, pid = on.agent, await on.pid()
        sid = await on.line.room.sid
        died = time.monotonic()
        if number % 3 == 0:
            signal_job(pid, signal.SIGSTOP)
        elif number % 3 == 1:
            await admin.remove(on.ticket.room, old)
        else:
            await asyncio.to_thread(_fence_out, house, on.ticket.room)
        try:
            await takeover(on, trial, died, FROZEN_S)
        finally:
            signal_job(pid, signal.SIGCONT)
        woke = time.monotonic()
        await asyncio.sleep(AFTER_THAW_S)
        sound = on.line.sounds.get(old)
        if sound is not None and sound.first(woke) is not None:
            trial.wrong.append("the old job was heard again")
        if any(old in s.agents for s in on.watch.changes if s.at > woke + 0.1) or old in on.watch.now.agents:
            trial.wrong.append("the old job was in the room again")
        if alive(pid):
            trial.wrong.append(f"the old job still runs {AFTER_THAW_S:g} s after it woke")
        if await on.line.room.sid != sid:
            trial.wrong.append("the room is another one")

    done = await trials(house, admin, count, "frozen, evicted, fenced out", death)
    by_way = {way: seconds([t.steps.get("heard") for t in done[n::3]]) for n, way in enumerate(WAYS)}
    return summary(done, FROZEN_S, heard_by_way=by_way)


WAYS = ("frozen and thawed", "evicted", "fenced out by hand")


def _fence_out(house: House, room: str) -> None:
    while True:  # the holder renews between our look and our hand
        lease = house.leases.read(lease_name(room))
        assert lease is not None
        try:
            house.leases.take_over(lease, "somebody", 1.0, proven_dead=True)
        except FencedOut:
            continue
        return


async def worker_kills(house: House, admin: RoomAdmin, count: int, frozen: int) -> dict[str, Any]:
    """A whole worker with its jobs, of the machine that has the call, while the other's is up."""

    async def killed(house: House, on: Call, trial: Trial, number: int) -> None:
        machine = house.machine_of(await on.pid())
        died = time.monotonic()
        machine.kill("worker", signal.SIGKILL)
        try:
            await takeover(on, trial, died, WORKER_S)
        finally:
            machine.start("worker")  # the supervisor's part
            await asyncio.to_thread(machine.wait_listed)

    async def stopped(house: House, on: Call, trial: Trial, number: int) -> None:
        old = on.agent
        machine = house.machine_of(await on.pid())
        group = machine.processes["worker"].pid
        died = time.monotonic()
        os.killpg(group, signal.SIGSTOP)
        try:
            await takeover(on, trial, died, WORKER_FROZEN_S)
        finally:
            os.killpg(group, signal.SIGCONT)
            woke = time.monotonic()
        await asyncio.sleep(AFTER_THAW_S)
        sound = on.line.sounds.get(old)
        if sound is not None and sound.first(woke) is not None:
            trial.wrong.append("the old job was heard again")
        await asyncio.to_thread(machine.wait_listed)

    kills = summary(await trials(house, admin, count, "worker kill", killed), WORKER_S)
    stops = summary(await trials(house, admin, frozen, "worker stopped", stopped), WORKER_FROZEN_S)
    return {"killed": kills, "stopped": stops, "as_promised": kills["as_promised"] and stops["as_promised"]}


async def server_restarts(house: House, admin: RoomAdmin, count: int) -> dict[str, Any]:
    """LiveKit is killed in mid-call and comes back: one agent, the lease holder, and the call goes on."""

    async def death(house: House, on: Call, trial: Trial, number: int) -> None:
        died = time.monotonic()
        house.first.kill("livekit", signal.SIGKILL)
        await asyncio.sleep(SERVER_AWAY_S)
        await asyncio.to_thread(house.first.start_livekit)
        back = time.monotonic()
        while not (on.watch.looked_at > back and on.watch.now.answered and on.watch.now.others):
            if on.line.disconnected or time.monotonic() > back + SERVER_BACK_S:
                trial.wrong.append(f"the customer did not return: {on.line.disconnected or on.watch.now.words}")
                return
            await asyncio.sleep(0.05)
        trial.steps["customer back"] = round(time.monotonic() - died, 2)
        while time.monotonic() < back + SERVER_BACK_S:
            settled = await on.watch.settle(time.monotonic(), 20)
            await asyncio.sleep(3)  # a dispatch under way, an agent that returns
            if settled is not None and on.watch.settled() == settled:
                break
        if on.watch.settled() is None:
            trial.wrong.append(f"not one agent: {on.watch.now.words}")
            return
        trial.steps["one agent"] = round(on.watch.settled() - died, 2)
        answered = await on.answer(10)
        if answered != on.watch.now.owner:
            trial.wrong.append(f"{answered} answers, not {on.watch.now.owner}")
        trial.steps["heard"] = round(time.monotonic() - died, 2)
        await asyncio.to_thread(house.first.wait_ready)

    done = await trials(house, admin, count, "server restart", death)
    found = {
        "trials": len(done),
        "as_promised_of_them": sum(not t.wrong for t in done),
        "customer_back": seconds([t.steps.get("customer back") for t in done]),
        "one_agent": seconds([t.steps.get("one agent") for t in done]),
        "wrong": [t.wrong for t in done if t.wrong],
    }
    return found | {"as_promised": not found["wrong"]}


async def new_rooms(house: House, admin: RoomAdmin, count: int) -> dict[str, Any]:
    """One agent within 5 s, in rooms of every kind."""
    took: dict[str, list[float | None]] = {way: [] for way in ROOMS}
    wrong = []
    for number in range(count):
        way = list(ROOMS)[number % len(ROOMS)]
        try:
            found = await asyncio.wait_for(ROOMS[way](house, admin), 90)
        except (Silent, TimeoutError, ConnectionError, AssertionError) as e:
            found = None
            wrong.append(f"{way}: {type(e).__name__}: {e}")
        took[way].append(found)
        if found is not None and found > ROOM_S:
            wrong.append(f"{way}: one agent only after {found:.2f} s")
        print(f"new room {number + 1}/{count}, {way}: {found}", file=sys.stderr, flush=True)
    found = {"rooms": count, "one_agent_after": {way: seconds(t) for way, t in took.items()}, "wrong": wrong}
    return found | {"as_promised": not wrong}


async def _served(on: Call, since: float) -> float:
    who, _ = await on.line.heard(since, HEARD_S)
    settled = await on.watch.settle(time.monotonic(), 5)
    assert settled is not None, on.watch.now.words
    assert await on.answer() == who == on.watch.now.owner, on.watch.now.words
    return max(0.0, settled - since)


async def _fresh(house: House, admin: RoomAdmin) -> float:
    async with call(house, admin) as on:
        return await _served(on, on.line.joined_at)


async def _left_and_back(house: House, admin: RoomAdmin) -> float:
    """With the same token, which makes the room again that the end of the first call has deleted."""
    ticket = house.ticket()
    async with Line(ticket.url, ticket.token) as line:
        await line.heard(line.joined_at, HEARD_S)
    await asyncio.sleep(AWAY_S)  # who is faster meets the deletion, and is put out with the room
    async with call(house, admin, ticket) as on:
        return await _served(on, on.line.joined_at)


async def _emptied(house: House, admin: RoomAdmin) -> float:
    """The agent stands still while the customer goes, and dies: the room lives on, and no job comes by token."""
    ticket = house.ticket()
    async with Watch(ticket.room, admin, house.leases) as watch, Line(ticket.url, ticket.token) as line:
        first = Call(line, watch, ticket)
        await first.greeted()
        pid = await first.pid()
        os.kill(pid, signal.SIGSTOP)  # else it would end the call and the room
        await line.hang_up()
        while watch.now.others:
            await asyncio.sleep(0.02)
        os.kill(pid, signal.SIGKILL)
    await asyncio.sleep(LONG_AWAY_S)
    async with call(house, admin, ticket) as on:
        return await _served(on, on.line.joined_at)


async def _killed(house: House, admin: RoomAdmin) -> float:
    async with call(house, admin) as on:
        old = await on.greeted()
        died = time.monotonic()
        os.kill(await on.pid(), signal.SIGKILL)
        who, _ = await on.line.heard(died, HEARD_S, but=(old,))
        settled = await on.watch.settle(time.monotonic(), 5)
        assert settled is not None, on.watch.now.words
        assert on.watch.now.owner == who, on.watch.now.words
        return settled - died


ROOMS = {
    "new": _fresh,
    "left and back": _left_and_back,
    "emptied, agent dead": _emptied,
    "agent killed": _killed,
}
