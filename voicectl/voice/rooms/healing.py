"""One room's healing: a customer without a live agent gets one. Fence, evict, dispatch, in this order.

Safe with many of them: the lease is taken over by compare-and-set, so one of many acts. An error of the API is never
"empty"; nothing is evicted by age; where the store stood still nothing is proven.
Not here: when a room is looked at (reconciler.py), the dispatches (asking.py), who waits for a line (busy.py).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from livekit import api

from voicectl.memory.calls import CallState, abandon, open_call_of_room
from voicectl.memory.errors import FencedOut
from voicectl.memory.recorder import replay_left_journals
from voicectl.memory.room_log import RoomEvent
from voicectl.memory.store.engine import Store
from voicectl.memory.store.leases import Grant, Lease, Leases, LeaseState
from voicectl.voice.config import VoiceSettings
from voicectl.voice.errors import ServerSilent
from voicectl.voice.events import Attribute, RoomMark
from voicectl.voice.rooms.admin import RoomAdmin, is_agent, is_human, room_marks
from voicectl.voice.rooms.asking import TAKEOVER_TTL_S, Asking
from voicectl.voice.rooms.busy import BusyRooms, lines
from voicectl.voice.rooms.evidence import Evidence
from voicectl.voice.rooms.notes import Notes
from voicectl.voice.rooms.registry import CLOSING_TTL_S, NO_FENCE, lease_name

log = logging.getLogger(__name__)

ATTEMPTS = 5
WINDOW_S = 60.0
UNFENCED_S = 5.0  # an agent that came while the store was away takes the lease so soon after it is back


class Healer:
    """Heals rooms, each by one task at a time.

    Args:
        name: Who it is, written into the leases it takes over.
        settings: What to dispatch into rooms that never had an agent (others get the one they had), and the grace.
        store: For the calls.
        leases: For the rooms.
        admin: The server's API.
        evidence: Whether a lease that ran out proves anything.
        busy: Marks rooms for which there is no line.
        notes: For the log of rooms.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        name: str,
        settings: VoiceSettings,
        store: Store,
        leases: Leases,
        admin: RoomAdmin,
        evidence: Evidence,
        busy: BusyRooms,
        notes: Notes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._store, self._leases, self._admin = name, store, leases, admin
        self._agent_name, self._grace_s = settings.agent_name, settings.reconnect_grace_s
        self._journals = settings.home / "journal"
        self._evidence, self._busy, self._clock = evidence, busy, clock
        self._notes = notes
        self.asking = Asking(notes, leases, admin)
        self._healing: set[str] = set()
        self._tried: dict[str, list[float]] = {}  # room → when it was healed lately
        self._given_up: set[str] = set()
        self._empty: dict[str, float] = {}  # room → since when nobody is there
        self._unfenced: dict[str, float] = {}  # room → since when an agent without a lease is there

    def forget(self, room: str | None = None) -> None:
        """The server, of one room or of all, or the store was silent: how long somebody was gone is not known now."""
        for since in (self._empty, self._unfenced):
            if room is None:
                since.clear()
            else:
                since.pop(room, None)

    async def heal(self, room: str, *, proven_dead: str | None = None, goodbye: bool = False) -> bool:
        """Give a room's customer a new agent, if there is a customer and no live agent.

        Args:
            room: The room's name.
            proven_dead: Identity of an agent that is known not to speak any more; its lease need not have expired.
            goodbye: One that comes over capacity and says that all lines are busy.

        Returns:
            Whether a new agent claimed the room.

        Raises:
            StoreUnavailable: The store did not answer; nothing was done.
        """
        if room in self._healing:
            return False
        self._healing.add(room)
        try:
            return await self._heal(room, proven_dead, goodbye)
        except ServerSilent as e:
            self.forget(room)
            log.error("a room could not be healed", extra={"room": room, "why": str(e)})
            return False
        except FencedOut as e:
            log.info("a room is somebody else's to heal", extra={"room": room, "why": str(e)})
            return False
        finally:
            self._healing.discard(room)

    async def _heal(self, room: str, proven_dead: str | None, goodbye: bool) -> bool:
        lease = await asyncio.to_thread(self._leases.read, lease_name(room))
        if lease is not None and not self._may_act(lease, proven_dead):
            return False
        state = await asyncio.to_thread(open_call_of_room, self._store, room)
        if state is None and proven_dead is not None and (lease is None or lease.state == LeaseState.FREE):
            return False  # its job ended as it should, and the room with it
        people = await self._admin.participants(room)
        if not any(is_human(p) for p in people):
            await self._nobody_there(room, lease, state)
            return False
        self._empty.pop(room, None)
        if state == CallState.ENDING or (lease is not None and lease.state == LeaseState.CLOSING):
            await self._finish_ending(room, lease, proven_dead)
            return False
        if not self._evidence.proves and (lease is None or lease.owner != proven_dead):
            return False  # an agent may be there that could not claim or renew while the store stood still
        if self._unfenced_agent(room, people, proven_dead):
            return False
        agent_name = (lease.note if lease is not None else "") or self._agent_name
        if not goodbye and await self._no_line(agent_name, proven_dead):
            await self._busy.mark(room)
            return False
        if not await self._may_try(room, goodbye):
            return False
        grant = await self._take(room, lease, agent_name, proven_dead)
        await self._evict_dead(room, lease, grant, people)
        metadata = {"takeover": "1", **await self._desk(room), **({"busy": "1"} if goodbye else {})}
        claimed = await self.asking.ask(grant, room, agent_name, metadata)
        if claimed is False:
            await self._busy.mark(room, "no agent came")
        return bool(claimed)

    def _may_act(self, lease: Lease, proven_dead: str | None) -> bool:
        """Whether the lease leaves the room to us: free, or its owner is gone, proven by its death or its silence."""
        if lease.state == LeaseState.FREE or lease.owner == proven_dead:
            return True
        return lease.remaining_s < 0 and self._evidence.proves

    def _unfenced_agent(self, room: str, people: Sequence[api.ParticipantInfo], proven_dead: str | None) -> bool:
        """Whether an agent is there that was accepted without the store and may be about to claim the room."""
        here = [p for p in people if is_agent(p) and p.attributes.get(Attribute.FENCE) == NO_FENCE]
        if not any(p.identity != proven_dead for p in here):
            self._unfenced.pop(room, None)
            return False
        return self._clock() - self._unfenced.setdefault(room, self._clock()) < UNFENCED_S

    async def _no_line(self, agent_name: str, proven_dead: str | None) -> bool:
        rows = await asyncio.to_thread(self._leases.rows, taken=True)
        return lines(rows, agent_name, but=proven_dead).full

    async def _may_try(self, room: str, goodbye: bool) -> bool:
        """An agent that fails at once, again and again, is not dispatched in a loop; a goodbye is counted apart."""
        key = f"{room} goodbye" if goodbye else room
        now = self._clock()
        self._tried = {
            k: kept for k, times in self._tried.items() if (kept := [t for t in times if now - t < WINDOW_S])
        }
        tried = self._tried.setdefault(key, [])
        if len(tried) < ATTEMPTS:
            tried.append(now)
            self._given_up.discard(key)
            return True
        if key not in self._given_up:
            self._given_up.add(key)
            self._notes.add(RoomEvent.GAVE_UP, room, why=f"taken over {ATTEMPTS} times in {WINDOW_S:.0f} s")
            await self._busy.mark(room, "no agent stays")
        return False

    async def _take(self, room: str, lease: Lease | None, agent_name: str, proven_dead: str | None) -> Grant:
        """The room's lease in takeover, ours alone.

        Raises:
            FencedOut: Another reconciler's, or its owner's after all.
        """
        name, ttl_s = lease_name(room), TAKEOVER_TTL_S
        if lease is None:
            return await asyncio.to_thread(self._leases.take_new, name, self._name, ttl_s, note=agent_name)
        if lease.fence == 0:  # words where a number belongs, by hand: no row can be compared with them
            state = LeaseState.TAKEOVER
            return await asyncio.to_thread(self._leases.claim, name, self._name, ttl_s, state, note=agent_name)
        is_dead = lease.owner == proven_dead
        return await asyncio.to_thread(self._leases.take_over, lease, self._name, ttl_s, proven_dead=is_dead)

    async def _evict_dead(
        self, room: str, lease: Lease | None, grant: Grant, people: Sequence[api.ParticipantInfo]
    ) -> None:
        """Remove exactly the agent named in the row that was replaced: the server would show it for 22 s."""
        if lease is None or lease.state not in (LeaseState.HELD, LeaseState.ACCEPTED):
            return
        why = f"its lease was {lease.state}, {lease.remaining_s:.1f} s were left"
        about: dict[str, Any] = {"our_fence": grant.fence, "theirs": lease.owner, "their_fence": lease.fence}
        self._notes.add(RoomEvent.TAKEOVER, room, why=why, **about)
        if any(p.identity == lease.owner for p in people):
            await self._admin.remove(room, lease.owner)
            self._notes.add(RoomEvent.EVICTED, room, why="its lease was taken over", **about)

    async def _desk(self, room: str) -> dict[str, str]:
        """What the customer chose: an open call knows it, but its store may be slow when the new job asks."""
        found = await self._admin.room(room)
        desk = (room_marks(found.metadata) or {}).get(RoomMark.DESK) if found is not None else None
        return {"desk": desk} if isinstance(desk, str) else {}

    async def _finish_ending(self, room: str, lease: Lease | None, proven_dead: str | None) -> None:
        """Delete a room whose agent died while it ended the call; refusing claims meanwhile, as it would have done."""
        if lease is not None and lease.owner == proven_dead and lease.live:
            await asyncio.to_thread(self._leases.take_over, lease, self._name, TAKEOVER_TTL_S, proven_dead=True)
        closing = (lease_name(room), self._name, CLOSING_TTL_S, LeaseState.CLOSING)
        grant = await asyncio.to_thread(self._leases.claim, *closing, note=lease.note if lease else self._agent_name)
        log.warning("a call died while it was ending; deleting its room", extra={"room": room})
        await self._admin.delete_room(room)
        await asyncio.to_thread(self._leases.release, grant)

    async def _nobody_there(self, room: str, lease: Lease | None, state: str | None) -> None:
        """End the call of a room that has had neither customer nor live agent for the grace, and free its lease."""
        if state is None and (lease is None or lease.state == LeaseState.FREE):
            return
        since = self._empty.setdefault(room, self._clock())
        if self._clock() - since < self._grace_s:
            return
        if lease is not None and lease.state != LeaseState.FREE:
            await asyncio.to_thread(self._leases.free_expired, lease)
        # What its dead job could not bring into the store is written before the call ends: afterwards it is refused.
        await asyncio.to_thread(replay_left_journals, self._store, self._journals)
        if await asyncio.to_thread(abandon, self._store, room, lease.fence if lease is not None else 0):
            log.warning("a call was abandoned", extra={"room": room})
        self._empty.pop(room, None)
