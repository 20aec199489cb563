"""What the team says of a desk: one text a desk, a log of versions, used in every call of it.

    write(store, "assistant", "Offer the lunch menu first.", Source.OPERATOR)
    present(store, "assistant").text

Not here: its block in Letta (sync/desks.py), how it looks in a prompt (desk_prompt.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, delete, insert, or_, select, update

from voicectl.memory.calls import now_ms
from voicectl.memory.errors import Refused
from voicectl.memory.identity import clean
from voicectl.memory.lines import BLOCK_LIMIT
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import (
    calls,
    customers,
    desk_policies,
    desk_policy_blocks,
    letta_agents,
    letta_policies,
)


class Source(StrEnum):
    """Who wrote a version (`desk_policies.source`)."""

    OPERATOR = "operator"  # with voicectl
    ADE = "ade"  # in Letta's block
    REMOVED = "removed"  # nobody: the desk was removed. Its block is left alone until somebody says something again


@dataclass(frozen=True)
class Policy:
    """A version of what the team says of a desk; `text` "" when it was taken back."""

    id: int
    text: str
    source: Source
    at_ms: int


@dataclass(frozen=True)
class BlockRow:
    """What we know of the block; see schema.letta_blocks. Neither exchanged nor sending: it is a removed desk's."""

    block_id: str | None
    exchanged: str | None
    sending: str | None
    refused: str


def versions(store: Store, desk: str) -> list[Policy]:
    """All versions, the oldest first."""
    statement = select(desk_policies).where(desk_policies.c.desk == desk).order_by(desk_policies.c.id)
    with store.read() as connection:
        return [_policy(row) for row in connection.execute(statement)]


def present(store: Store, desk: str) -> Policy | None:
    """The version that holds; None when there never was one."""
    with store.read() as connection:
        row = connection.execute(_last(desk)).first()
    return None if row is None else _policy(row)


def _last(desk: str) -> Select[Any]:
    return select(desk_policies).where(desk_policies.c.desk == desk).order_by(desk_policies.c.id.desc()).limit(1)


def _policy(row: Row[Any]) -> Policy:
    return Policy(int(row.id), row.text, Source(row.source), int(row.at_ms))


def write(store: Store, desk: str, text: str, source: Source) -> Policy:
    """Say something else of a desk, "" to take it back; durable on return, used in turns that begin a second later.

    Raises:
        Refused: It is longer than BLOCK_LIMIT characters; nothing is cut away.
        StoreUnavailable: Nothing was written.
    """
    text = clean(text).strip()
    if len(text) > BLOCK_LIMIT:
        raise Refused(f"policy of {desk}", f"it has {len(text)} characters, {BLOCK_LIMIT} fit", "Say it shorter.")
    with store.write() as connection:
        store.lock(connection, "policy", desk)
        row = connection.execute(_last(desk)).first()
        if row is not None and row.source == Source.REMOVED and source == Source.ADE:
            return _policy(row)  # found there before the desk was removed
        if row is None or row.text != text:
            values = {"desk": desk, "text": text, "source": source, "at_ms": now_ms()}
            connection.execute(insert(desk_policies).values(**values))
            row = connection.execute(_last(desk)).one()
        return _policy(row)


def withdraw(connection: Connection, desk: str) -> None:
    """Take what was said of a removed desk back, inside a transaction; its block in Letta is nobody's from now on."""
    row = connection.execute(_last(desk)).first()
    if row is not None and row.source != Source.REMOVED:
        values = {"desk": desk, "text": "", "source": Source.REMOVED, "at_ms": now_ms()}
        connection.execute(insert(desk_policies).values(**values))
        # A desk made again under this name must not take for an edit what stands there of this one.
        left = update(desk_policy_blocks).where(desk_policy_blocks.c.name == desk)
        connection.execute(left.values(exchanged=None, sending=None))


def desks_with_one(store: Store) -> list[str]:
    """Desks of which something was ever said."""
    with store.read() as connection:
        return [str(d) for d in connection.execute(select(desk_policies.c.desk).distinct()).scalars()]


def block(store: Store, desk: str) -> BlockRow | None:
    """What we know of the desk's block in Letta."""
    with store.read() as connection:
        row = connection.execute(select(desk_policy_blocks).where(desk_policy_blocks.c.name == desk)).first()
    return None if row is None else BlockRow(row.block_id, row.exchanged, row.sending, row.refused)


def note_block(store: Store, desk: str, **values: str | None) -> None:
    """Change what we know of it: block_id, exchanged, sending, refused."""
    mine = desk_policy_blocks.c.name == desk
    with store.write() as connection:
        if not connection.execute(update(desk_policy_blocks).where(mine).values(**values)).rowcount:
            connection.execute(insert(desk_policy_blocks).values(name=desk, **values))


def to_attach(store: Store, limit: int) -> list[tuple[str, str, str]]:
    """Customers whose agent does not show the policy of the desk they called last: customer, agent, block."""
    last = (
        select(calls.c.id)
        .where(calls.c.customer == letta_agents.c.customer)
        .order_by(calls.c.started_ms.desc(), calls.c.id)
        .limit(1)
        .correlate(letta_agents)
        .scalar_subquery()
    )
    other = or_(
        letta_policies.c.agent_id.is_(None),
        letta_policies.c.agent_id != letta_agents.c.agent_id,
        letta_policies.c.block_id != desk_policy_blocks.c.block_id,
    )
    said = (
        select(desk_policies.c.source)
        .where(desk_policies.c.desk == calls.c.desk)
        .order_by(desk_policies.c.id.desc())
        .limit(1)
        .correlate(calls)
        .scalar_subquery()
    )
    statement = (
        select(letta_agents.c.customer, letta_agents.c.agent_id, desk_policy_blocks.c.block_id)
        .join(calls, calls.c.id == last)
        .join(desk_policy_blocks, desk_policy_blocks.c.name == calls.c.desk)
        .outerjoin(letta_policies, letta_policies.c.customer == letta_agents.c.customer)
        .where(and_(letta_agents.c.agent_id.is_not(None), desk_policy_blocks.c.block_id.is_not(None), other))
        .where(said != Source.REMOVED)
        .order_by(calls.c.started_ms.desc())
        .limit(limit)
    )
    with store.read() as connection:
        return [(str(a), str(b), str(c)) for a, b, c in connection.execute(statement)]


def attached(store: Store, customer: str, agent_id: str, block_id: str) -> None:
    """The customer's agent shows this block now."""
    with store.write() as connection:
        connection.execute(delete(letta_policies).where(letta_policies.c.customer == customer))
        if connection.execute(select(customers.c.key).where(customers.c.key == customer)).first() is not None:
            values = {"customer": customer, "agent_id": agent_id, "block_id": block_id}
            connection.execute(insert(letta_policies).values(**values))
