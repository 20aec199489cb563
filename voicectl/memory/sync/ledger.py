"""What we know of Letta, in the store: which agent, which conversation, how far, and what is on its way.

Every change is one transaction. All of it could be lost and found again from tags, titles and markers, except that
`calls.mirror` says which calls are done. Not here: what to do next (mirror.py, blocks.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, func, insert, or_, select, update

from voicectl.memory.calls import CallState
from voicectl.memory.recorder import Role
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import (
    calls,
    customers,
    letta_batches,
    letta_conversations,
    turns,
)
from voicectl.memory.sync.states import NEXT, BatchState, MirrorState, Mode
from voicectl.memory.sync.transcript import SPOKEN, Row

_SPOKEN = [role.value for role in SPOKEN]


@dataclass(frozen=True)
class CallRow:
    """A call that is not done."""

    id: str
    desk: str
    started_ms: int
    ended: bool
    conversation_id: str | None
    attempt: int
    mirrored_seq: int


@dataclass(frozen=True)
class Batch:
    """A batch whose outcome is unknown."""

    id: int
    call_id: str
    conversation_id: str
    last_seq: int
    deadline_ms: int
    absent_ms: int | None


def _mirrored() -> Any:
    return func.coalesce(letta_conversations.c.mirrored_seq, 0)


def _new_turns() -> Any:
    return (
        select(turns.c.seq)
        .where(turns.c.call_id == calls.c.id, turns.c.seq > _mirrored(), turns.c.role.in_(_SPOKEN))
        .exists()
    )


def customers_with_work(store: Store, limit: int) -> list[str]:
    """Customers with turns to send or calls to complete, longest waiting first."""
    statement = (
        select(calls.c.customer)
        .join(customers, and_(customers.c.key == calls.c.customer, customers.c.generation == calls.c.generation))
        .outerjoin(letta_conversations, letta_conversations.c.call_id == calls.c.id)
        .where(calls.c.mirror == MirrorState.OPEN, or_(calls.c.state == CallState.ENDED, _new_turns()))
        .group_by(calls.c.customer)
        .order_by(func.min(calls.c.started_ms))
        .limit(limit)
    )
    with store.read() as connection:
        return [str(key) for key in connection.execute(statement).scalars()]


def customers_on_a_call(store: Store) -> list[str]:
    """Customers who talk to us now."""
    statement = select(calls.c.customer).where(calls.c.state != CallState.ENDED).distinct()
    with store.read() as connection:
        return [str(key) for key in connection.execute(statement).scalars()]


def generation(store: Store, customer: str) -> int:
    """The customer's present generation; 0 when there is no such customer."""
    with store.read() as connection:
        found = connection.execute(select(customers.c.generation).where(customers.c.key == customer)).scalar()
    return int(found or 0)


def open_calls(store: Store, customer: str, generation: int) -> list[CallRow]:
    """The customer's calls that are not done, in the order in which they began."""
    statement = (
        select(
            calls.c.id,
            calls.c.desk,
            calls.c.started_ms,
            calls.c.state,
            letta_conversations.c.conversation_id,
            func.coalesce(letta_conversations.c.attempt, 1).label("attempt"),
            _mirrored().label("mirrored_seq"),
        )
        .outerjoin(letta_conversations, letta_conversations.c.call_id == calls.c.id)
        .where(calls.c.customer == customer, calls.c.generation == generation, calls.c.mirror == MirrorState.OPEN)
        .order_by(calls.c.started_ms, calls.c.id)
    )
    with store.read() as connection:
        rows = connection.execute(statement).all()
    return [
        CallRow(
            r.id,
            r.desk,
            int(r.started_ms),
            r.state == CallState.ENDED,
            r.conversation_id,
            int(r.attempt),
            int(r.mirrored_seq),
        )
        for r in rows
    ]


def rows(store: Store, call_id: str, after: int = 0) -> list[Row]:
    """The rows of a call that follow its last assistant row at or before `after`; see transcript.messages."""
    last = (
        select(func.coalesce(func.max(turns.c.seq), 0))
        .where(turns.c.call_id == call_id, turns.c.seq <= after, turns.c.role == Role.ASSISTANT)
        .scalar_subquery()
    )
    statement = (
        select(turns.c.seq, turns.c.role, turns.c.text)
        .where(turns.c.call_id == call_id, turns.c.seq > last)
        .order_by(turns.c.seq)
    )
    with store.read() as connection:
        return [Row(int(r.seq), Role(r.role), r.text) for r in connection.execute(statement)]


def record_conversation(store: Store, call: CallRow, conversation_id: str) -> None:
    """The call's conversation is this one."""
    with store.write() as connection:
        mine = letta_conversations.c.call_id == call.id
        if connection.execute(select(letta_conversations.c.call_id).where(mine)).first() is None:
            values = {"call_id": call.id, "attempt": call.attempt, "mode": Mode.NULL_MODEL}
            connection.execute(insert(letta_conversations).values(conversation_id=conversation_id, **values))
        else:
            connection.execute(update(letta_conversations).where(mine).values(conversation_id=conversation_id))


def conversation(store: Store, call_id: str) -> str | None:
    """The call's present conversation in Letta; None when it has none yet."""
    statement = select(letta_conversations.c.conversation_id).where(letta_conversations.c.call_id == call_id)
    with store.read() as connection:
        found = connection.execute(statement).scalar()
    return None if found is None else str(found)


def restart_call(store: Store, call: CallRow, why: str) -> None:
    """Give the call's conversation up: the whole call goes into a new one."""
    with store.write() as connection:
        connection.execute(
            update(letta_batches).where(letta_batches.c.call_id == call.id).values(state=BatchState.VOID)
        )
        connection.execute(
            update(letta_conversations)
            .where(letta_conversations.c.call_id == call.id)
            .values(conversation_id=None, mirrored_seq=0, attempt=call.attempt + 1, last_error=why)
        )


def close_call(store: Store, call: CallRow, state: MirrorState, why: str = "") -> None:
    """The call is done, or dead and says why."""
    with store.write() as connection:
        connection.execute(update(calls).where(calls.c.id == call.id).values(mirror=state))
        if why:
            mine = letta_conversations.c.call_id == call.id
            connection.execute(update(letta_conversations).where(mine).values(last_error=why))


def intend(
    store: Store, call: CallRow, conversation_id: str, first_seq: int, last_seq: int, deadline_ms: int
) -> Batch | None:
    """Commit that a batch is about to be sent; None when the customer was forgotten meanwhile."""
    with store.write() as connection:
        fresh = connection.execute(
            select(calls.c.id)
            .join(customers, and_(customers.c.key == calls.c.customer, customers.c.generation == calls.c.generation))
            .where(calls.c.id == call.id)
        ).first()
        if fresh is None:
            return None
        result = connection.execute(
            insert(letta_batches).values(
                call_id=call.id,
                conversation_id=conversation_id,
                first_seq=first_seq,
                last_seq=last_seq,
                state=BatchState.SENT,
                deadline_ms=deadline_ms,
            )
        )
        key = result.inserted_primary_key
        assert key is not None  # noqa: S101  (an autoincrement insert has one)
        return Batch(int(key[0]), call.id, conversation_id, last_seq, deadline_ms, None)


def open_batches(store: Store, customer: str) -> list[Batch]:
    """Batches of a customer whose outcome is unknown, oldest first."""
    statement = (
        select(letta_batches)
        .join(calls, calls.c.id == letta_batches.c.call_id)
        .where(
            calls.c.customer == customer,
            calls.c.mirror == MirrorState.OPEN,
            letta_batches.c.state == BatchState.SENT,
        )
        .order_by(letta_batches.c.id)
    )
    with store.read() as connection:
        found = connection.execute(statement).all()
    return [
        Batch(
            int(r.id),
            r.call_id,
            r.conversation_id,
            int(r.last_seq),
            int(r.deadline_ms),
            None if r.absent_ms is None else int(r.absent_ms),
        )
        for r in found
    ]


def _move(connection: Connection, batch: Batch, state: BatchState) -> bool:
    allowed = [before for before, after in NEXT.items() if state in after]
    done = connection.execute(
        update(letta_batches)
        .where(letta_batches.c.id == batch.id, letta_batches.c.state.in_(allowed))
        .values(state=state)
    )
    return done.rowcount == 1


def confirm(store: Store, batch: Batch) -> None:
    """The batch is in Letta: the cursor moves with it."""
    with store.write() as connection:
        if _move(connection, batch, BatchState.CONFIRMED):
            connection.execute(
                update(letta_conversations)
                .where(letta_conversations.c.call_id == batch.call_id)
                .values(mirrored_seq=batch.last_seq)
            )


def absent(store: Store, batch: Batch) -> None:
    """The batch never arrived; its turns may be sent again."""
    with store.write() as connection:
        _move(connection, batch, BatchState.ABSENT)


def absent_since(store: Store, batch: Batch, at_ms: int | None) -> None:
    """Remember since when look-ups do not find the batch; None forgets it."""
    with store.write() as connection:
        connection.execute(update(letta_batches).where(letta_batches.c.id == batch.id).values(absent_ms=at_ms))
