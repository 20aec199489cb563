"""The reconciler: looks at rooms, leases and calls, and starts what is due. Every worker and control plane runs one.

Due is: a dead lease, a customer without an agent, a holder who is not there, an agent whom the holder does not evict, a
customer who waits for a line. A look begins when the wake says so (leases, webhooks), when something seen before comes
due, or after LOOK_S. Nothing seen before a silence of server or store counts after it. That the store takes writes is
shown beside the looks, once a second: a look lasts as long as the server lets it wait.
Not here: what is done in one room (healing.py), for how long something was seen (sightings.py), who waits for a line
(busy.py), offers and renewal (registry.py), rivals of a holder who is awake (guard.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence

from livekit import api

from voicectl.memory.calls import rooms_of_open_calls
from voicectl.memory.errors import StoreUnavailable
from voicectl.memory.own_calls import OWN_ROOMS
from voicectl.memory.room_log import RoomEvent
from voicectl.memory.store.engine import Store
from voicectl.memory.store.leases import Lease, Leases, LeaseState
from voicectl.voice.config import VoiceSettings
from voicectl.voice.errors import ServerSilent
from voicectl.voice.events import RoomMark
from voicectl.voice.rooms.admin import ON_BEHALF, RoomAdmin, fence_of, is_agent, room_marks
from voicectl.voice.rooms.busy import BusyRooms
from voicectl.voice.rooms.evidence import STAMP_S, Evidence
from voicectl.voice.rooms.healing import Healer
from voicectl.voice.rooms.notes import Notes
from voicectl.voice.rooms.registry import lease_name
from voicectl.voice.rooms.sightings import Sightings
from voicectl.voice.rooms.wake import Wake
from voicectl.voice.tasks import Tasks

log = logging.getLogger(__name__)

LOOK_S = 1.0
# The server answers a list of participants in 3 ms (livekit-server.md 11): so a look takes at most a sixth of one core
# however many rooms there are and whatever wakes us.
REST_S, REST_PER_ROOM_S = 0.25, 0.02
AT_ONCE = 10
UNDER_WAY_S = 2.0  # the token's own dispatch is on its way so long


class Reconciler:
    """Sees to it that every room has one agent. Safe with many of them.

    Args:
        name: Who it is, written into the leases it takes over and into the log of rooms.
        settings: What to dispatch into rooms that never had an agent (others get the one they had), and the grace.
        store: For the calls.
        leases: For the rooms.
        admin: The server's API.
        wake: What makes it look sooner than at its next poll; None: nothing.
        clock: Seconds that only grow.

    Attributes:
        notes: What it notes in the log of rooms.
        busy: The rooms whose customers wait for a line.
    """

    def __init__(
        self,
        name: str,
        settings: VoiceSettings,
        store: Store,
        leases: Leases,
        admin: RoomAdmin,
        wake: Wake | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._agent_name = settings.agent_name
        self._store, self._leases, self._admin = store, leases, admin
        self._wake, self._clock = wake, clock
        self._evidence = Evidence(leases, name, clock)
        self.notes = Notes(store, name)
        self.busy = BusyRooms(self.notes, leases, admin)
        self._healer = Healer(name, settings, store, leases, admin, self._evidence, self.busy, self.notes, clock)
        self._sightings = Sightings(clock)
        self._waiting: dict[str, float] = {}  # room → since when it was seen without a lease
        self._look_at = float("-inf")  # not before
        self._tasks = Tasks()

    async def heal(self, room: str, *, proven_dead: str | None = None) -> bool:
        """As `Healer.heal`: at once, for whoever knows that a room's agent has died."""
        return await self._healer.heal(room, proven_dead=proven_dead)

    async def run(self) -> None:
        """Look until cancelled, whatever happens."""
        over = asyncio.Event()
        stamping = asyncio.create_task(self._stamp_until(over), name="stamp")
        try:
            while True:
                pause_s = await self._look_or_say_why()
                await (self._wake.wait(pause_s) if self._wake else asyncio.sleep(pause_s))
        finally:
            over.set()
            await stamping  # not cancelled: a write that is under way in its thread would come after the release
            with contextlib.suppress(StoreUnavailable):
                self._evidence.close()

    async def _stamp_until(self, over: asyncio.Event) -> None:
        while not over.is_set():
            await self._stamp()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), STAMP_S)

    async def _stamp(self) -> None:
        """Show that the store takes writes; where it does not, nothing is proven and nothing seen so far counts."""
        try:
            await asyncio.to_thread(self._evidence.stamp)
            return
        except StoreUnavailable as e:
            log.warning("no lease that runs out proves anything for now", extra={"why": e.reason})
        except Exception:
            log.exception("the reconciler could not write")
        self._forget()

    async def _look_or_say_why(self) -> float:
        try:
            return await self.look()
        except (StoreUnavailable, ServerSilent) as e:
            log.warning("the reconciler waits", extra={"why": str(e)})
        except Exception:
            log.exception("the reconciler could not look")
        self._forget()
        return LOOK_S

    def _forget(self) -> None:
        self._sightings.forget()
        self._waiting.clear()
        self._healer.forget()

    async def look(self) -> float:
        """Look once and start what is due; returns in how many seconds to look again.

        Raises:
            StoreUnavailable: The store did not answer.
            ServerSilent: The server did not answer.
        """
        rows = {r.name: r for r in await asyncio.to_thread(self._leases.rows, taken=True)}
        for name, lease in rows.items():
            if name.startswith("room:") and lease.remaining_s < 0:
                self._start_healing(name.removeprefix("room:"))
        if (rest_s := self._look_at - self._clock()) > 0:
            return rest_s
        rooms = await self._admin.rooms()
        self._look_at = self._clock() + max(REST_S, REST_PER_ROOM_S * len(rooms))
        due_s = min(await self._look_at_holders(rooms, rows), await self._look_for_waiting(rooms, rows))
        return max(min(LOOK_S, due_s), self._look_at - self._clock(), 0.0)

    def _start_healing(self, room: str, proven_dead: str | None = None, goodbye: bool = False) -> None:
        async def heal() -> None:
            try:
                await self._healer.heal(room, proven_dead=proven_dead, goodbye=goodbye)
            except StoreUnavailable as e:
                log.warning("a room waits for the store", extra={"room": room, "why": e.reason})

        self._tasks.spawn(heal())  # one that takes long must keep neither the others nor our own writes from happening

    async def _look_at_holders(self, rooms: Sequence[api.Room], rows: Mapping[str, Lease]) -> float:
        """Find holders who are not there and agents whom their holder does not evict."""
        held = [(r, row) for r in rooms if (row := rows.get(lease_name(r.name))) is not None]
        held = [(room, row) for room, row in held if row.live and row.state == LeaseState.HELD]
        self._sightings.keep({room.name for room, _ in held})
        at_once = asyncio.Semaphore(AT_ONCE)
        silent: dict[str, str] = {}

        async def people(room: str) -> list[api.ParticipantInfo] | None:
            async with at_once:
                try:
                    return await self._admin.participants(room)
                except ServerSilent as e:  # one room whose node is gone must not keep the others from being seen to
                    silent[room] = e.reason
                    return None

        due_s = float("inf")
        seen = await asyncio.gather(*(people(room.name) for room, _ in held))
        if silent:
            some = sorted(silent)[:3]
            about = {"rooms": len(silent), "of": len(held), "some": some, "why": silent[some[0]]}
            log.warning("who is in some rooms is not known", extra=about)
        for (room, lease), here in zip(held, seen, strict=True):
            if here is None:
                self._sightings.forget(room.name)
                continue
            found = self._sightings.saw(room, lease, here)
            due_s = min(due_s, found.due_s)
            if found.absent:
                log.warning("a holder is not in its room", extra={"room": room.name, "holder": lease.owner})
                self._start_healing(room.name, proven_dead=lease.owner)
            elif found.rivals:
                self._tasks.spawn(self._evict(room.name, lease, {p.sid for p in found.rivals}))
        return due_s

    async def _evict(self, room: str, lease: Lease, sids: set[str]) -> None:
        """Remove agents that the holder should have removed; who holds and who is there is looked up again."""
        try:
            row = await asyncio.to_thread(self._leases.read, lease.name)
            if row is None or not row.live or (row.fence, row.nonce) != (lease.fence, lease.nonce):
                return
            for p in await self._admin.participants(room):
                if p.sid in sids and is_agent(p) and lease.owner not in (p.identity, p.attributes.get(ON_BEHALF)):
                    await self._admin.remove(room, p.identity)
                    why = f"{lease.owner} holds the room with fence {lease.fence} and did not evict it"
                    theirs = fence_of(p.attributes)
                    self.notes.add(RoomEvent.EVICTED, room, theirs=p.identity, their_fence=theirs, why=why)
        except (ServerSilent, StoreUnavailable) as e:
            log.error("a rival agent could not be evicted yet", extra={"room": room, "why": str(e)})

    async def _look_for_waiting(self, rooms: Sequence[api.Room], rows: Mapping[str, Lease]) -> float:
        """Find customers whose dispatch was lost or who wait for a line, and calls that were left without an agent."""
        marks = {r.name: room_marks(r.metadata) or {} for r in rooms}
        ours = [r for r in rooms if RoomMark.DESK in marks[r.name]]
        left = await asyncio.to_thread(rooms_of_open_calls, self._store)
        left = [r for r in left if not r.startswith(OWN_ROOMS)]  # no room of a server: a program holds that call

        def needs_one(room: str) -> bool:
            lease = rows.get(lease_name(room))
            at_it = lease is not None and lease.state == LeaseState.TAKEOVER and lease.remaining_s > 0
            return not at_it and (lease is None or not lease.live)

        serve, over, served = self.busy.due(ours, rows, self._agent_name)
        for room in serve:
            self._start_healing(room)
        for room in over:
            self._start_healing(room, goodbye=True)
        for room in served:
            self._tasks.spawn(self.busy.unmark(room))
        waiting = {r.name for r in ours if RoomMark.BUSY not in marks[r.name]} | set(left)
        now = self._clock()
        in_line = {r.name for r in ours if RoomMark.BUSY in marks[r.name]}
        self._waiting = {r: self._waiting.get(r, now) for r in waiting - in_line if needs_one(r)}
        due = {r: 0.0 if r in left else since + UNDER_WAY_S - now for r, since in self._waiting.items()}
        for room in (r for r, wait_s in due.items() if wait_s <= 0):
            self._start_healing(room)
        return min((wait_s for wait_s in due.values() if wait_s > 0), default=float("inf"))
