"""What a person may do to a room: remove an agent that is too many, ask for one where there is none.

Everything is decided by the lease and by kind, looked at again right before it is done: never by age or by a name.
Customers are never removed. What cannot be proven is refused, with the reason.
Not here: how a room is seen (survey.py), leftovers (leftovers.py), what happens without a person (guard.py,
reconciler.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from voicectl.memory import room_log
from voicectl.memory.errors import Refused
from voicectl.memory.room_log import RoomEvent
from voicectl.memory.store.leases import LeaseState
from voicectl.voice.config import VoiceSettings
from voicectl.voice.errors import NotSeen, ParticipantUnknown
from voicectl.voice.rooms.busy import lines
from voicectl.voice.rooms.canary import names_in
from voicectl.voice.rooms.evidence import STAMP_S, Evidence
from voicectl.voice.rooms.survey import AgentView, RoomState, RoomView, Sources, look

NAME = "voicectl"  # who acts, in the room log
LOOK_S = 0.2
GONE_S = 3.0

Say = Callable[[str], None]


def evictable(room: RoomView, identity: str, *, holder: bool = False) -> AgentView:
    """The agent, if it may be removed.

    Args:
        room: The room as just seen.
        identity: Whom.
        holder: Also the agent that has the room, and also where nobody is known to have it.

    Raises:
        ParticipantUnknown: Nobody of that identity is there.
        Refused: A customer, a recording, an avatar; the lease holder, or a room without one, unless `holder`.
    """
    what = f"evict {identity[:80]} from {room.name}"
    if identity in room.customers:
        raise Refused(what, "it is a customer, whatever its name", "No command removes customers.")
    for other in room.others:
        if other.identity == identity:
            raise Refused(what, f"it is no agent but of kind {other.kind}")
    agent = next((a for a in room.agents if a.identity == identity), None)
    if agent is None:
        raise ParticipantUnknown(room.name, identity, room.identities)
    if room.state is RoomState.FOREIGN:
        raise Refused(what, "the room is not ours: it has neither our mark nor a lease or a call")
    if agent.on_behalf and any(a.identity == agent.on_behalf for a in room.agents):
        raise Refused(what, f"it publishes on behalf of {agent.on_behalf}")
    if holder:
        return agent
    if agent.is_holder:
        fence = room.lease.fence if room.lease else 0
        raise Refused(what, f"it holds the room with fence {fence}", "To have it replaced by a new one: --holder")
    if room.lease is None or not room.lease.live:
        raise Refused(
            what,
            "no agent holds the room's lease now, so none is known to be too many",
            "To remove it anyway: --holder",
        )
    return agent


async def evict(site: Sources, name: str, identity: str, *, holder: bool, confirm: Say) -> tuple[RoomView, AgentView]:
    """Remove an agent that another one has replaced, or was never let in.

    Args:
        site: Where.
        name: The room's name or sid.
        identity: The agent's.
        holder: See `evictable`.
        confirm: Asked with what would be done; raises when it shall not.

    Returns:
        The room and the agent as they were seen right before the removal.

    Raises:
        NotSeen: It is still there.
        ParticipantUnknown: Nobody of that identity is there.
        Refused: It must not be removed.
        RoomUnknown: There is no such room.
        ServerSilent: The server did not answer.
        StoreUnavailable: The store did not answer; without it nobody is evicted.
    """
    first = await look(site, name)
    agent = evictable(first, identity, holder=holder)
    confirm(f"Remove the agent {identity} from {first.name}?{_replaced(agent)}")
    room = await look(site, first.sid)
    agent = evictable(room, identity, holder=holder)
    await site.admin.remove(room.name, identity)
    fences = {"our_fence": room.lease.fence if room.lease else 0, "their_fence": agent.fence or 0}
    why = "a person asked for it" + (", although it held the room" if agent.is_holder else "")
    room_log.note(site.store, RoomEvent.EVICTED, room.name, ours=NAME, theirs=identity, why=why, **fences)
    deadline = time.monotonic() + GONE_S
    while any(p.identity == identity for p in await site.admin.participants(room.name)):
        if time.monotonic() > deadline:
            raise NotSeen(room.name, GONE_S, f"{identity} was removed and is there again, or still")
        await asyncio.sleep(LOOK_S)
    return room, agent


def _replaced(agent: AgentView) -> str:
    return " It has the room: the customer hears nothing until the next one comes." if agent.is_holder else ""


async def dispatch(site: Sources, settings: VoiceSettings, name: str, *, wait_s: float, said: Say) -> RoomView:
    """Ask for an agent where a customer waits without one, and watch until it is audible.

    Where an agent has the room, or a reconciler is replacing one, nothing is dispatched: again and again is harmless.

    Args:
        site: Where.
        settings: What to dispatch into a room that never had an agent.
        name: The room's name or sid.
        wait_s: How long to watch, in seconds.
        said: Told each step when it was seen.

    Returns:
        The room, audible.

    Raises:
        NotSeen: It did not come so far; says what is missing.
        Refused: A room that is not ours, is ending, or has no customer.
        RoomUnknown: There is no such room, or no longer.
        ServerSilent: The server did not answer.
        StoreUnavailable: The store did not answer.
    """
    room = await _settled(site, await look(site, name), said)
    what = f"dispatch into {room.name}"
    if room.state is RoomState.FOREIGN:
        raise Refused(what, "the room is not ours: it has neither our mark nor a lease or a call")
    if room.state is RoomState.ENDING:
        raise Refused(what, "its call is ending")
    if not room.customers:
        raise Refused(what, "no customer is in it; an agent would leave at once")
    agent_name = (room.lease.agent_name if room.lease else "") or settings.agent_name
    if room.lease is not None and room.lease.live:
        said(f"nothing is dispatched: {room.lease.owner} has the room ({room.lease.state}, fence {room.lease.fence})")
    elif room.lease is not None and room.lease.state == LeaseState.TAKEOVER and room.lease.remaining_s > 0:
        said(f"nothing is dispatched: {room.lease.owner} is replacing the room's agent")
    elif room.state in (RoomState.JOINED, RoomState.AUDIBLE):
        said("nothing is dispatched: an agent is there that came while the store was away")
    else:
        sent = await site.admin.dispatch(room.name, agent_name, {"desk": room.desk} if room.desk else {})
        room_log.note(site.store, RoomEvent.DISPATCHED, room.name, ours=NAME, why="a person asked for it")
        said(f"requested: {agent_name} (dispatch {sent})")
    return await _watch(site, room, agent_name, wait_s, said)


async def _settled(site: Sources, room: RoomView, said: Say) -> RoomView:
    """The room once it is known whether a lease that has run out means anything: the store may have stood still."""
    if room.lease is None or room.lease.live or room.lease.state not in (LeaseState.ACCEPTED, LeaseState.HELD):
        return room
    said(f"the lease of {room.lease.owner} has run out; looking whether it is renewed")
    evidence = Evidence(site.leases, NAME)
    try:
        while not evidence.proves:
            await asyncio.to_thread(evidence.stamp)
            await asyncio.sleep(STAMP_S / 4)
        return await look(site, room.sid)
    finally:
        evidence.close()


async def _watch(site: Sources, room: RoomView, agent_name: str, wait_s: float, said: Say) -> RoomView:
    deadline, told = time.monotonic() + wait_s, RoomState.REQUESTED
    while True:
        room = await look(site, room.name)
        if room.state is not told:
            said(_step(room))
            told = room.state
        if room.state is RoomState.AUDIBLE:
            return room
        if time.monotonic() > deadline:
            raise NotSeen(room.name, wait_s, await _missing(site, room, agent_name))
        await asyncio.sleep(LOOK_S)


def _step(room: RoomView) -> str:
    agent = room.lease.owner if room.lease else next((a.identity for a in room.agents), "")
    fence = f" with fence {room.lease.fence}" if room.lease else ""
    return f"{room.state}: {agent}{fence}" if room.state not in (RoomState.BUSY, RoomState.EMPTY) else str(room.state)


async def _missing(site: Sources, room: RoomView, agent_name: str) -> str:
    owner = room.lease.owner if room.lease else ""
    if room.state is RoomState.JOINED:
        return f"{owner or 'the agent'} is in it and has published no sound"
    if room.state is RoomState.ACCEPTED:
        return f"{owner} has the room and is not in it"
    if not room.customers:
        return "no customer is in it any more"
    rows = await asyncio.to_thread(site.leases.rows)
    there = lines(rows, agent_name)
    if there.workers:
        return f"no worker accepted it; {there.used} of {there.capacity} lines are taken"
    others = ", ".join(repr(n) for n in names_in(rows))
    theirs = f"workers are registered as {others}" if others else "no worker is registered"
    return f"nobody accepted a dispatch to {agent_name!r}: {theirs}"
