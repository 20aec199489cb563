"""Job offers: a room is claimed before its job is accepted, so that no second agent is ever on its way.

Not here: what a job does with its claim (call.py), capacity and registration of our own worker (worker.py).
"""

from __future__ import annotations

import asyncio
import logging

from livekit.agents import JobRequest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from voicectl.memory.config import load
from voicectl.memory.errors import StoreUnavailable
from voicectl.memory.store.leases import Grant, LeaseHeld, Leases, open_leases
from voicectl.voice.build import build_id
from voicectl.voice.config import VoiceSettings
from voicectl.voice.events import Attribute
from voicectl.voice.rooms import registry

log = logging.getLogger(__name__)

CLAIM_S = 1.0  # for so long a store that does not answer is asked; then the customer is served without it


async def accept_call(request: JobRequest) -> None:
    """Answer a job offer: claim the room, or refuse because another agent has it. For `rtc_session(on_request=…)`."""
    try:
        leases = await asyncio.to_thread(open_leases, load(VoiceSettings))
    except StoreUnavailable as e:
        await _accept_without(request, e, f"agent-{request.id}")
        return
    try:
        await offer(request, leases)
    finally:
        await asyncio.to_thread(leases.close)


async def offer(request: JobRequest, leases: Leases, identity: str = "") -> LeaseHeld | None:
    """As `accept_call`, with leases that stay open.

    Args:
        request: The offer.
        leases: Where rooms are claimed.
        identity: The agent's; "": `agent-JOB`.

    Returns:
        Who has the room, where that is why it was refused; None: it was accepted.
    """
    identity = identity or f"agent-{request.id}"
    try:
        grant = await _claim(leases, request.room.name, identity, request.agent_name)
    except StoreUnavailable as e:
        await _accept_without(request, e, identity)
        return None
    except LeaseHeld as e:
        log.info("offer refused", extra={"room": request.room.name, "sid": request.room.sid, "why": str(e)})
        await request.reject(terminate=True)
        return e
    try:
        await request.accept(identity=identity, attributes=_marks(grant.fence))
    except Exception:
        await asyncio.to_thread(leases.release, grant)  # lost assignment: nobody will come for this claim
        raise
    return None


async def _accept_without(request: JobRequest, error: StoreUnavailable, identity: str) -> None:
    """Serve the customer all the same: the job has no fence, and takes the lease when the store is back."""
    log.warning("an offer is accepted without the store", extra={"room": request.room.name, "why": error.reason})
    await request.accept(identity=identity, attributes=_marks(0))


def _marks(fence: int) -> dict[str, str]:
    return {str(Attribute.FENCE): str(fence), str(Attribute.BUILD): build_id()}


@retry(
    retry=retry_if_exception_type(StoreUnavailable),
    stop=stop_after_delay(CLAIM_S),
    wait=wait_fixed(0.1),
    reraise=True,
)
async def _claim(leases: Leases, room: str, identity: str, agent_name: str) -> Grant:
    return await asyncio.to_thread(registry.claim, leases, room, identity, agent_name)
