"""More callers than lines: they are told at once, served oldest first when a line is free, and not kept for ever.

A customer whose offer was refused as full waits in a room that is marked busy, so that page and callers can say so. A
free line goes to who waits longest. After WAIT_S an agent is asked for that may come over capacity and only says
goodbye. Capacity and calls are what the store says of all workers.
Not here: how an agent is dispatched (healing.py), what is refused when (voice/worker.py), what is said (voice/busy.py).
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from livekit import api

from voicectl.memory.room_log import RoomEvent
from voicectl.memory.store.leases import Lease, Leases, LeaseState
from voicectl.voice.errors import ServerSilent
from voicectl.voice.events import RoomMark
from voicectl.voice.rooms.admin import RoomAdmin, room_marks
from voicectl.voice.rooms.notes import Notes
from voicectl.voice.rooms.registry import calls_in, lease_name, says_goodbye, workers_in

log = logging.getLogger(__name__)

WAIT_S = 30.0  # protocols 2
# Of a refused offer the server asks the other workers, which answer within 0.1 s: by then one of them has claimed.
REFUSED_S = 0.3


@dataclass(frozen=True)
class Lines:
    """Lines of all live workers of one name; no worker listed is not the same as no line."""

    workers: int
    capacity: int
    used: int

    @property
    def free(self) -> int:
        """How many customers could be answered now."""
        return max(self.capacity - self.used, 0)

    @property
    def full(self) -> bool:
        """Whether there are workers, and none has a line."""
        return self.workers > 0 and self.free == 0


def lines(rows: Iterable[Lease], agent_name: str, *, but: str | None = None) -> Lines:
    """The lines that a customer of an agent could get.

    Args:
        rows: The leases as just read.
        agent_name: Under which name the workers registered.
        but: Identity of an agent that is known to be gone, although its lease has not run out.
    """
    rows = list(rows)
    workers = [w for w in workers_in(rows) if w.get("agent_name", agent_name[:80]) == agent_name[:80]]
    calls = calls_in(r for r in rows if r.note in ("", agent_name))  # agents of other names have lines of their own
    return Lines(len(workers), sum(int(w["capacity"]) for w in workers), len(calls - {but}))


class BusyRooms:
    """Marks rooms whose customers wait, and says what is due for them.

    Args:
        notes: For the log of rooms.
        leases: Where it is seen that an agent has come.
        admin: The server's API.
        clock: Seconds since 1970; the marks are read by others.
    """

    def __init__(self, notes: Notes, leases: Leases, admin: RoomAdmin, clock: Callable[[], float] = time.time) -> None:
        self._notes, self._leases, self._admin, self._clock = notes, leases, admin, clock

    async def refused(self, room: str) -> None:
        """An offer was refused as full: mark the room, unless another worker takes it."""
        await asyncio.sleep(REFUSED_S)
        row = await asyncio.to_thread(self._leases.read, lease_name(room))
        if row is None or not row.live:
            await self.mark(room)

    async def mark(self, room: str, why: str = "all lines are busy") -> None:
        """Say that the room's customer waits, since now unless it is said already. Rooms of others are left alone."""
        try:
            found = await self._admin.room(room)
            marks = room_marks(found.metadata) if found is not None else None
            if marks is None or RoomMark.DESK not in marks or RoomMark.BUSY in marks:
                return
            if await self._admin.set_mark(room, RoomMark.BUSY, f"{self._clock():.3f}"):
                self._notes.add(RoomEvent.BUSY, room, why=why)
        except ServerSilent as e:
            log.error("a customer who waits was not told", extra={"room": room, "why": str(e)})

    async def unmark(self, room: str) -> None:
        """An agent has the room."""
        try:
            await self._admin.set_mark(room, RoomMark.BUSY, None)
        except ServerSilent as e:
            log.warning("a room stays marked busy for now", extra={"room": room, "why": str(e)})

    def due(
        self, rooms: Sequence[api.Room], rows: Mapping[str, Lease], agent_name: str
    ) -> tuple[list[str], list[str], list[str]]:
        """What is due for the rooms that are marked.

        Args:
            rooms: All rooms of ours.
            rows: The leases by name, as just read.
            agent_name: Which agent serves them.

        Returns:
            The rooms to serve now, oldest first and as many as there are lines; those whose customers have waited long
            enough; those that have an agent, whose mark is a leftover.
        """
        now = self._clock()
        waiting: list[tuple[float, str]] = []
        served: list[str] = []
        for room in rooms:
            since = busy_since(room.metadata, now)
            row = rows.get(lease_name(room.name))
            if since is None or (row is not None and row.state == LeaseState.TAKEOVER and row.remaining_s > 0):
                continue  # nobody waits, or somebody is at it
            if row is None or not row.live:
                waiting.append((since, room.name))
            elif row.state == LeaseState.HELD and not says_goodbye(row.owner):
                served.append(room.name)
        names = [name for _, name in sorted(waiting)]
        found = lines(rows.values(), agent_name)
        if not found.workers:  # none is listed: perhaps one is about to be
            return names, [], served
        over = [name for since, name in sorted(waiting) if now - since >= WAIT_S]
        return names[: found.free], [name for name in over if name not in names[: found.free]], served


def busy_since(metadata: str, now: float) -> float | None:
    """Since when a room's customer waits, in seconds since 1970; None: does not.

    A mark that is no number, or lies ahead of our clock, counts from now: nobody is sent away for a clock.
    """
    value = (room_marks(metadata) or {}).get(RoomMark.BUSY)
    if value is None:
        return None
    try:
        since = float(value)
    except (TypeError, ValueError):
        return now
    return min(since, now) if math.isfinite(since) else now
