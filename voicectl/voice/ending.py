"""The one way a call ends: marked ending, last words heard, turns durable, room deleted, lease given back, job over.

Only the lease holder deletes the room; a call that is handed over keeps its room, its record and its customer.
Not here: who decides that it ends (call.py).
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from livekit import api

from voicectl.memory import calls
from voicectl.memory.calls import Call
from voicectl.memory.errors import FencedOut, StoreUnavailable
from voicectl.memory.recorder import Recorder
from voicectl.memory.store.engine import Store
from voicectl.voice.config import VoiceSettings
from voicectl.voice.errors import ServerSilent
from voicectl.voice.events import EndReason
from voicectl.voice.rooms.admin import RoomAdmin, is_human, room_admin
from voicectl.voice.rooms.registry import Keeper

log = logging.getLogger(__name__)

LEFT = (EndReason.CUSTOMER_LEFT, EndReason.CONNECTION_LOST)


@dataclass
class Ending:
    """What has to be wound up, and how.

    Args:
        settings: For the server.
        store: For the call.
        call: The call.
        room: The room's name.
        recorder: Its turns.
        keeper: Its lease.

    Attributes:
        begun: Somebody asked for the end.
        leases_away: The lease could not be moved, because the store does not answer.
    """

    settings: VoiceSettings
    store: Store
    call: Call
    room: str
    recorder: Recorder
    keeper: Keeper
    begun: bool = field(default=False, init=False)
    leases_away: bool = field(default=False, init=False)

    async def begin(self, reason: EndReason) -> bool:
        """Commit that the call is ending; False when it already was, or is another job's."""
        self.begun = True
        if not self.call.stored:
            return True  # there is no record to mark; its journal is stored, and the call then abandoned
        try:
            return await asyncio.to_thread(calls.begin_ending, self.store, self.call, reason)
        except FencedOut:
            return False
        except StoreUnavailable as e:
            log.warning("the ending was not committed first", extra={"why": e.reason})
            return True

    async def close_line(self) -> None:
        """From here the room takes no agent, and the line is free for the next caller while this one is wound up."""
        try:
            await asyncio.to_thread(self.keeper.begin_closing)
        except StoreUnavailable as e:
            self.leases_away = True
            log.warning("the line stays busy until its lease runs out", extra={"why": e.reason})

    async def wind_up(self, reason: EndReason) -> None:
        """After the last word: turns durable, then the room and the lease, as far as they are ours."""
        await asyncio.to_thread(self.recorder.close)
        if reason == EndReason.FENCED_OUT:
            await release(self.keeper)  # where it is still ours, because somebody put us out: a successor comes at once
            return
        if reason != EndReason.HANDED_OVER and not await self._close_room(reason):
            self.keeper.stop()  # not given back: no agent may come to this room, and a reconciler deletes it
            return
        await release(self.keeper)

    async def _close_room(self, reason: EndReason) -> bool:
        """End the call's record and the room, as far as they are ours; False: the room is to go and is there."""
        try:
            await asyncio.to_thread(calls.finish, self.store, self.call, reason)
        except FencedOut as e:
            log.warning("the call is another job's", extra={"why": str(e)})
            return True
        except StoreUnavailable as e:
            # The customer must not sit in a room that is over, where a new agent would come to. Its record is closed by
            # the reconciler once the store answers and nobody has been there for the grace.
            log.error("the call stays open in the store for now", extra={"why": e.reason})
        try:
            async with room_admin(self.settings) as admin:
                if reason in LEFT and any(is_human(p) for p in await admin.participants(self.room)):
                    log.info("the customer came back while the call was wound up; the room stays for a new one")
                elif self.keeper.closing or await self._only_agent(admin):
                    await admin.delete_room(self.room)
        except ServerSilent as e:
            log.error("the room was not deleted", extra={"why": str(e)})
            return not self.keeper.fence
        return True

    async def _only_agent(self, admin: RoomAdmin) -> bool:
        """Without the store nobody has a lease; who is the only agent may still end what it began."""
        if self.keeper.fence and not self.leases_away:
            return False
        people = await admin.participants(self.room)
        return sum(p.kind == api.ParticipantInfo.Kind.AGENT for p in people) <= 1


async def release(keeper: Keeper) -> None:
    """Give the room's lease back; with the store away it runs out by itself."""
    try:
        await asyncio.to_thread(keeper.release)
    except StoreUnavailable as e:
        log.warning("the lease runs out by itself", extra={"why": e.reason})


async def leave_empty(settings: VoiceSettings, room: str, keeper: Keeper) -> None:
    """Take a room along that no customer came to; only if the server says that nobody is there."""
    try:
        async with room_admin(settings) as admin:
            people = await admin.participants(room)
            if not any(is_human(p) for p in people) and await asyncio.to_thread(keeper.begin_closing):
                await admin.delete_room(room)
    except ServerSilent as e:
        log.warning("an empty room stays", extra={"room": room, "why": str(e)})
    await release(keeper)
