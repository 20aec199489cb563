"""Rooms as they are observed now: who is in them, who holds the lease, which call is on, and what that makes of them.

    async with sources(settings) as site:
        for room in await survey(site):
            print(room.name, room.state)

A room's state is told from what the server, the leases and the store said in this look, never from what was asked for:
an agent has joined when it is among the participants. A server or store that does not answer is an exception, never an
empty list. Not here: what is done about it, by a person (operate.py) or by itself (reconciler.py).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum

from livekit import api

from voicectl.memory.calls import CallState, OpenCall, open_calls
from voicectl.memory.store.engine import Store, open_store
from voicectl.memory.store.leases import Lease, Leases, LeaseState, open_leases
from voicectl.voice.config import VoiceSettings
from voicectl.voice.errors import RoomUnknown
from voicectl.voice.events import Attribute, RoomMark
from voicectl.voice.rooms.admin import ON_BEHALF, RoomAdmin, is_agent, is_human, room_admin, room_marks
from voicectl.voice.rooms.canary import CANARY
from voicectl.voice.rooms.registry import lease_name, says_goodbye


class RoomState(StrEnum):
    """What a room is, from one look at it; the first that fits."""

    FOREIGN = "foreign"  # neither our mark nor a lease or a call of ours: somebody else's, never touched
    ENDING = "ending"  # its call is ending, or its lease is held to delete it; no agent is dispatched any more
    AUDIBLE = "audible"  # its agent is there and has published sound
    JOINED = "joined"  # its agent is there
    ACCEPTED = "accepted"  # an agent claimed it in the offer, or held it, and is not there
    BUSY = "busy"  # the customer waits for a free line and was told so, or is being told goodbye for want of one
    REQUESTED = "requested"  # a customer, or a dispatch that no worker took, and no agent
    EMPTY = "empty"  # nobody and nothing


@dataclass(frozen=True)
class AgentView:
    """A participant of kind AGENT. What its attributes say is its own word.

    Args:
        identity: Unique in the room.
        fence: Its fence of the room; None when it names none.
        build: The build it runs.
        pid: Its job's process.
        audible: Whether it has published sound.
        is_holder: Whether it owns the room's live lease.
        on_behalf: The agent for which it publishes (an avatar); "" when it speaks for itself.
    """

    identity: str
    fence: int | None
    build: str
    pid: str
    audible: bool
    is_holder: bool
    on_behalf: str


@dataclass(frozen=True)
class LeaseView:
    """The room's lease; negative `remaining_s`: it ran out so long ago."""

    state: str
    owner: str
    fence: int
    remaining_s: float
    live: bool
    agent_name: str


@dataclass(frozen=True)
class CallView:
    """The room's call that has not ended."""

    id: str
    state: str
    desk: str


@dataclass(frozen=True)
class OtherView:
    """A participant that is neither customer nor agent: a recording, an ingress, a bridge."""

    identity: str
    kind: str


@dataclass(frozen=True)
class RoomView:
    """One room in one look.

    Args:
        name: What leases and calls go by.
        sid: The server's id of this life of the room; a restarted server gives another.
        state: What all of it makes.
        desk: What the customer chose; "" where the room does not say.
        busy_since_s: Seconds since 1970 from when the customer waits for a line; None: does not.
        customers: Identities of the humans, by kind.
        agents: Everybody of kind AGENT.
        others: The rest.
        lease: None: never had one.
        call: None: none that has not ended.
    """

    name: str
    sid: str
    state: RoomState
    desk: str
    busy_since_s: float | None
    customers: tuple[str, ...]
    agents: tuple[AgentView, ...]
    others: tuple[OtherView, ...]
    lease: LeaseView | None
    call: CallView | None

    @property
    def holder(self) -> AgentView | None:
        """The agent that holds the live lease, when it is there."""
        return next((a for a in self.agents if a.is_holder), None)

    @property
    def identities(self) -> list[str]:
        """Everybody who is there."""
        return [*self.customers, *(a.identity for a in self.agents), *(o.identity for o in self.others)]


@dataclass(frozen=True)
class Sources:
    """What is looked at."""

    admin: RoomAdmin
    store: Store
    leases: Leases


@asynccontextmanager
async def sources(settings: VoiceSettings) -> AsyncIterator[Sources]:
    """The server, the store and the leases of an installation, open.

    Raises:
        ServerSilent: The server does not answer; nothing else was opened or made.
        StoreUnavailable: The store cannot be opened.
    """
    async with room_admin(settings) as admin:
        await admin.rooms()
        store = await asyncio.to_thread(open_store, settings)
        try:
            leases = await asyncio.to_thread(open_leases, settings)
            try:
                yield Sources(admin, store, leases)
            finally:
                leases.close()
        finally:
            store.close()


async def survey(site: Sources) -> list[RoomView]:
    """All rooms of the server, by name.

    Raises:
        ServerSilent: The server did not answer.
        StoreUnavailable: The store did not answer.
    """
    return await _views(site, await site.admin.rooms())


async def look(site: Sources, room: str) -> RoomView:
    """One room, by its name or its sid.

    Raises:
        RoomUnknown: The server has no such room.
        ServerSilent: The server did not answer.
        StoreUnavailable: The store did not answer.
    """
    there = await site.admin.rooms()
    found = [r for r in there if r.name == room] or [r for r in there if r.sid == room]
    if not found:
        raise RoomUnknown(room, sorted(r.name for r in there))
    return (await _views(site, found))[0]


async def _views(site: Sources, rooms: Sequence[api.Room]) -> list[RoomView]:
    people = await asyncio.gather(*(site.admin.participants(r.name) for r in rooms))
    # Leases after participants: whoever was there and holds one now was not given it for an agent that had left.
    leases = {row.name: row for row in await asyncio.to_thread(site.leases.rows)}
    calls: dict[str, OpenCall] = {}
    for call in await asyncio.to_thread(open_calls, site.store):
        calls.setdefault(call.room, call)
    found = []
    for room, there in zip(rooms, people, strict=True):
        lease = leases.get(lease_name(room.name))
        asked = not there and any(d.agent_name and not d.state.jobs for d in await site.admin.dispatches(room.name))
        found.append(view(room, there, lease, calls.get(room.name), asked=asked))
    return sorted(found, key=lambda v: v.name)


def view(
    room: api.Room,
    people: Sequence[api.ParticipantInfo],
    lease: Lease | None,
    call: OpenCall | None,
    *,
    asked: bool = False,
) -> RoomView:
    """What one look at a room makes of it.

    Args:
        room: As the server lists it.
        people: Everybody who is there.
        lease: Of its name.
        call: The one that has not ended.
        asked: Whether the server has a dispatch that no worker took.
    """
    marks = room_marks(room.metadata) or {}
    holder = lease.owner if lease is not None and lease.live else None
    agents = tuple(_agent(p, holder) for p in people if is_agent(p))
    customers = tuple(p.identity for p in people if is_human(p))
    others = tuple(
        OtherView(p.identity, api.ParticipantInfo.Kind.Name(p.kind).lower())
        for p in people
        if not is_human(p) and not is_agent(p)
    )
    ours = RoomMark.DESK in marks or lease is not None or call is not None or room.name.startswith(CANARY)
    since = _seconds(marks.get(RoomMark.BUSY))
    state = RoomState.FOREIGN
    if ours:
        waiting = bool(customers) or asked
        state = _state(agents, lease, call, waiting=waiting, busy=since is not None and bool(customers))
    desk = marks.get(RoomMark.DESK)
    return RoomView(
        name=room.name,
        sid=room.sid,
        state=state,
        desk=desk if isinstance(desk, str) else (call.desk if call else ""),
        busy_since_s=since,
        customers=customers,
        agents=agents,
        others=others,
        lease=_lease(lease),
        call=CallView(call.id, call.state.value, call.desk) if call else None,
    )


def _state(
    agents: Sequence[AgentView], lease: Lease | None, call: OpenCall | None, *, waiting: bool, busy: bool
) -> RoomState:
    closing = lease is not None and lease.live and lease.state == LeaseState.CLOSING
    if closing or (call is not None and call.state == CallState.ENDING):
        return RoomState.ENDING
    if lease is not None and lease.live and says_goodbye(lease.owner):
        return RoomState.BUSY
    own = [a for a in agents if _counts(a, lease)]
    if own:
        heard = {a.on_behalf for a in agents if a.audible}  # an avatar is the sound of its agent
        return RoomState.AUDIBLE if any(a.audible or a.identity in heard for a in own) else RoomState.JOINED
    if lease is not None and lease.live:
        return RoomState.ACCEPTED
    if busy:
        return RoomState.BUSY
    return RoomState.REQUESTED if waiting else RoomState.EMPTY


def _counts(agent: AgentView, lease: Lease | None) -> bool:
    """Whether this is the room's agent: the holder; where nobody ever claimed the room, one that came without a store.

    A killed agent stays among the participants for 22 s with all its tracks (livekit-server.md 8): then its lease has
    run out, or is being taken over.
    """
    if lease is None or lease.state == LeaseState.FREE:
        return agent.fence == 0 and not agent.on_behalf
    return agent.is_holder


def _agent(participant: api.ParticipantInfo, holder: str | None) -> AgentView:
    said = participant.attributes
    return AgentView(
        identity=participant.identity,
        fence=_fence(said.get(Attribute.FENCE, "")),
        build=said.get(Attribute.BUILD, ""),
        pid=said.get(Attribute.PID, ""),
        audible=any(t.type == api.TrackType.AUDIO for t in participant.tracks),
        is_holder=participant.identity == holder,
        on_behalf=said.get(ON_BEHALF, ""),
    )


def _lease(lease: Lease | None) -> LeaseView | None:
    if lease is None:
        return None
    return LeaseView(
        lease.state.value, lease.owner, lease.fence, round(lease.remaining_s, 1), lease.live, agent_name=lease.note
    )


def _seconds(said: object) -> float | None:
    try:
        seconds = float(str(said)) if said not in (None, "") else None
    except ValueError:
        return None
    return seconds if seconds is not None and math.isfinite(seconds) else None


def _fence(said: str) -> int | None:
    return int(said) if said.isascii() and said.isdecimal() and len(said) < 20 else None
