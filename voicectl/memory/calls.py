"""The life of a call: open, ending, ended; each step by compare-and-set on the fence that may write.

A room that is taken over keeps its call: the successor raises the fence before it reads the history.
Not here: the turns (recorder.py), the room (voice/rooms/).
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from voicectl.memory.errors import CallOver, FencedOut
from voicectl.memory.identity import hashed
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import calls, customers, forgotten, forgotten_calls


class CallState(StrEnum):
    """Where a call is in its life."""

    OPEN = "open"  # customer and agent talk, or the agent is being replaced. Holder → ENDING; abandoned → ENDED
    ENDING = "ending"  # the closing line is on its way; never dispatched again. Holder → ENDED
    ENDED = "ended"  # final: the last sequence number is frozen, later writes are refused


@dataclass(frozen=True)
class Call:
    """One call of one customer, as seen by the job that may write it."""

    id: str
    customer: str
    generation: int
    room: str
    desk: str
    fence: int
    continued: bool = False  # another job began it
    progress: dict[str, Any] = field(default_factory=dict)
    stored: bool = True  # False: it began while the store was away, and the store does not know it yet
    began_ms: int = 0  # of one that is not stored


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def ensure_customer(connection: Connection, key: str) -> int:
    """Make sure that the customer exists; returns its generation."""
    wanted = select(customers.c.generation).where(customers.c.key == key)
    found = connection.execute(wanted).scalar()
    if found is None:
        insert: Any = sqlite_insert if connection.dialect.name == "sqlite" else postgres_insert
        # Who was forgotten starts from nothing, but not with a generation that older things carry.
        before = select(forgotten.c.generation).where(forgotten.c.customer == hashed(key))
        first = connection.execute(before).scalar() or 1
        new = insert(customers).values(key=key, generation=first, created_ms=now_ms())
        connection.execute(new.on_conflict_do_nothing())  # two calls of a new customer may begin at once
        found = connection.execute(wanted).scalar_one()
    return int(found)


def is_forgotten(connection: Connection, call_id: str) -> bool:
    """Whether this was a call of a customer who was forgotten."""
    found = connection.execute(select(forgotten_calls.c.call_id).where(forgotten_calls.c.call_id == call_id)).first()
    return found is not None


def call_without_store(customer: str, room: str, desk: str) -> Call:
    """A call that begins while the store is away; `open_call` stores it later, or the replay of its journal."""
    return Call(f"c{secrets.token_hex(8)}", customer, 0, room, desk, 0, stored=False, began_ms=now_ms())


def open_call(store: Store, *, customer: str, room: str, desk: str, fence: int, begun: Call | None = None) -> Call:
    """Begin a call, or go on with the one that is open in this room; durable on return.

    Args:
        store: Where it is kept.
        customer: Customer key.
        room: Name of the LiveKit room.
        desk: What the customer chose to talk to.
        fence: Our fence of the room's lease.
        begun: The call as it began without the store; it keeps its id and its beginning.

    Raises:
        FencedOut: A job with a higher fence has the call.
        StoreUnavailable: Nothing was begun.
    """
    with store.write() as connection:
        store.lock(connection, "room", room)  # a room has one call at a time, also before it has a row
        if begun is not None and forgotten_since(connection, begun):
            raise FencedOut(f"call {begun.id}", 0, fence)  # nothing of it is kept
        generation = ensure_customer(connection, customer)
        row = connection.execute(
            select(calls)
            .where(calls.c.room == room, calls.c.state != CallState.ENDED)
            .order_by(calls.c.started_ms.desc())
            .limit(1)
            .with_for_update()  # its holder may be ending it right now
        ).first()
        if row is not None and row.fence > fence:
            raise FencedOut(f"call {row.id}", fence, int(row.fence))
        if row is not None and row.state == CallState.OPEN and row.customer == customer:
            connection.execute(update(calls).where(calls.c.id == row.id).values(fence=fence))
            another = begun is None or begun.id != row.id
            return Call(row.id, customer, generation, room, row.desk, fence, another, json.loads(row.progress))
        if row is not None:  # it was ending, or somebody else's: a room has one call at a time
            _finish(connection, row.id, "replaced")
        ended = begun is not None and connection.execute(select(calls.c.id).where(calls.c.id == begun.id)).first()
        new_id = begun.id if begun is not None and not ended else f"c{secrets.token_hex(8)}"
        call = Call(new_id, customer, generation, room, desk, fence)
        _insert(connection, call, begun.began_ms if begun is not None else now_ms())
        return call


def _insert(connection: Connection, call: Call, started_ms: int) -> None:
    connection.execute(
        calls.insert().values(
            id=call.id,
            customer=call.customer,
            generation=call.generation,
            room=call.room,
            desk=call.desk,
            state=CallState.OPEN,
            fence=call.fence,
            started_ms=started_ms,
        )
    )


def insert_late(connection: Connection, begun: Call) -> Call | None:
    """Store a call whose job ended before the store was back, as one that nobody has; None: its customer was forgotten.

    It is open: a successor goes on with it where the customer still waits, else it is abandoned like any other.
    """
    if forgotten_since(connection, begun):
        return None
    call = replace(begun, generation=ensure_customer(connection, begun.customer), fence=0, stored=True)
    _insert(connection, call, begun.began_ms)
    return call


def forgotten_since(connection: Connection, begun: Call) -> bool:
    """Whether the customer of a call that is not stored was forgotten after it began."""
    at = select(forgotten.c.at_ms).where(forgotten.c.customer == hashed(begun.customer))
    return int(connection.execute(at).scalar() or 0) >= begun.began_ms


def end_replaced(connection: Connection, late: Call) -> None:
    """End a call that was stored late if its room has another one by now: a room has one call at a time."""
    others = select(calls.c.id).where(calls.c.room == late.room, calls.c.state != CallState.ENDED)
    if connection.execute(others.where(calls.c.id != late.id)).first() is not None:
        _finish(connection, late.id, "replaced")


def begin_ending(store: Store, call: Call, reason: str) -> bool:
    """Commit that the call is being ended, before the closing line; False when it already was.

    Raises:
        FencedOut: A successor has the call.
    """
    with store.write() as connection:
        done = connection.execute(
            update(calls)
            .where(calls.c.id == call.id, calls.c.fence == call.fence, calls.c.state == CallState.OPEN)
            .values(state=CallState.ENDING, reason=reason)
        )
        if done.rowcount == 1:
            return True
        _check_writable(connection, call.id, call.fence)
        return False


def finish(store: Store, call: Call, reason: str) -> None:
    """End the call: its turns are complete and no more are taken. Again: nothing happens.

    Raises:
        FencedOut: A successor has the call.
    """
    with store.write() as connection:
        row = connection.execute(
            select(calls.c.fence, calls.c.state).where(calls.c.id == call.id).with_for_update()
        ).first()
        if row is None or row.state == CallState.ENDED:  # None: its customer was forgotten
            return
        if row.fence != call.fence:
            raise FencedOut(f"call {call.id}", call.fence, int(row.fence))
        _finish(connection, call.id, reason)


def _finish(connection: Connection, call_id: str, reason: str) -> None:
    values = {"state": CallState.ENDED, "ended_ms": now_ms()}
    connection.execute(update(calls).where(calls.c.id == call_id, calls.c.reason == "").values(reason=reason))
    connection.execute(update(calls).where(calls.c.id == call_id).values(**values))


def _check_writable(connection: Connection, call_id: str, fence: int) -> None:
    row = connection.execute(select(calls.c.fence, calls.c.state).where(calls.c.id == call_id)).first()
    if row is None and is_forgotten(connection, call_id):
        raise FencedOut(f"call {call_id}", fence, fence + 1)
    if row is None:
        raise CallOver(call_id, "unknown")
    if row.fence != fence:
        raise FencedOut(f"call {call_id}", fence, int(row.fence))


def open_call_of_room(store: Store, room: str) -> str | None:
    """The state of the room's call that has not ended; None when there is none."""
    with store.read() as connection:
        state = connection.execute(
            select(calls.c.state)
            .where(calls.c.room == room, calls.c.state != CallState.ENDED)
            .order_by(calls.c.started_ms.desc())
            .limit(1)
        ).scalar()
    return None if state is None else str(state)


def rooms_of_open_calls(store: Store) -> list[str]:
    """The rooms of all calls that have not ended."""
    with store.read() as connection:
        return list(
            connection.execute(select(calls.c.room).where(calls.c.state != CallState.ENDED).distinct()).scalars()
        )


@dataclass(frozen=True)
class OpenCall:
    """A call that has not ended, as anybody may see it."""

    id: str
    room: str
    desk: str
    state: CallState
    fence: int


def open_calls(store: Store) -> list[OpenCall]:
    """All calls that have not ended, the latest first."""
    columns = (calls.c.id, calls.c.room, calls.c.desk, calls.c.state, calls.c.fence)
    wanted = select(*columns).where(calls.c.state != CallState.ENDED).order_by(calls.c.started_ms.desc())
    with store.read() as connection:
        return [OpenCall(r.id, r.room, r.desk, CallState(r.state), int(r.fence)) for r in connection.execute(wanted)]


def abandon(store: Store, room: str, fence: int) -> bool:
    """End a room's call that neither agent nor customer came back to, unless a newer fence has it.

    Args:
        store: Where it is kept.
        room: The room's name.
        fence: The highest fence of the room that we know of; 0 when the room has no lease at all, so nobody's.

    Returns:
        Whether there was one.
    """
    with store.write() as connection:
        store.lock(connection, "room", room)
        statement = select(calls.c.id).where(calls.c.room == room, calls.c.state != CallState.ENDED)
        if fence:
            statement = statement.where(calls.c.fence <= fence)
        found = list(connection.execute(statement.with_for_update()).scalars())
        for call_id in found:
            _finish(connection, call_id, "abandoned")
    return bool(found)
