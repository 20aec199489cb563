"""Job offers: a room is claimed before its job is accepted, so that no second agent is ever on its way.

Not here: what a job does with its claim (call.py), capacity and registration of our own worker (worker.py).
"""

from __future__ import annotations

import asyncio
import logging

from livekit.agents import JobRequest

from voicectl.memory.config import load
from voicectl.memory.store.leases import LeaseHeld, Leases, open_leases
from voicectl.voice.build import build_id
from voicectl.voice.config import VoiceSettings
from voicectl.voice.events import Attribute
from voicectl.voice.rooms import registry

log = logging.getLogger(__name__)


async def accept_call(request: JobRequest) -> None:
    """Answer a job offer: claim the room, or refuse because another agent has it. For `rtc_session(on_request=…)`."""
    leases = await asyncio.to_thread(open_leases, load(VoiceSettings))
    try:
        await offer(request, leases)
    finally:
        await asyncio.to_thread(leases.close)


async def offer(request: JobRequest, leases: Leases) -> None:
    """As `accept_call`, with leases that stay open."""
    identity = f"agent-{request.id}"
    try:
        grant = await asyncio.to_thread(registry.claim, leases, request.room.name, identity, request.agent_name)
    except LeaseHeld as e:
        log.info("offer refused", extra={"room": request.room.name, "sid": request.room.sid, "why": str(e)})
        await request.reject(terminate=True)
        return
    attributes = {str(Attribute.FENCE): str(grant.fence), str(Attribute.BUILD): build_id()}
    try:
        await request.accept(identity=identity, attributes=attributes)
    except Exception:
        await asyncio.to_thread(leases.release, grant)  # lost assignment: nobody will come for this claim
        raise
