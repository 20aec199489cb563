"""What we know of Letta, in the store: which agent, which conversation, how far, and what is on its way.

Every change is one transaction. All of it could be lost and found again from tags, titles and markers, except that
`calls.mirror` says which calls are done. Not here: what to do next (mirror.py, blocks.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update

from voicectl.memory.calls import CallState, now_ms
from voicectl.memory.recorder import Role
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import (
    calls,
    customers,
    dead_letters,
    letta_batches,
    letta_conversations,
    turns,
)
from voicectl.memory.sync.states import NEXT, BatchState, LetterState, MirrorState, Mode
from voicectl.memory.sync.transcript import SPOKEN, Row

_SPOKEN = [role.value for role in SPOKEN]
_TO_DO = (MirrorState.OPEN, MirrorState.AGAIN)
WHOLE_CALL = 0  # dead_letters.seq


@dataclass(frozen=True)
class CallRow:
    """A call that is not done."""

    id: str
    desk: str
    started_ms: int
    ended: bool
    again: bool  # to be sent from the first turn, because a person asked for it
    conversation_id: str | None
    attempt: int  # which conversation of this call; part of its title, so that an older one is not taken for it
    failures: int  # how many of them did not match the store
    mirrored_seq: int
    agent_id: str | None = None  # the desk's agent, whose conversation it is; None: the customer's own, or none yet


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
        .where(
            calls.c.mirror.in_(_TO_DO),
            or_(calls.c.mirror == MirrorState.AGAIN, calls.c.state == CallState.ENDED, _new_turns()),
        )
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
            calls.c.mirror,
            letta_conversations.c.conversation_id,
            func.coalesce(letta_conversations.c.attempt, 1).label("attempt"),
            func.coalesce(letta_conversations.c.failures, 0).label("failures"),
            _mirrored().label("mirrored_seq"),
            letta_conversations.c.agent_id,
        )
        .outerjoin(letta_conversations, letta_conversations.c.call_id == calls.c.id)
        .where(calls.c.customer == customer, calls.c.generation == generation, calls.c.mirror.in_(_TO_DO))
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
            r.mirror == MirrorState.AGAIN,
            r.conversation_id,
            int(r.attempt),
            int(r.failures),
            int(r.mirrored_seq),
            r.agent_id,
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


def record_conversation(store: Store, call: CallRow, conversation_id: str, agent_id: str | None = None) -> None:
    """The call's conversation is this one.

    Args:
        store: The store.
        call: The call.
        conversation_id: The conversation.
        agent_id: The desk's agent, whose it is; None: the customer's own.
    """
    with store.write() as connection:
        mine = letta_conversations.c.call_id == call.id
        found = {"conversation_id": conversation_id, "agent_id": agent_id}
        if connection.execute(select(letta_conversations.c.call_id).where(mine)).first() is None:
            values = {"call_id": call.id, "attempt": call.attempt, "mode": Mode.NULL_MODEL}
            connection.execute(insert(letta_conversations).values(**values, **found))
        else:
            connection.execute(update(letta_conversations).where(mine).values(**found))


def conversation(store: Store, call_id: str) -> str | None:
    """The call's present conversation in Letta; None when it has none yet."""
    statement = select(letta_conversations.c.conversation_id).where(letta_conversations.c.call_id == call_id)
    with store.read() as connection:
        found = connection.execute(statement).scalar()
    return None if found is None else str(found)


def conversations(store: Store, customer: str) -> dict[str, str]:
    """The conversations that we believe to be in the customer's agent: call and conversation id."""
    statement = (
        select(letta_conversations.c.call_id, letta_conversations.c.conversation_id)
        .join(calls, calls.c.id == letta_conversations.c.call_id)
        .join(customers, and_(customers.c.key == calls.c.customer, customers.c.generation == calls.c.generation))
        .where(calls.c.customer == customer, letta_conversations.c.conversation_id.is_not(None))
        .where(letta_conversations.c.agent_id.is_(None))
    )
    with store.read() as connection:
        return {r.call_id: r.conversation_id for r in connection.execute(statement)}


def restart_call(store: Store, call_id: str, why: str, *, failed: bool = False, forgiven: bool = False) -> None:
    """Give the call's conversation up: the whole call goes into a new one.

    Args:
        store: The store.
        call_id: The call; one that a person must look at stays as it is.
        why: What was wrong.
        failed: It counts against the call.
        forgiven: What counted against it until now does not any more.
    """
    with store.write() as connection:
        again(connection, call_id, why, failed=failed, forgiven=forgiven)


def again(connection: Connection, call_id: str, why: str = "", *, failed: bool = False, forgiven: bool = False) -> None:
    """`restart_call` inside a transaction."""
    mine = letta_conversations.c.call_id == call_id
    connection.execute(update(letta_batches).where(letta_batches.c.call_id == call_id).values(state=BatchState.VOID))
    connection.execute(
        update(letta_conversations)
        .where(mine)
        .values(
            conversation_id=None,
            mirrored_seq=0,
            attempt=letta_conversations.c.attempt + 1,
            failures=0 if forgiven else letta_conversations.c.failures + int(failed),
            last_error=why,
        )
    )
    connection.execute(
        update(calls).where(calls.c.id == call_id, calls.c.mirror != MirrorState.DEAD).values(mirror=MirrorState.OPEN)
    )


def close_call(store: Store, call: CallRow, state: MirrorState, why: str = "") -> None:
    """The call is done, or dead and among the dead letters; nothing if a person asked for another go meanwhile."""
    with store.write() as connection:
        closed = connection.execute(
            update(calls).where(calls.c.id == call.id, calls.c.mirror == MirrorState.OPEN).values(mirror=state)
        )
        if state == MirrorState.DEAD and closed.rowcount == 1:
            connection.execute(delete(dead_letters).where(dead_letters.c.call_id == call.id))
            _letter(connection, call.id, WHOLE_CALL, why)


def bury_turn(store: Store, call_id: str, seq: int, why: str) -> None:
    """Letta does not take this turn: it is a dead letter, and the cursor passes it."""
    with store.write() as connection:
        mine = dead_letters.c.call_id == call_id
        connection.execute(delete(dead_letters).where(mine, dead_letters.c.seq == seq))
        _letter(connection, call_id, seq, why)
        connection.execute(
            update(letta_conversations).where(letta_conversations.c.call_id == call_id).values(mirrored_seq=seq)
        )


def _letter(connection: Connection, call_id: str, seq: int, why: str) -> None:
    values = {"call_id": call_id, "seq": seq, "state": LetterState.DEAD, "why": why, "at_ms": now_ms()}
    connection.execute(insert(dead_letters).values(**values))


def buried(store: Store, call_id: str) -> set[int]:
    """Sequence numbers of the call's turns that Letta does not take, dropped ones included."""
    statement = select(dead_letters.c.seq).where(dead_letters.c.call_id == call_id)
    with store.read() as connection:
        return {int(seq) for seq in connection.execute(statement).scalars()}


def suspect(store: Store, call_id: str) -> None:
    """Something may have reached the call's conversation after it was complete: it is compared again."""
    with store.write() as connection:
        connection.execute(
            update(calls)
            .where(calls.c.id == call_id, calls.c.mirror == MirrorState.DONE)
            .values(mirror=MirrorState.OPEN)
        )


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
            calls.c.mirror.in_(_TO_DO),
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


def confirm(store: Store, batch: Batch) -> bool:
    """The batch is in Letta: the cursor moves with it.

    Returns:
        False when it had been settled as absent, or its conversation given up: its turns may be there twice.
    """
    with store.write() as connection:
        if _move(connection, batch, BatchState.CONFIRMED):
            connection.execute(
                update(letta_conversations)
                .where(letta_conversations.c.call_id == batch.call_id)
                .values(mirrored_seq=batch.last_seq)
            )
            return True
        now = connection.execute(select(letta_batches.c.state).where(letta_batches.c.id == batch.id)).scalar()
        return now == BatchState.CONFIRMED


def times_absent(store: Store, conversation_id: str, first_seq: int) -> int:
    """How often a batch that began with this turn did not arrive in this conversation."""
    statement = select(func.count()).where(
        letta_batches.c.conversation_id == conversation_id,
        letta_batches.c.first_seq == first_seq,
        letta_batches.c.state == BatchState.ABSENT,
    )
    with store.read() as connection:
        return int(connection.execute(statement).scalar_one())


def stored_others_since(store: Store, conversation_id: str, first_seq: int) -> bool:
    """Whether Letta has stored anything else since a batch that began with this turn first did not arrive."""
    first = (
        select(func.min(letta_batches.c.id))
        .where(
            letta_batches.c.conversation_id == conversation_id,
            letta_batches.c.first_seq == first_seq,
            letta_batches.c.state == BatchState.ABSENT,
        )
        .scalar_subquery()
    )
    later = select(letta_batches.c.id).where(letta_batches.c.id > first, letta_batches.c.state == BatchState.CONFIRMED)
    with store.read() as connection:
        return connection.execute(later.limit(1)).first() is not None


def answered(store: Store, batch: Batch, at_ms: int) -> None:
    """The request has ended, without success: nothing of it is under way any more."""
    with store.write() as connection:
        connection.execute(update(letta_batches).where(letta_batches.c.id == batch.id).values(deadline_ms=at_ms))


def absent(store: Store, batch: Batch) -> None:
    """The batch never arrived; its turns may be sent again."""
    with store.write() as connection:
        _move(connection, batch, BatchState.ABSENT)


def absent_since(store: Store, batch: Batch, at_ms: int | None) -> None:
    """Remember since when look-ups do not find the batch; None forgets it."""
    with store.write() as connection:
        connection.execute(update(letta_batches).where(letta_batches.c.id == batch.id).values(absent_ms=at_ms))
