"""Which offers our worker takes: as many calls as it has lines, and a few more of whom it only takes leave.

A full worker leaves the offer to the others and sees to it that the customer is told. What is no room of ours to take
(a name that cannot be kept) is refused for all workers, with the reason in the log.
Not here: how a room is claimed (offers.py), what happens to customers who wait (rooms/busy.py).
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Callable

from livekit.agents import JobRequest

from voicectl.memory.errors import StoreUnavailable
from voicectl.memory.room_log import RoomEvent
from voicectl.memory.store.leases import Leases
from voicectl.voice import offers
from voicectl.voice.events import RoomMark
from voicectl.voice.rooms.admin import room_marks
from voicectl.voice.rooms.busy import BusyRooms
from voicectl.voice.rooms.canary import ASKED, CANARY
from voicectl.voice.rooms.notes import Notes
from voicectl.voice.rooms.registry import GOODBYE, live_calls, says_goodbye
from voicectl.voice.tasks import Tasks

log = logging.getLogger(__name__)

MAX_METADATA = 4096
MAX_ROOM = 300  # the store keeps so much of a room's name
COUNT_S = 0.3  # for so long the store is asked who winds up; the claim itself then has its own time (offers.py)
GOODBYES = 5  # jobs over capacity at once; each says two sentences from a file and needs no engine


class Intake:
    """Answers the offers that one worker gets.

    Args:
        capacity: Calls that it takes at a time.
        leases: Where rooms are claimed.
        notes: For the log of rooms.
        busy: Who tells customers that they have to wait.
        running: The identities of the worker's jobs.

    Attributes:
        canary: A room of this worker's own; an offer of it shows that dispatches arrive.
        reached: Set when they do.
    """

    def __init__(
        self, capacity: int, leases: Leases, notes: Notes, busy: BusyRooms, running: Callable[[], set[str]]
    ) -> None:
        self._capacity, self._leases, self._notes, self._busy, self._running = capacity, leases, notes, busy, running
        self._offered: set[str] = set()  # identities of jobs that are being accepted
        self._tasks = Tasks()
        self.canary = f"{CANARY}{secrets.token_hex(6)}"
        self.reached = asyncio.Event()

    async def answer(self, request: JobRequest) -> None:
        """Accept or refuse."""
        room = request.room.name
        if room.startswith(CANARY):
            ours = room == self.canary
            if ours:
                self.reached.set()
            # Another worker's is left to it: the server asks on. A person asks whether any worker is reached.
            await request.reject(terminate=ours or room.startswith(ASKED))
            return
        if why := unfit(room):
            log.warning("offer refused", extra={"room": room[:60], "why": why})
            await request.reject(terminate=True)
            return
        if metadata(request.job.metadata).get("busy"):
            if sum(says_goodbye(i) for i in self._running() | self._offered) >= GOODBYES:
                await request.reject(terminate=False)
            else:
                await self._take(request, f"{GOODBYE}{request.id}")
            return
        taken = await self._taken()
        if taken >= self._capacity:
            await request.reject(terminate=False)
            self._tasks.spawn(self._refused(room, taken))
            return
        if await self._take(request, f"agent-{request.id}") and RoomMark.BUSY in (
            room_marks(request.room.metadata) or {}
        ):
            self._tasks.spawn(self._busy.unmark(room))

    async def _take(self, request: JobRequest, identity: str) -> bool:
        self._offered.add(identity)
        try:
            held = await offers.offer(request, self._leases, identity)
        finally:
            self._offered.discard(identity)
        if held is None:
            return True
        owner, fence = (held.lease.owner, held.lease.fence) if held.lease else ("", 0)
        about = (RoomEvent.CONFLICT, request.room.name)
        self._notes.add(*about, ours=identity, theirs=owner, their_fence=fence, why=str(held))
        return False

    async def _taken(self) -> int:
        """Lines in use: of jobs that are being accepted, and of those whose call is not being wound up."""
        running = self._running()
        try:
            running &= await asyncio.wait_for(asyncio.to_thread(live_calls, self._leases), COUNT_S)
        except (StoreUnavailable, TimeoutError) as e:
            why = getattr(e, "reason", f"no answer in {COUNT_S} s")
            log.warning("every job counts as a call: the store is away", extra={"why": why})
        return sum(not says_goodbye(i) for i in running | self._offered)

    async def _refused(self, room: str, taken: int) -> None:
        self._notes.add(RoomEvent.FULL, room, why=f"{taken} calls, capacity {self._capacity}")
        try:
            await self._busy.refused(room)
        except StoreUnavailable as e:
            log.warning("a customer who waits was not told", extra={"room": room, "why": e.reason})


def unfit(room: str) -> str:
    """Why a room cannot be taken, whoever is in it; "" when it can."""
    if not room:
        return "it has no name"
    if len(room) > MAX_ROOM:
        return f"its name has {len(room)} characters, {MAX_ROOM} are kept"
    return "its name holds a zero byte" if "\0" in room else ""


def metadata(text: str) -> dict[str, str]:
    """A job's metadata as words; whatever else is in there counts as nothing, and is said."""
    if len(text) > MAX_METADATA:
        log.warning("a job's metadata is ignored", extra={"why": f"{len(text)} characters, {MAX_METADATA} are taken"})
        return {}
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError) as e:
        log.warning("a job's metadata is ignored", extra={"why": f"not JSON: {type(e).__name__}"})
        return {}
    if not isinstance(found, dict):
        log.warning("a job's metadata is ignored", extra={"why": f"a JSON {type(found).__name__}, not an object"})
        return {}
    return {str(k): v for k, v in found.items() if isinstance(v, str)}
