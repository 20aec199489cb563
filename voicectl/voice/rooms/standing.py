"""A job without a lease: the store was away when it was offered the room. Whom it yields to.

Without the store nobody can be fenced out, so what the agents say of themselves decides: who has a fence is before who
has none, and of two without one who joined first stays. Only kind decides who is an agent.
Not here: how the lease is taken when the store is back (registry.py), who is evicted then (guard.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from livekit import rtc

from voicectl.memory.errors import FencedOut
from voicectl.voice.listening import guarded
from voicectl.voice.rooms.admin import fence_of
from voicectl.voice.rooms.guard import is_rival
from voicectl.voice.rooms.registry import Keeper

log = logging.getLogger(__name__)


def yields_to(own: rtc.LocalParticipant, others: Iterable[rtc.RemoteParticipant]) -> str | None:
    """The identity of an agent before whom a job without a lease leaves; None: it stays."""
    for other in others:
        if is_rival(other, own.identity) and (fence_of(other.attributes) > 0 or _joined(other) < _joined(own)):
            return other.identity
    return None


def refuse_if_second(room: rtc.Room) -> None:
    """Called by a job without a lease before its first word.

    Raises:
        FencedOut: Another agent is before it.
    """
    other = yields_to(room.local_participant, room.remote_participants.values())
    if other is not None:
        raise FencedOut(f"room {room.name}, where {other} is", 0, fence_of(room.remote_participants[other].attributes))


def watch(room: rtc.Room, keeper: Keeper, on_second: Callable[[], None]) -> None:
    """Look again whenever somebody joins or says something else of himself, as long as there is no lease."""

    def look(*_: object) -> None:
        if keeper.fence == 0 and yields_to(room.local_participant, room.remote_participants.values()):
            log.warning("a job without a lease leaves the room to another agent", extra={"room": room.name})
            on_second()

    room.on("participant_connected", guarded(look))
    room.on("participant_attributes_changed", guarded(look))
    look()  # somebody may have come while we waited for the customer


def _joined(participant: rtc.Participant) -> tuple[float, str]:
    at = participant.joined_at
    return (at.timestamp() if at is not None else 0.0), participant.sid
