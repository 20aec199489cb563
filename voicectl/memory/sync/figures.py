"""How far Letta is behind, from the store's rows: lag, backlog, dead letters, outage.

The syncers write what only they know (`sync_status`); everybody else reads: voicectl, the control plane's /metrics.
Not here: printing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import and_, delete, func, insert, select, update

from voicectl.memory.calls import now_ms
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import calls, customers, dead_letters, letta_conversations, sync_status, turns
from voicectl.memory.sync.states import LetterState, MirrorState, Outage
from voicectl.memory.sync.transcript import SPOKEN

LETTA = "letta"
SAID_EVERY_S = 5.0  # how often a syncer says that it is there
SILENT_MS = 30_000  # after this no syncer is there


@dataclass(frozen=True)
class SyncFigures:
    """How the mirroring is getting on.

    Args:
        lag_ms: Age of the oldest turn that is not in Letta and should be; 0 when all are.
        backlog: How many such turns there are.
        dead_letters: Turns and calls that need a person.
        outage: What keeps turns from being mirrored; None when no syncer has said anything for SILENT_MS.
        why: What Letta said, without anything customers said.
        since_ms: Since when, milliseconds since 1970; None when unknown.
        failing: Customers who cannot be mirrored now, with the reason.
    """

    lag_ms: int
    backlog: int
    dead_letters: int
    outage: Outage | None
    why: str = ""
    since_ms: int | None = None
    failing: dict[str, str] = field(default_factory=dict)


def sync_figures(store: Store, at_ms: int | None = None) -> SyncFigures:
    """The figures now.

    Raises:
        StoreUnavailable: The store did not answer.
    """
    now = now_ms() if at_ms is None else at_ms
    present = and_(customers.c.key == calls.c.customer, customers.c.generation == calls.c.generation)
    # One index entry of calls.mirror leads to what is open; calls that are done are never looked at.
    waiting = (
        select(func.count(), func.min(turns.c.at_ms))
        .select_from(turns)
        .join(calls, calls.c.id == turns.c.call_id)
        .join(customers, present)
        .outerjoin(letta_conversations, letta_conversations.c.call_id == calls.c.id)
        .outerjoin(dead_letters, and_(dead_letters.c.call_id == turns.c.call_id, dead_letters.c.seq == turns.c.seq))
        .where(
            calls.c.mirror.in_([MirrorState.OPEN, MirrorState.AGAIN]),
            turns.c.role.in_([r.value for r in SPOKEN]),
            turns.c.seq > func.coalesce(letta_conversations.c.mirrored_seq, 0),
            dead_letters.c.seq.is_(None),
        )
    )
    dead = (
        select(func.count())
        .select_from(dead_letters.join(calls, calls.c.id == dead_letters.c.call_id).join(customers, present))
        .where(dead_letters.c.state == LetterState.DEAD)
    )
    with store.read() as connection:
        backlog, oldest = connection.execute(waiting).one()
        letters = int(connection.execute(dead).scalar_one())
        said = connection.execute(select(sync_status)).all()
    letta = next((r for r in said if r.name == LETTA), None)
    silent = letta is None or now - letta.at_ms > SILENT_MS
    return SyncFigures(
        lag_ms=max(0, now - int(oldest)) if oldest is not None else 0,
        backlog=int(backlog),
        dead_letters=letters,
        outage=None if letta is None or silent else Outage(letta.state),
        why="no syncer has been there for 30 s" if letta is None or silent else letta.why,
        since_ms=None if letta is None else int(letta.at_ms if silent else letta.since_ms),
        failing={r.name.removeprefix("customer:"): r.why for r in said if r.name.startswith("customer:")},
    )


def as_json(figures: SyncFigures) -> dict[str, Any]:
    """The same as plain values; `outage` is "unknown" when no syncer is there."""
    return {
        "lag_ms": figures.lag_ms,
        "backlog": figures.backlog,
        "dead_letters": figures.dead_letters,
        "outage": figures.outage.value if figures.outage else "unknown",
        "why": figures.why,
        "since_ms": figures.since_ms,
        "failing": figures.failing,
    }


def say(store: Store, state: Outage, why: str = "", *, customer: str | None = None) -> None:
    """Write down how it goes with Letta, or with one customer; `since` stays while the state does."""
    name = LETTA if customer is None else f"customer:{customer}"
    now = now_ms()
    mine = sync_status.c.name == name
    with store.write() as connection:
        if (
            customer is not None
            and connection.execute(select(customers).where(customers.c.key == customer)).first() is None
        ):
            return  # forgotten meanwhile
        same = sync_status.c.state == state
        if connection.execute(update(sync_status).where(mine, same).values(why=why, at_ms=now)).rowcount:
            return
        values = {"state": state, "why": why, "since_ms": now, "at_ms": now}
        if not connection.execute(update(sync_status).where(mine).values(**values)).rowcount:
            connection.execute(insert(sync_status).values(name=name, **values))


def unsay(store: Store, customer: str) -> None:
    """The customer can be mirrored again."""
    with store.write() as connection:
        connection.execute(delete(sync_status).where(sync_status.c.name == f"customer:{customer}"))
