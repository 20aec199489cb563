"""Leftovers: rooms of ours that nobody is in and nobody answers for any more. A person may have them deleted.

Decided by lease, call and kind, twice, never by age or by one answer of the server; what cannot be proven stays, with
the reason. Not here: how a room is seen (survey.py), a call that ends (voice/ending.py).
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

from voicectl.memory.errors import FencedOut
from voicectl.memory.store.leases import LeaseState
from voicectl.voice.errors import RoomUnknown
from voicectl.voice.rooms.canary import CANARY
from voicectl.voice.rooms.registry import CLOSING_TTL_S, lease_name
from voicectl.voice.rooms.survey import RoomState, RoomView, Sources, look, survey

SETTLE_S = 2.0  # a room that was just made is seen empty before its customer has joined


@dataclass(frozen=True)
class Verdict:
    """What becomes of a room.

    Args:
        room: Its name.
        sid: Its sid.
        deleted: Whether it was.
        stays: Why it stays; "" where it is a leftover.
    """

    room: str
    sid: str
    deleted: bool
    stays: str


def stays(room: RoomView) -> str:
    """Why a room is no leftover; "" when it is one: ours, no customer, no lease, no call, nobody who may be alive."""
    if room.state is RoomState.FOREIGN:
        return "it is not ours"
    if room.customers:
        return f"a customer is in it: {room.customers[0]}"
    if room.lease is not None and room.lease.live:
        return f"{room.lease.owner} holds it, fence {room.lease.fence}"
    if room.lease is not None and room.lease.state != LeaseState.FREE:
        return f"the lease of {room.lease.owner} has run out and is not given back: a reconciler sees to it"
    if room.call is not None:
        return f"its call {room.call.id} is {room.call.state}"
    if room.others:
        return f"{room.others[0].identity} is in it, of kind {room.others[0].kind}"
    for agent in room.agents:
        # A fence that the lease has reached was given back; any other may be held in another installation's store.
        if room.lease is None or not agent.fence or agent.fence > room.lease.fence:
            remedy = f"voicectl rooms evict {room.name} {agent.identity} --holder"
            return f"an agent is in it that may be alive; to remove it: {remedy}"
    return ""


async def clean(site: Sources, *, delete: bool) -> list[Verdict]:
    """Look for leftovers, and delete them if asked to.

    A room is deleted when two looks, SETTLE_S apart, found it a leftover; meanwhile its lease is taken, so that no
    agent is let in.

    Args:
        site: Where.
        delete: Else nothing is changed.

    Raises:
        ServerSilent: The server did not answer; what was not deleted yet stays.
        StoreUnavailable: The store did not answer; what was not deleted yet stays.
    """
    seen = await survey(site)
    if not delete or all(stays(room) for room in seen):
        return [Verdict(r.name, r.sid, False, stays(r)) for r in seen]
    await asyncio.sleep(SETTLE_S)
    verdicts = []
    for room in seen:
        why = stays(room) or await _delete(site, room)
        verdicts.append(Verdict(room.name, room.sid, not why, why))
    return verdicts


async def _delete(site: Sources, seen: RoomView) -> str:
    """Delete a leftover; why not, when it has become none."""
    why = await _again(site, seen)
    if why:
        return why
    if seen.name.startswith(CANARY):  # no agent ever claims one
        await site.admin.delete_room(seen.name)
        return ""
    owner = f"voicectl-{os.getpid()}"
    try:
        grant = await asyncio.to_thread(
            site.leases.claim, lease_name(seen.name), owner, CLOSING_TTL_S, LeaseState.CLOSING
        )
    except FencedOut as e:
        return f"an agent has just taken it: {e}"
    try:
        there = await site.admin.participants(seen.name)
        if {p.identity for p in there} - set(seen.identities):
            return "somebody has just joined"
        await site.admin.delete_room(seen.name)
    finally:
        await asyncio.to_thread(site.leases.release, grant)
    return ""


async def _again(site: Sources, seen: RoomView) -> str:
    try:
        now = await look(site, seen.name)
    except RoomUnknown:
        return "it went by itself"
    return "it is a new room of the same name" if now.sid != seen.sid else stays(now)
