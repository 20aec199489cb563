"""Many customers at once, five to a process: one Python process with more delays its own events by seconds.

Each process joins its customers at the same instant and tells what each of them experienced. Not here: one customer
(room_line.py), what the crowd is for (room_load.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import threading
import time
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event
from typing import Any, Self

from bench.room_house import Ticket
from bench.room_line import Line, Silent
from bench.room_speech import ASK

AT_MOST = 5
READY_S = 60.0
AHEAD_S = 0.5
BUSY = "voice.busy"
_SPAWN = multiprocessing.get_context("spawn")  # a fork would inherit LiveKit's threads


@dataclass
class Experience:
    """What one customer experienced; seconds since the instant of joining, None where it never came.

    Args:
        room: Where.
        connected_s: In the room.
        heard_s: An agent became audible.
        busy_s: Told that all lines are busy.
        ended_s: The call ended without our doing.
        why: LiveKit's reason.
        agents: All agents that were heard.
        asked: Questions asked in the course of it.
        answered: Of them.
        failed: What went wrong here.
    """

    room: str
    connected_s: float | None = None
    heard_s: float | None = None
    busy_s: float | None = None
    ended_s: float | None = None
    why: str = ""
    agents: list[str] = field(default_factory=list)
    asked: int = 0
    answered: int = 0
    failed: str = ""

    @property
    def told_s(self) -> float | None:
        """When the customer knew: by voice, or by the busy mark."""
        there = [t for t in (self.heard_s, self.busy_s) if t is not None]
        return min(there, default=None)


class Crowd:
    """Customers in processes of their own. Use as an async context manager; they hang up when it ends.

    Args:
        tickets: One each.
        ask_every_s: Ask something so often; 0: never.
    """

    def __init__(self, tickets: list[Ticket], ask_every_s: float = 0.0) -> None:
        self._news: Any = _SPAWN.Queue()
        self._start_at: Any = _SPAWN.Value("d", 0.0)
        self._over = _SPAWN.Event()
        self._served: Any = _SPAWN.Value("i", 0)
        self._parts = [tickets[at : at + AT_MOST] for at in range(0, len(tickets), AT_MOST)]
        shared = (self._start_at, self._over, self._served, self._news, ask_every_s)
        self._processes = [_SPAWN.Process(target=_customers, args=(p, *shared)) for p in self._parts]

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._start)
        return self

    def _start(self) -> None:
        for process in self._processes:
            process.start()
        for _ in self._processes:
            assert self._news.get(timeout=READY_S) == "ready"
        self._start_at.value = time.monotonic() + AHEAD_S

    @property
    def served(self) -> int:
        """How many have heard an agent so far."""
        return int(self._served.value)

    async def hang_up(self) -> list[Experience]:
        """All of them leave; what they experienced."""
        return await asyncio.to_thread(self._hang_up)

    def _hang_up(self) -> list[Experience]:
        self._over.set()
        told = [self._news.get(timeout=READY_S) for _ in self._processes]
        for process in self._processes:
            process.join(READY_S)
        return [one for part in told for one in part]

    async def __aexit__(self, *_: object) -> None:
        for process in self._processes:
            if process.is_alive():
                process.kill()
                process.join()


def _customers(tickets: list[Ticket], start_at: Any, over: Event, served: Any, news: Any, ask_every_s: float) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    news.put("ready")
    while not start_at.value:
        time.sleep(0.01)
    news.put(asyncio.run(_all(tickets, float(start_at.value), over, served, ask_every_s)))
    news.close()
    news.join_thread()
    os._exit(0)  # LiveKit's threads may panic at an ordinary exit (rtc 1.1)


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


async def _all(
    tickets: list[Ticket], start_at: float, over: Event, served: Any, ask_every_s: float
) -> list[Experience]:
    return list(await asyncio.gather(*(_one(t, start_at, over, served, ask_every_s) for t in tickets)))


async def _one(ticket: Ticket, start_at: float, over: Event, served: Any, ask_every_s: float) -> Experience:
    one = Experience(ticket.room)
    await asyncio.sleep(max(0.0, start_at - time.monotonic()))
    try:
        async with Line(ticket.url, ticket.token) as line:
            one.connected_s = round(line.joined_at - start_at, 2)
            asking = asyncio.create_task(_ask(line, one, ask_every_s, over)) if ask_every_s else None
            while not over.is_set():
                if _look(line, one, start_at):
                    with served.get_lock():
                        served.value += 1
                await asyncio.sleep(0.05)
            if asking is not None:
                await asking  # who has asked hears the answer
            _look(line, one, start_at)
            one.agents = sorted(who for who, sound in line.sounds.items() if any(sound.loud))
    except Exception as e:  # noqa: BLE001 - whatever happened to this customer is the result
        one.failed = f"{type(e).__name__}: {e}"
    return one


def _look(line: Line, one: Experience, start_at: float) -> bool:
    """Whether an agent was heard just now, for the first time."""
    now = round(time.monotonic() - start_at, 2)
    heard_before = one.heard_s is not None
    if not heard_before:
        first = [at for s in line.sounds.values() if (at := s.first(line.joined_at)) is not None]
        one.heard_s = round(min(first) - start_at, 2) if first else None
    if one.busy_s is None and BUSY in (json.loads(line.room.metadata or "{}") or {}):
        one.busy_s = now
    if one.ended_s is None and line.disconnected:
        one.ended_s, one.why = now, line.disconnected
    return one.heard_s is not None and not heard_before


async def _ask(line: Line, one: Experience, every_s: float, over: Event) -> None:
    with contextlib.suppress(Silent):
        await line.heard(line.joined_at, every_s)
    due = time.monotonic() + every_s
    while not over.is_set():
        await asyncio.sleep(0.05)
        if time.monotonic() < due:
            continue
        due = time.monotonic() + every_s
        asked = await line.type(ASK)
        one.asked += 1
        with contextlib.suppress(Silent):
            await line.heard(asked, 15)
            one.answered += 1
