"""The reconciler: a customer in a room without a live agent gets one. Fence, evict, dispatch, in this order.

Safe with many of them: the lease is taken over by compare-and-set, so one of many acts. An error of the API is never
"empty"; nothing is evicted by age. Not here: offers and renewal (registry.py), rivals of a live holder (guard.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from voicectl.memory.alone import OWN_ROOMS
from voicectl.memory.calls import CallState, abandon, open_call_of_room, rooms_of_open_calls
from voicectl.memory.errors import FencedOut, StoreUnavailable
from voicectl.memory.recorder import replay_left_journals
from voicectl.memory.store.engine import Store
from voicectl.memory.store.leases import Lease, Leases, LeaseState
from voicectl.voice.config import VoiceSettings
from voicectl.voice.errors import ServerSilent
from voicectl.voice.events import RoomMark
from voicectl.voice.rooms.admin import RoomAdmin, is_human
from voicectl.voice.rooms.evidence import Evidence
from voicectl.voice.rooms.registry import lease_name

log = logging.getLogger(__name__)

POLL_S = 0.5
LOOK_S = 1.0
UNDER_WAY_S = 2.0  # the token's own dispatch is on its way so long
TAKEOVER_TTL_S = 5.0
CLAIM_WITHIN_S = 2.0
ATTEMPTS = 5
WINDOW_S = 60.0


class Reconciler:
    """Heals rooms. Every worker and control plane runs one.

    Args:
        name: Who it is, written into the leases it takes over.
        settings: What to dispatch into rooms that never had an agent (others get the one they had), and the grace.
        store: For the calls.
        leases: For the rooms.
        admin: The server's API.
    """

    def __init__(self, name: str, settings: VoiceSettings, store: Store, leases: Leases, admin: RoomAdmin) -> None:
        self._name = name
        self._agent_name = settings.agent_name
        self._grace_s = settings.reconnect_grace_s
        self._journals = settings.home / "journal"
        self._store = store
        self._leases = leases
        self._admin = admin
        self._evidence = Evidence(leases, name)
        self._healing: set[str] = set()
        self._tried: dict[str, list[float]] = {}  # room → when it was healed lately
        self._empty: dict[str, float] = {}  # room → since when nobody is there
        self._waiting: dict[str, float] = {}  # room → since when it was seen without a lease

    async def run(self) -> None:
        """Watch for leases that run out and for customers who wait, until cancelled."""
        try:
            await self._watch()
        finally:
            with contextlib.suppress(StoreUnavailable):
                self._evidence.close()

    async def _watch(self) -> None:
        look_again = 0.0
        while True:
            try:
                await self._sweep()
                if time.monotonic() >= look_again:
                    await self._look_for_waiting()
                    look_again = time.monotonic() + LOOK_S
            except StoreUnavailable as e:
                log.warning("the reconciler waits for the store", extra={"why": e.reason})
            except ServerSilent as e:
                log.warning("the reconciler waits for the server", extra={"why": str(e)})
            await asyncio.sleep(POLL_S)

    async def _sweep(self) -> None:
        await asyncio.to_thread(self._evidence.stamp)
        for lease in await asyncio.to_thread(self._leases.rows):
            if lease.name.startswith("room:") and self._dead(lease):
                await self.heal(lease.name.removeprefix("room:"))

    async def _look_for_waiting(self) -> None:
        """Find customers whose dispatch was lost, and calls that an earlier process left without an agent."""
        rooms = [r.name for r in await self._admin.rooms() if RoomMark.DESK in r.metadata]
        leases = {r.name: r for r in await asyncio.to_thread(self._leases.rows)}
        left = await asyncio.to_thread(rooms_of_open_calls, self._store)
        left = [r for r in left if not r.startswith(OWN_ROOMS)]  # no room of a server: a program holds that call
        waiting = {r for r in rooms if lease_name(r) not in leases}
        waiting |= {r for r in left if (lease := leases.get(lease_name(r))) is None or not lease.live}
        now = time.monotonic()
        self._waiting = {name: self._waiting.get(name, now) for name in waiting}
        for name, since in self._waiting.items():
            if now - since >= UNDER_WAY_S or name in left:
                await self.heal(name)

    def _dead(self, lease: Lease) -> bool:
        return lease.state != LeaseState.FREE and lease.remaining_s < 0

    def _nothing_proven(self, lease: Lease) -> bool:
        """Whether this lease may have run out because the store stood still."""
        return lease.state != LeaseState.FREE and not self._evidence.proves

    async def heal(self, room: str, *, proven_dead: str | None = None) -> bool:
        """Give a room's customer a new agent, if there is a customer and no live agent.

        Args:
            room: The room's name.
            proven_dead: Identity of an agent whose process is known to have ended; its lease need not have expired.

        Returns:
            Whether a new agent claimed the room.

        Raises:
            StoreUnavailable: The store did not answer; nothing was done.
        """
        if room in self._healing:
            return False
        self._healing.add(room)
        try:
            return await self._heal(room, proven_dead)
        except ServerSilent as e:
            log.error("a room could not be healed", extra={"room": room, "why": str(e)})
            return False
        finally:
            self._healing.discard(room)

    async def _heal(self, room: str, proven_dead: str | None) -> bool:
        lease = await asyncio.to_thread(self._leases.read, lease_name(room))
        if lease is not None and lease.owner != proven_dead and (lease.live or self._nothing_proven(lease)):
            return False
        state = await asyncio.to_thread(open_call_of_room, self._store, room)
        if state is None and lease is not None and lease.state == LeaseState.FREE:
            return False  # it ended as it should
        people = await self._admin.participants(room)
        if not any(is_human(p) for p in people):
            await self._nobody_there(room, lease)
            return False
        self._empty.pop(room, None)
        if not self._may_try(room):
            return False
        if state == CallState.ENDING:
            log.warning("a call died while it was ending; deleting its room", extra={"room": room})
            await self._admin.delete_room(room)
            return False
        dead = lease.owner if lease is not None and lease.state != LeaseState.TAKEOVER else None
        if lease is not None and lease.state in (LeaseState.HELD, LeaseState.ACCEPTED):
            try:
                await asyncio.to_thread(
                    self._leases.take_over, lease, self._name, TAKEOVER_TTL_S, proven_dead=lease.owner == proven_dead
                )
            except FencedOut:
                return False  # another reconciler, or the owner after all
        log.warning("taking a room over", extra={"room": room, "from": dead, "fence": lease.fence if lease else 0})
        if dead is not None and any(p.identity == dead for p in people):
            await self._admin.remove(room, dead)
        agent_name = (lease.note if lease is not None else "") or self._agent_name
        for attempt in range(ATTEMPTS):
            await self._admin.dispatch(room, agent_name, {"takeover": "1"})
            if await self._claimed(room):
                return True
            log.warning("nobody claimed the room", extra={"room": room, "attempt": attempt + 1})
        return False

    def _may_try(self, room: str) -> bool:
        """An agent that fails at once, again and again, is not dispatched in a loop."""
        now = time.monotonic()
        tried = [t for t in self._tried.get(room, []) if now - t < WINDOW_S]
        self._tried[room] = tried
        if len(tried) >= ATTEMPTS:
            return False
        tried.append(now)
        return True

    async def _nobody_there(self, room: str, lease: Lease | None) -> None:
        """End the call of a room that has had neither customer nor live agent for the grace, and free its lease."""
        since = self._empty.setdefault(room, time.monotonic())
        if time.monotonic() - since < self._grace_s:
            return
        fence = lease.fence if lease is not None else 0
        if lease is not None and lease.state != LeaseState.FREE:
            try:
                await asyncio.to_thread(self._leases.free_expired, lease)
            except FencedOut:
                return  # it is somebody's after all
        # What its dead job could not bring into the store is written before the call ends: afterwards it is refused.
        await asyncio.to_thread(replay_left_journals, self._store, self._journals)
        if await asyncio.to_thread(abandon, self._store, room, fence):
            log.warning("a call was abandoned", extra={"room": room})
        self._empty.pop(room, None)

    async def _claimed(self, room: str) -> bool:
        deadline = time.monotonic() + CLAIM_WITHIN_S
        while time.monotonic() < deadline:
            lease = await asyncio.to_thread(self._leases.read, lease_name(room))
            if lease is not None and lease.live:
                return True
            await asyncio.sleep(0.05)
        return False
