"""What happened to rooms: refused offers, evictions, takeovers, dispatches; each with both identities and fences.

    note(store, RoomEvent.EVICTED, "call-1", ours=me, our_fence=7, theirs=rival, their_fence=6, why="no lease")
    recent(store, room="call-1")

A note is one line in the log and one row, for people and figures alone: nobody decides by it. So a store that is away
loses the row and nothing else. Rows are kept for KEEP_S; how often something happened is counted apart and only grows.
Not here: who decides (voice/rooms/), what a room's call was (calls.py).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import delete, func, insert, or_, select
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from voicectl.memory.calls import now_ms
from voicectl.memory.errors import StoreUnavailable
from voicectl.memory.identity import clean
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import room_counts, room_log

log = logging.getLogger(__name__)

KEEP_S = 30 * 86_400
KEEP_ROWS = 100_000  # of the newest: a dispatcher gone wild must not fill the disk in less time
MAX_ROOM, MAX_IDENTITY, MAX_WHY = 300, 200, 500  # characters; rooms and identities are other people's text
MAX_FENCE = 2**63 - 1


class RoomEvent(StrEnum):
    """What can happen to a room. `ours` is who notes it, `theirs` the other one; each may be empty."""

    CONFLICT = "conflict"  # an offer was refused: another agent, `theirs`, holds the room
    FULL = "full"  # an offer was refused: this worker has no line
    FENCED_OUT = "fenced out"  # `ours` left: the room is `theirs`
    EVICTED = "evicted"  # `theirs` was removed from the room by its holder or a reconciler, `ours`
    TAKEOVER = "takeover"  # the lease of `theirs`, which is dead, was taken to give the room a new agent
    DISPATCHED = "dispatched"  # an agent was asked for
    UNCLAIMED = "unclaimed"  # no offer claimed the room in time; another agent is asked for, or nobody any more
    BUSY = "busy"  # a customer waits for a line
    GAVE_UP = "gave up"  # a customer was told that nobody comes


_SAID = {
    RoomEvent.CONFLICT: (logging.WARNING, "an offer was refused: the room is held"),
    RoomEvent.FULL: (logging.INFO, "an offer was refused: no line is free"),
    RoomEvent.FENCED_OUT: (logging.WARNING, "an agent was fenced out"),
    RoomEvent.EVICTED: (logging.WARNING, "an agent was evicted"),
    RoomEvent.TAKEOVER: (logging.WARNING, "a room was taken over"),
    RoomEvent.DISPATCHED: (logging.INFO, "an agent was asked for"),
    RoomEvent.UNCLAIMED: (logging.WARNING, "nobody claimed the room"),
    RoomEvent.BUSY: (logging.INFO, "a customer waits for a line"),
    RoomEvent.GAVE_UP: (logging.ERROR, "a customer got no agent"),
}


@dataclass(frozen=True)
class Noted:
    """A row; identities are "" and fences 0 where there is none."""

    id: int
    at_ms: int
    event: RoomEvent
    room: str
    ours: str
    our_fence: int
    theirs: str
    their_fence: int
    why: str


def note(
    store: Store,
    event: RoomEvent,
    room: str,
    *,
    ours: str = "",
    our_fence: int = 0,
    theirs: str = "",
    their_fence: int = 0,
    why: str = "",
) -> None:
    """Say that something happened, in the log and in the store; blocks as long as a write does.

    A store that is away is a second line in the log, never an error: what happened has happened.

    Args:
        store: The store.
        event: What happened.
        room: The room's name, of any characters; cut to MAX_ROOM.
        ours: Identity of the agent or the name of the reconciler that notes it.
        our_fence: Its fence of the room; 0: none.
        theirs: Identity of the other one.
        their_fence: Its fence; 0: none, or not known.
        why: The reason in words, without anything of the customer; cut to MAX_WHY.
    """
    values: dict[str, Any] = {
        "event": event.value,
        "room": _cut(room, MAX_ROOM),
        "ours": _cut(ours, MAX_IDENTITY),
        "our_fence": _fence(our_fence),
        "theirs": _cut(theirs, MAX_IDENTITY),
        "their_fence": _fence(their_fence),
        "why": _cut(why, MAX_WHY),
    }
    level, said = _SAID[event]
    log.log(level, said, extra=values)
    upsert: Any = sqlite_insert if store.is_sqlite else postgres_insert
    once_more = upsert(room_counts).values(event=event.value, number=1)
    once_more = once_more.on_conflict_do_update(
        index_elements=[room_counts.c.event], set_={"number": room_counts.c.number + 1}
    )
    try:
        with store.write() as connection:
            connection.execute(insert(room_log).values(at_ms=now_ms(), **values))
            connection.execute(once_more)
    except StoreUnavailable as e:
        log.warning("what happened to a room is not in the store", extra={**values, "store": e.reason})


def counts(store: Store) -> dict[RoomEvent, int]:
    """How often each event was noted since the store was made, 0 included; forgetting and pruning take nothing away.

    Raises:
        StoreUnavailable: The store did not answer.
    """
    with store.read() as connection:
        found = {r.event: int(r.number) for r in connection.execute(select(room_counts))}
    return {event: found.get(event.value, 0) for event in RoomEvent}


def recent(store: Store, limit: int = 50, room: str | None = None) -> list[Noted]:
    """The latest rows, the newest first.

    Args:
        store: The store.
        limit: How many at most.
        room: Only of this room.

    Raises:
        StoreUnavailable: The store did not answer.
    """
    statement = select(room_log).where(room_log.c.event.in_(list(RoomEvent))).order_by(room_log.c.id.desc())
    if room is not None:
        statement = statement.where(room_log.c.room == _cut(room, MAX_ROOM))
    with store.read() as connection:
        return [
            Noted(**{**r._mapping, "event": RoomEvent(r.event)}) for r in connection.execute(statement.limit(limit))
        ]


def prune(store: Store, *, keep_s: float = KEEP_S, keep_rows: int = KEEP_ROWS) -> int:
    """Delete what is older than `keep_s` seconds, and all but the newest `keep_rows`; returns how many rows went.

    Cheap when there is nothing to do; meant for once an hour or less.

    Raises:
        StoreUnavailable: The store did not take it.
    """
    newest = select(func.coalesce(func.max(room_log.c.id), 0)).scalar_subquery()
    too_old = room_log.c.at_ms < now_ms() - round(keep_s * 1000)
    doomed = or_(too_old, room_log.c.id <= newest - keep_rows)
    with store.read() as connection:
        if connection.execute(select(room_log.c.id).where(doomed).limit(1)).first() is None:
            return 0
    with store.write() as connection:
        return connection.execute(delete(room_log).where(doomed)).rowcount


def _cut(text: str, length: int) -> str:
    return clean(text)[:length]


def _fence(value: int) -> int:
    return min(max(value, 0), MAX_FENCE)  # an attribute that somebody forged may claim anything
