"""Job offers: a room is claimed before its job is accepted, so that no second agent is ever on its way.

A store that does not answer in time costs the customer memory, not the call. A claim that comes true after we stopped
waiting for it is the job's all the same: it takes what bears its name (rooms/registry.py).
Not here: what a job does with its claim (call.py), capacity and registration of our own worker (worker.py).
"""

from __future__ import annotations

import asyncio
import logging
import time

from livekit.agents import JobRequest

from voicectl.memory.config import load
from voicectl.memory.errors import StoreUnavailable
from voicectl.memory.store.leases import Grant, LeaseHeld, Leases, open_leases
from voicectl.voice.build import build_id
from voicectl.voice.config import VoiceSettings
from voicectl.voice.events import Attribute
from voicectl.voice.rooms import registry

log = logging.getLogger(__name__)

CLAIM_S = 1.0  # for so long in all a store that does not answer is asked; then the customer is served without it
AGAIN_S = 0.1


async def accept_call(request: JobRequest) -> None:
    """Answer a job offer: claim the room, or refuse because another agent has it. For `rtc_session(on_request=…)`."""
    begun = time.monotonic()
    opening = asyncio.create_task(asyncio.to_thread(open_leases, load(VoiceSettings)))
    try:
        leases = await asyncio.wait_for(asyncio.shield(opening), CLAIM_S)
    except (StoreUnavailable, TimeoutError) as e:
        opening.add_done_callback(_close_late)
        await _accept_without(request, getattr(e, "reason", f"not open in {CLAIM_S} s"), f"agent-{request.id}")
        return
    try:
        await offer(request, leases, within_s=begun + CLAIM_S - time.monotonic())
    finally:
        await asyncio.to_thread(leases.close)


def _close_late(opening: asyncio.Task[Leases]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


async def offer(
    request: JobRequest, leases: Leases, identity: str = "", *, within_s: float | None = None
) -> LeaseHeld | None:
    """As `accept_call`, with leases that stay open.

    Args:
        request: The offer.
        leases: Where rooms are claimed.
        identity: The agent's; "": `agent-JOB`.
        within_s: How long the store may take, in seconds; None: `CLAIM_S`.

    Returns:
        Who has the room, where that is why it was refused; None: it was accepted.
    """
    identity = identity or f"agent-{request.id}"
    try:
        grant = await _claim(leases, request, identity, CLAIM_S if within_s is None else within_s)
    except StoreUnavailable as e:
        await _accept_without(request, e.reason, identity)
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


async def _accept_without(request: JobRequest, why: str, identity: str) -> None:
    """Serve the customer all the same: the job has no fence, and takes the lease when the store is back."""
    log.warning("an offer is accepted without the store", extra={"room": request.room.name, "why": why})
    await request.accept(identity=identity, attributes=_marks(0))


def _marks(fence: int) -> dict[str, str]:
    return {str(Attribute.FENCE): str(fence), str(Attribute.BUILD): build_id()}


async def _claim(leases: Leases, request: JobRequest, identity: str, within_s: float) -> Grant:
    """Claim the room, again and again until the time is over, whatever the store does with a single request.

    Raises:
        LeaseHeld: Another agent has the room.
        StoreUnavailable: It did not answer in time; what was asked last may come true all the same.
    """
    why = "no answer"
    try:
        async with asyncio.timeout(within_s):
            while True:
                try:
                    return await asyncio.to_thread(
                        registry.claim, leases, request.room.name, identity, request.agent_name
                    )
                except StoreUnavailable as e:
                    why = e.reason
                except LeaseHeld as e:
                    if (ours := registry.own_claim(e, identity)) is None:
                        raise
                    return ours
                await asyncio.sleep(AGAIN_S)
    except TimeoutError as e:
        raise StoreUnavailable(leases.store.where, f"{why}, for {within_s:.1f} s") from e
