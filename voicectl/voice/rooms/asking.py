"""Asking for an agent until one claims the room: dispatches with a limit and back-off, and none left behind.

Not here: whether the room needs one (healing.py), how an offer is answered (voice/offers.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from voicectl.memory.errors import FencedOut
from voicectl.memory.room_log import RoomEvent
from voicectl.memory.store.leases import Grant, Lease, Leases, LeaseState
from voicectl.voice.errors import ServerSilent
from voicectl.voice.rooms.admin import RoomAdmin, is_human
from voicectl.voice.rooms.notes import Notes

log = logging.getLogger(__name__)

TAKEOVER_TTL_S = 5.0
CLAIM_LOOK_S = 0.05
# A claim comes 0.25 s after the dispatch. The server waits 10 s for a worker whose process group stands still, its
# websocket being open, and asks nobody else (livekit-server.md 5): with two workers every second dispatch is lost so.
# Hence a new one soon, beside those under way and not instead of them: an offer more is refused and costs nothing,
# withdrawing one may end the job that has just claimed. Six are made in 2.5 s: all lost so in 1 of 64 cases.
GAPS_S = (0.5, 0.5, 0.5, 0.5, 0.5, 1.0, 2.0, 4.0)


class Asking:
    """Dispatches agents into rooms that were taken over.

    Args:
        notes: For the log of the room.
        leases: Where a claim is seen.
        admin: The server's API.
        gaps_s: How long a claim is waited for after each dispatch, in seconds.
    """

    def __init__(self, notes: Notes, leases: Leases, admin: RoomAdmin, gaps_s: Sequence[float] = GAPS_S) -> None:
        self._notes, self._leases, self._admin, self._gaps_s = notes, leases, admin, gaps_s

    async def ask(self, grant: Grant, room: str, agent_name: str, metadata: dict[str, str]) -> bool | None:
        """Dispatch until an agent has claimed the room, the customer has left, or the limit is reached.

        Args:
            grant: The room's lease, in takeover: nobody else asks meanwhile.
            room: The room's name.
            agent_name: Which agent.
            metadata: What its job is told.

        Returns:
            Whether one has claimed it; None: the customer has left meanwhile.

        Raises:
            FencedOut: It was claimed and given back at once, or another reconciler has it: somebody else's turn.
            StoreUnavailable: The store did not answer.
        """
        made: list[str] = []
        for number, gap_s in enumerate(self._gaps_s, 1):
            try:
                if number > 1 and not await self._somebody_waits(room):
                    await asyncio.to_thread(self._leases.release, grant)
                    await self._tidy(room, made, None)
                    return None
                made.append(await self._admin.dispatch(room, agent_name, metadata))
                self._note(RoomEvent.DISPATCHED, room, grant, f"{number} of {len(self._gaps_s)}")
            except ServerSilent as e:
                self._note(RoomEvent.UNCLAIMED, room, grant, f"{number} of {len(self._gaps_s)}: {e}")
            if (holder := await self._claimed(grant, gap_s)) is not None:
                await self._tidy(room, made, holder)
                return True
            self._note(RoomEvent.UNCLAIMED, room, grant, f"{number} of {len(self._gaps_s)}: {gap_s} s")
        self._note(RoomEvent.GAVE_UP, room, grant, f"nobody claimed it after {len(made)} dispatches")
        await self._tidy(room, made, None)
        return False

    async def _somebody_waits(self, room: str) -> bool:
        return any(is_human(p) for p in await self._admin.participants(room))

    async def _claimed(self, grant: Grant, within_s: float) -> Lease | None:
        """The lease of whoever has claimed the room within this time."""
        loop = asyncio.get_running_loop()
        end = loop.time() + within_s
        try:
            await asyncio.to_thread(self._leases.renew, grant, TAKEOVER_TTL_S)
        except FencedOut:
            end = loop.time()  # by whom, the row says
        while True:
            row = await asyncio.to_thread(self._leases.read, grant.name)
            if row is not None and row.live:
                return row
            if row is None or (row.fence, row.nonce) != (grant.fence, grant.nonce) or row.state != LeaseState.TAKEOVER:
                raise FencedOut(grant.name, grant.fence, row.fence if row else 0)
            if loop.time() >= end:
                return None
            await asyncio.sleep(CLAIM_LOOK_S)

    async def _tidy(self, room: str, made: list[str], holder: Lease | None) -> None:
        """Withdraw what nobody needs any more, never the holder's dispatch: where that is not known, nothing.

        The server files a job up to 5 s after it began (livekit-server.md 5). What stays goes with the room.
        """
        if not made or (holder is not None and len(made) == 1):
            return
        try:
            listed = {d.id: [j.id for j in d.state.jobs] for d in await self._admin.dispatches(room)}
            if holder is not None:
                job = holder.owner.split("-", 1)[-1]
                keep = {i for i, jobs in listed.items() if job in jobs}
                if not keep:
                    return
                made = [i for i in made if i not in keep]
            for one in made:
                await self._admin.delete_dispatch(room, one)
        except ServerSilent as e:
            log.info("dispatches that nobody needs stay", extra={"room": room, "why": e.reason})

    def _note(self, event: RoomEvent, room: str, grant: Grant, why: str) -> None:
        self._notes.add(event, room, our_fence=grant.fence, why=why)
