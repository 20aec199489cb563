"""Dead letters: turns and calls that do not go to Letta until a person decides.

`retry` gives a call another go from its first turn, in a new conversation, so that the order is kept; `drop` says that
it stays in the store alone. Both are decisions in the store; the syncer acts on them.
Not here: when something becomes a dead letter (mirror.py), the commands (cli/commands/sync.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, delete, select, update

from voicectl.memory.calls import now_ms
from voicectl.memory.errors import CustomerUnknown
from voicectl.memory.identity import normalise
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import calls, customers, dead_letters
from voicectl.memory.sync.states import LetterState, MirrorState


@dataclass(frozen=True)
class Letter:
    """One of them.

    Args:
        customer: Customer key.
        call: The call.
        seq: The turn's number in it; 0 for the whole call.
        state: Whether somebody has decided.
        why: What Letta or the comparison said.
        at_ms: Since when, in milliseconds since 1970.
    """

    customer: str
    call: str
    seq: int
    state: LetterState
    why: str
    at_ms: int


def find(store: Store, name: str) -> str:
    """The customer key or call id that is meant by what a person typed.

    Raises:
        CustomerUnknown: Neither.
    """
    with store.read() as connection:
        if connection.execute(select(calls.c.id).where(calls.c.id == name)).first() is not None:
            return name
        key = normalise(name)
        if connection.execute(select(customers.c.key).where(customers.c.key == key)).first() is None:
            raise CustomerUnknown(key)
    return key


def _of(name: str | None) -> ColumnElement[bool]:
    present = and_(customers.c.key == calls.c.customer, customers.c.generation == calls.c.generation)
    ids = select(calls.c.id).join(customers, present)  # a forgotten customer's are nobody's business
    if name is not None:
        ids = ids.where((calls.c.id == name) | (calls.c.customer == name))
    return dead_letters.c.call_id.in_(ids)


def letters(store: Store, name: str | None = None) -> list[Letter]:
    """The dead letters, the oldest first; the dropped ones too.

    Args:
        store: The store.
        name: Of this customer or call, as `find` returned it; None: all.
    """
    statement = (
        select(dead_letters, calls.c.customer)
        .join(calls, calls.c.id == dead_letters.c.call_id)
        .where(_of(name))
        .order_by(dead_letters.c.at_ms, dead_letters.c.call_id, dead_letters.c.seq)
    )
    with store.read() as connection:
        return [
            Letter(r.customer, r.call_id, int(r.seq), LetterState(r.state), r.why, int(r.at_ms))
            for r in connection.execute(statement)
        ]


def retry(store: Store, name: str | None = None) -> list[Letter]:
    """Give their calls another go, dropped ones only when named; returns the letters that are none any more."""
    with store.write() as connection:
        chosen = _of(name) if name is not None else _of(None) & (dead_letters.c.state == LetterState.DEAD)
        rows = connection.execute(
            select(dead_letters, calls.c.customer).join(calls, calls.c.id == dead_letters.c.call_id).where(chosen)
        ).all()
        ids = {r.call_id for r in rows}
        for call_id in ids:
            connection.execute(delete(dead_letters).where(chosen, dead_letters.c.call_id == call_id))
            connection.execute(update(calls).where(calls.c.id == call_id).values(mirror=MirrorState.AGAIN))
    return [Letter(r.customer, r.call_id, int(r.seq), LetterState(r.state), r.why, int(r.at_ms)) for r in rows]


def drop(store: Store, name: str | None = None) -> int:
    """Record that they stay out of Letta; returns how many. Nothing is deleted: the turns are in the store."""
    with store.write() as connection:
        done = connection.execute(
            update(dead_letters)
            .where(_of(name), dead_letters.c.state == LetterState.DEAD)
            .values(state=LetterState.DROPPED, at_ms=now_ms())
        )
    return int(done.rowcount)
