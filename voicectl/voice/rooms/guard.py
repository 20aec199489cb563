"""The guard in a call: the lease holder stays, everybody else who is an agent goes.

Kind decides who is an agent, never a name; a participant publishing on behalf of us (an avatar) is not a rival.
Not here: the lease (registry.py), rooms without a holder (reconciler.py).
"""

from __future__ import annotations

import asyncio
import logging

from livekit import rtc

from voicectl.voice.errors import ServerSilent
from voicectl.voice.events import Attribute
from voicectl.voice.rooms.admin import RoomAdmin

log = logging.getLogger(__name__)

GRACE_S = 2.0  # a fenced-out agent leaves by itself in this time; then the holder evicts it
ON_BEHALF = "lk.publish_on_behalf"


def is_rival(participant: rtc.RemoteParticipant, own_identity: str) -> bool:
    """Whether a participant is another agent that speaks for itself."""
    if participant.kind != rtc.ParticipantKind.PARTICIPANT_KIND_AGENT:
        return False
    return participant.attributes.get(ON_BEHALF) != own_identity


class Guard:
    """Keeps rivals out of the room of a lease holder.

    Args:
        room: The connected room.
        admin: The server's API.
    """

    def __init__(self, room: rtc.Room, admin: RoomAdmin) -> None:
        self._room = room
        self._admin = admin
        self._tasks: set[asyncio.Task[None]] = set()
        room.on("participant_connected", self._joined)
        for participant in room.remote_participants.values():
            self._joined(participant)

    def _joined(self, participant: rtc.RemoteParticipant) -> None:
        if is_rival(participant, self._room.local_participant.identity):
            task = asyncio.create_task(self._evict(participant.identity))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _evict(self, identity: str) -> None:
        await asyncio.sleep(GRACE_S)
        still = self._room.remote_participants.get(identity)
        if still is None or not is_rival(still, self._room.local_participant.identity):
            return
        log.warning("evicting a rival agent", extra={"rival": identity, "fence": still.attributes.get(Attribute.FENCE)})
        try:
            await self._admin.remove(self._room.name, identity)
        except ServerSilent as e:
            log.error("a rival agent could not be evicted", extra={"rival": identity, "why": e.reason})

    async def close(self) -> None:
        """Stop watching."""
        self._room.off("participant_connected", self._joined)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
