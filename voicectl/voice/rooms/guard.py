"""The guard in a call: the lease holder stays, everybody else who is an agent goes.

Kind decides who is an agent, never a name; a participant publishing on behalf of us (an avatar) is not a rival. The row
in the store decides who holds the room, never what agents say of themselves: that counts only while the store is away,
and then only against ourselves. While the store is away, or our lease is not live, nobody is evicted.
Not here: the lease (registry.py), rooms without a holder or with a frozen one (reconciler.py), jobs without a lease
(standing.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from livekit import rtc
from livekit.rtc.room import EventTypes

from voicectl.memory.errors import StoreUnavailable
from voicectl.memory.room_log import RoomEvent
from voicectl.memory.store.engine import Store
from voicectl.memory.store.leases import Lease, LeaseState
from voicectl.voice.errors import ServerSilent
from voicectl.voice.rooms.admin import ON_BEHALF as ON_BEHALF
from voicectl.voice.rooms.admin import RoomAdmin, fence_of, is_agent
from voicectl.voice.rooms.notes import Notes
from voicectl.voice.rooms.registry import Keeper

log = logging.getLogger(__name__)

# A rival is to be gone 3 s after it came. Who publishes nothing is announced up to 2.8 s late (livekit-server.md, 10),
# so the server is asked too: 0.8 s. A fenced-out agent learns it at its next renewal, 1.0 s, and leaves by itself:
# 1.2 s. Reading the row and removing take 0.05 s, up to 0.8 s while others write.
LOOK_S = 0.8
GRACE_S = 1.2
AGAIN_S, LONGEST_S = 0.25, 1.0  # after a look that could not be finished; 1.0 s: the store may be back at any time
SILENT = 2  # reads that failed one after another before the store counts as away, and attributes as proof
EVENTS: tuple[EventTypes, ...] = ("participant_connected", "participant_attributes_changed", "reconnected")


def is_rival(participant: rtc.RemoteParticipant, own_identity: str) -> bool:
    """Whether a participant is another agent that speaks for itself."""
    if participant.kind != rtc.ParticipantKind.PARTICIPANT_KIND_AGENT or participant.identity == own_identity:
        return False
    return participant.attributes.get(ON_BEHALF) != own_identity


@dataclass(frozen=True)
class Rival:
    """Another agent in the room, as it was seen. The fence is its own word; 0: it names none."""

    sid: str
    identity: str
    fence: int


class Guard:
    """Keeps rivals out of the room of a lease holder.

    Args:
        room: The connected room.
        admin: The server's API.
        keeper: Our lease of the room.
        store: For the log of the room.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        room: rtc.Room,
        admin: RoomAdmin,
        keeper: Keeper,
        store: Store,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._room, self._admin, self._keeper, self._clock = room, admin, keeper, clock
        self._me = room.local_participant.identity
        self.notes = Notes(store, self._me)
        self._since: dict[str, float] = {}  # sid → since when it is seen
        self._refuted: set[tuple[str, int]] = set()  # sid and fence: the store knew better
        self._silent = 0
        self._pause_s = AGAIN_S
        self._changed = asyncio.Event()

    async def stand(self, lost: asyncio.Event) -> None:
        """Guard the room until `lost` is set, by whomever; sets it when the room turns out to be another agent's."""
        for name in EVENTS:
            self._room.on(name, self._stir)
        try:
            while not lost.is_set():
                self._changed.clear()
                pause_s = await _unless(lost, self._guarded_look(lost))
                await _first_of(pause_s, self._changed, lost)
        finally:
            for name in EVENTS:
                self._room.off(name, self._stir)

    def _stir(self, *about: Any) -> None:
        """Look at once, but not for what humans do, nor for our own attributes, which change with every turn."""
        who = about[-1] if about else None
        is_agent_there = getattr(who, "kind", None) == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
        if who is None or (is_agent_there and who.identity != self._me):
            self._changed.set()

    async def _guarded_look(self, lost: asyncio.Event) -> float:
        try:
            return await self.look(lost)
        except Exception:
            log.exception("the guard could not look", extra={"room": self._room.name})
            return LOOK_S

    async def look(self, lost: asyncio.Event) -> float:
        """See who is there, and do what is due; returns in how many seconds to look again."""
        rivals = await self._rivals()
        now = self._clock()
        for r in rivals:
            if r.sid not in self._since:
                log.warning("another agent is in the room", extra={"rival": r.identity, "fence": r.fence})
        self._since = {r.sid: self._since.get(r.sid, now) for r in rivals}
        due = [r for r in rivals if now - self._since[r.sid] >= GRACE_S]
        claims = [r for r in rivals if r.fence > self._keeper.fence and (r.sid, r.fence) not in self._refuted]
        if (due or claims) and not await self._judge(due, claims, lost):
            self._pause_s = min(2 * self._pause_s, LONGEST_S)
            return self._pause_s
        self._pause_s = AGAIN_S
        return max(min([LOOK_S, *(self._since[r.sid] + GRACE_S - now for r in rivals if r not in due)]), 0.0)

    async def _judge(self, due: list[Rival], claims: list[Rival], lost: asyncio.Event) -> bool:
        """Ask the store who holds the room, and act; False: this must be tried again."""
        ours = self._keeper.fence
        if ours == 0:
            return False  # the store was away from the beginning: standing.py decides until the lease is ours
        try:
            row = await asyncio.to_thread(self._keeper.row)
        except StoreUnavailable as e:
            self._silent += 1
            log.warning("nobody is evicted while the store is away", extra={"why": e.reason})
            if claims and self._silent >= SILENT:
                self._leave(claims[0].identity, claims[0].fence, "its attribute says so; the store is away", lost)
            return False
        self._silent = 0
        if row is not None and row.owner != self._me and row.fence > ours:
            self._leave(row.owner, row.fence, f"the store says so: {row.state}", lost)
            return True
        if not _holds(row, self._me, ours):
            return False  # our lease was not renewed in time, or somebody edited the row: the next renewal will tell
        self._refuted |= {(r.sid, r.fence) for r in claims}
        return await self._evict({r.sid for r in due})

    async def _evict(self, sids: set[str]) -> bool:
        """Remove who is there and a rival in a look of just now: others have left, or were avatars after all."""
        listed = await self._listed() if sids else []
        if listed is None:
            return False
        for rival in (r for r in listed if r.sid in sids):
            try:
                await self._admin.remove(self._room.name, rival.identity)
            except ServerSilent as e:
                log.error("a rival agent could not be evicted yet", extra={"rival": rival.identity, "why": e.reason})
                return False
            self._note(RoomEvent.EVICTED, rival.identity, rival.fence, "it has not the room's lease")
        return True

    def _leave(self, theirs: str, their_fence: int, why: str, lost: asyncio.Event) -> None:
        self._note(RoomEvent.FENCED_OUT, theirs, their_fence, why)
        lost.set()

    def _note(self, event: RoomEvent, theirs: str, their_fence: int, why: str) -> None:
        ours = self._keeper.fence
        self.notes.add(event, self._room.name, our_fence=ours, theirs=theirs, their_fence=their_fence, why=why)

    async def _rivals(self) -> list[Rival]:
        listed = await self._listed()
        if listed is not None:
            return listed
        seen = self._room.remote_participants.values()
        return [Rival(p.sid, p.identity, fence_of(p.attributes)) for p in seen if is_rival(p, self._me)]

    async def _listed(self) -> list[Rival] | None:
        """Who the server says is a rival; None: it says nothing."""
        try:
            people = await self._admin.participants(self._room.name)
        except ServerSilent as e:
            log.info("the guard sees only what the room tells", extra={"why": e.reason})
            return None
        return [
            Rival(p.sid, p.identity, fence_of(p.attributes))
            for p in people
            if is_agent(p) and self._me not in (p.identity, p.attributes.get(ON_BEHALF))
        ]


def _holds(row: Lease | None, owner: str, fence: int) -> bool:
    return row is not None and row.live and (row.state, row.owner, row.fence) == (LeaseState.HELD, owner, fence)


async def _unless(lost: asyncio.Event, look: Coroutine[Any, Any, float]) -> float:
    """What a look says; 0.0 when `lost` is set before it says anything: a server that hangs must not keep us here."""
    looking, leaving = asyncio.create_task(look), asyncio.create_task(lost.wait())
    try:
        await asyncio.wait((looking, leaving), return_when=asyncio.FIRST_COMPLETED)
        return looking.result() if looking.done() else 0.0
    finally:
        looking.cancel()
        leaving.cancel()
        await asyncio.gather(looking, leaving, return_exceptions=True)


async def _first_of(at_most_s: float, *events: asyncio.Event) -> None:
    waiting = [asyncio.create_task(e.wait()) for e in events]
    try:
        await asyncio.wait(waiting, timeout=at_most_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*waiting, return_exceptions=True)
