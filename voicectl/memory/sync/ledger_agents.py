"""What we know of customers' agents and blocks in Letta, in the store.

Every change is one transaction. All of it can be lost: agents are found again by tag, with their blocks.
Not here: calls and batches (ledger.py), what to do next (mirror.py, blocks.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from voicectl.memory.backends import Agent
from voicectl.memory.calls import now_ms
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import customers, letta_agents, letta_blocks, profile_ops


@dataclass(frozen=True)
class AgentRow:
    """What we know of a customer's agent; `agent_id` None when it must be looked up."""

    generation: int
    agent_id: str | None
    model: str
    description: str
    seen_op: int


@dataclass(frozen=True)
class BlockRow:
    """What we know of one block; see schema.letta_blocks."""

    block_id: str
    exchanged: str | None
    sending: str | None
    refused: str


def customers_with_changed_profile(store: Store, since_op: int) -> tuple[list[str], int]:
    """Customers whose blocks do not include all operations after `since_op`, and the last operation there is."""
    behind = (
        select(profile_ops.c.customer)
        .join(letta_agents, letta_agents.c.customer == profile_ops.c.customer)
        .where(profile_ops.c.id > since_op, profile_ops.c.id > letta_agents.c.seen_op)
        .distinct()
    )
    with store.read() as connection:
        last = int(connection.execute(select(func.coalesce(func.max(profile_ops.c.id), 0))).scalar_one())
        return [str(key) for key in connection.execute(behind).scalars()], last


def customers_to_check(store: Store, before_ms: int, limit: int) -> list[str]:
    """Customers whose blocks were last read before a time, the oldest first; also those whose agent was lost."""
    statement = (
        select(letta_agents.c.customer)
        .where(letta_agents.c.checked_ms < before_ms)
        .order_by(letta_agents.c.checked_ms)
        .limit(limit)
    )
    with store.read() as connection:
        return [str(key) for key in connection.execute(statement).scalars()]


def agent(store: Store, customer: str) -> AgentRow | None:
    """What we know of the customer's agent; None when nothing."""
    with store.read() as connection:
        row = connection.execute(select(letta_agents).where(letta_agents.c.customer == customer)).first()
    if row is None:
        return None
    return AgentRow(int(row.generation), row.agent_id, row.model, row.description, int(row.seen_op))


def blocks(store: Store, customer: str) -> dict[str, BlockRow]:
    """What we know of the customer's blocks, by label."""
    with store.read() as connection:
        rows = connection.execute(select(letta_blocks).where(letta_blocks.c.customer == customer)).all()
    return {r.block: BlockRow(r.block_id, r.exchanged, r.sending, r.refused) for r in rows}


def record_agent(
    store: Store,
    customer: str,
    generation: int,
    agent: Agent,
    *,
    model: str,
    description: str,
    texts: Mapping[str, str],
) -> bool:
    """Record the agent that was found or created; False when another syncer recorded one meanwhile.

    Args:
        store: The store.
        customer: Customer key.
        generation: The generation it was made for; an older one than the customer's is refused.
        agent: The agent.
        model: What it answers operators with.
        description: What its description says.
        texts: The blocks' texts if it was created by us just now.
    """
    values = {"generation": generation, "agent_id": agent.id, "model": model, "description": description}
    with store.write() as connection:
        now = connection.execute(select(customers.c.generation).where(customers.c.key == customer)).scalar()
        if now != generation:
            return False
        row = connection.execute(select(letta_agents).where(letta_agents.c.customer == customer)).first()
        if row is None:
            connection.execute(insert(letta_agents).values(customer=customer, **values))
        elif row.agent_id is None or row.generation < generation:
            mine = letta_agents.c.customer == customer
            connection.execute(update(letta_agents).where(mine).values(seen_op=0, checked_ms=0, **values))
        else:
            return bool(row.agent_id == agent.id)
        known = {
            r.block: r.block_id
            for r in connection.execute(select(letta_blocks).where(letta_blocks.c.customer == customer))
        }
        for label, block_id in agent.block_ids.items():
            if known.get(label) == block_id:
                continue  # the same block: what was last exchanged still holds
            connection.execute(delete(letta_blocks).where(_block(customer, label)))
            text = texts.get(label) if agent.created else None
            connection.execute(
                insert(letta_blocks).values(customer=customer, block=label, block_id=block_id, exchanged=text)
            )
    return True


def lose_agent(store: Store, customer: str) -> None:
    """Something of the agent is not there any more: look it up again by tag before anything else."""
    with store.write() as connection:
        connection.execute(update(letta_agents).where(letta_agents.c.customer == customer).values(agent_id=None))


def forget_agent(connection: Connection, customer: str) -> None:
    """Forget the agent and its blocks; what was exchanged with them does not count for another one."""
    connection.execute(
        update(letta_agents)
        .where(letta_agents.c.customer == customer)
        .values(agent_id=None, description="", seen_op=0, checked_ms=0)
    )
    connection.execute(delete(letta_blocks).where(letta_blocks.c.customer == customer))


def described(store: Store, customer: str, *, model: str, description: str) -> None:
    """The agent's description and model are these now."""
    with store.write() as connection:
        connection.execute(
            update(letta_agents).where(letta_agents.c.customer == customer).values(model=model, description=description)
        )


def _block(customer: str, label: str) -> Any:
    return (letta_blocks.c.customer == customer) & (letta_blocks.c.block == label)


def block(store: Store, customer: str, label: str, **values: str | None) -> None:
    """Change what we know of one block: exchanged, sending, refused."""
    with store.write() as connection:
        connection.execute(update(letta_blocks).where(_block(customer, label)).values(**values))


def blocks_checked(store: Store, customer: str, seen_op: int) -> None:
    """The blocks were read, and include the profile up to an operation."""
    with store.write() as connection:
        connection.execute(
            update(letta_agents).where(letta_agents.c.customer == customer).values(checked_ms=now_ms(), seen_op=seen_op)
        )


def last_op(store: Store, customer: str) -> int:
    """The customer's latest operation on the profile; 0 when there is none."""
    statement = select(func.coalesce(func.max(profile_ops.c.id), 0)).where(profile_ops.c.customer == customer)
    with store.read() as connection:
        return int(connection.execute(statement).scalar_one())
