"""Desks that speak for an agent which somebody keeps in Letta, and what we know of that agent; all of it in the store.

    add(store, "Agent_66", "Agent 66", agent)
    agent_for(store, "Agent_66")  # whose conversations its calls become

The syncer brings the agent's system prompt and blocks here (sync/desks.py), calls read them from here. What Letta did
not say changes nothing. Not here: desks of our own (voice/agents/), how it looks in a prompt (desk_prompt.py), what the
team says of a desk (policies.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select, update

from voicectl.memory import policies
from voicectl.memory.backends.desks import OtherAgent
from voicectl.memory.calls import CallState, now_ms
from voicectl.memory.errors import Refused
from voicectl.memory.identity import clean
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import calls, desk_agents, desk_blocks, desks

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


@dataclass(frozen=True)
class LettaDesk:
    """A desk that speaks for an agent in Letta.

    Args:
        name: By what it is called.
        title: What customers see.
        agent_id: The agent.
        agent_name: Its name in Letta.
        no_calls: Why its calls go to the customers' own agents; "" when they are its conversations.
        read_ms: When Letta last gave the agent, milliseconds since 1970.
        gone_ms: Since when Letta says that it is not there; None: it is.
    """

    name: str
    title: str
    agent_id: str
    agent_name: str
    no_calls: str
    read_ms: int
    gone_ms: int | None


_DESKS = (
    select(
        desks.c.name,
        desks.c.title,
        desks.c.agent_id,
        desk_agents.c.name.label("agent_name"),
        desk_agents.c.no_calls,
        desk_agents.c.read_ms,
        desk_agents.c.gone_ms,
    )
    .join(desk_agents, desk_agents.c.agent_id == desks.c.agent_id)
    .order_by(desks.c.name)
)


def letta_desks(store: Store) -> list[LettaDesk]:
    """All of them, by name.

    Raises:
        StoreUnavailable: The store did not answer.
    """
    with store.read() as connection:
        rows = connection.execute(_DESKS).all()
    return [
        LettaDesk(r.name, r.title, r.agent_id, r.agent_name, r.no_calls, int(r.read_ms), _number(r.gone_ms))
        for r in rows
    ]


def _number(value: int | None) -> int | None:
    return None if value is None else int(value)


def letta_desk(store: Store, name: str) -> LettaDesk | None:
    """The desk of a name; None when it is none of these."""
    return next((d for d in letta_desks(store) if d.name == name), None)


def add(store: Store, name: str, title: str, agent: OtherAgent) -> LettaDesk:
    """Make a desk that speaks for an agent, with all that the agent has now; durable on return.

    Args:
        store: The store.
        name: The desk's name; fits NAME.
        title: What customers see.
        agent: The agent as it was just read.

    Raises:
        Refused: There is such a desk.
        StoreUnavailable: Nothing was written.
    """
    with store.write() as connection:
        store.lock(connection, "desks")
        taken = connection.execute(select(desks.c.name).where(func.lower(desks.c.name) == name.lower())).scalar()
        if taken is not None:
            raise Refused(f"add desk {name}", f"there is a desk {taken}", "Give it another: --name NAME")
        values = {"name": name, "title": title[:100], "agent_id": agent.id, "added_ms": now_ms()}
        connection.execute(insert(desks).values(**values))
        _keep(connection, agent)
    made = letta_desk(store, name)
    assert made is not None  # noqa: S101  (written a moment ago)
    return made


def remove(store: Store, name: str) -> bool:
    """Remove a desk; its agent in Letta and the calls that lie there stay. False when there is no such desk.

    Raises:
        Refused: Somebody is on a call of it.
        StoreUnavailable: Nothing was written.
    """
    with store.write() as connection:
        agent_id = connection.execute(select(desks.c.agent_id).where(desks.c.name == name)).scalar()
        if agent_id is None:
            return False
        open_ = select(func.count()).where(calls.c.desk == name, calls.c.state != CallState.ENDED)
        if number := int(connection.execute(open_).scalar_one()):
            raise Refused(f"remove desk {name}", f"{number} calls of it are on", "Wait until they have ended.")
        connection.execute(delete(desks).where(desks.c.name == name))
        store.lock(connection, "policy", name)
        policies.withdraw(connection, name)  # who makes a desk of this name again begins without its rules
        if connection.execute(select(desks.c.name).where(desks.c.agent_id == agent_id)).first() is None:
            connection.execute(delete(desk_blocks).where(desk_blocks.c.agent_id == agent_id))
            mine = desk_agents.c.agent_id == agent_id
            connection.execute(update(desk_agents).where(mine).values(system="", gone_ms=None))
    return True


def keep(store: Store, agent: OtherAgent) -> bool:
    """Take over what an agent is now; whether anything of it is new."""
    with store.write() as connection:
        if connection.execute(select(desks.c.name).where(desks.c.agent_id == agent.id)).first() is None:
            return False  # no desk speaks for it any more
        return _keep(connection, agent)


def _keep(connection: Connection, agent: OtherAgent) -> bool:
    mine = desk_agents.c.agent_id == agent.id
    before = connection.execute(select(desk_agents).where(mine)).first()
    rows = connection.execute(select(desk_blocks).where(desk_blocks.c.agent_id == agent.id)).all()
    had = {r.label: r.text for r in rows}
    # The database is stricter than Letta about what a text may hold.
    has = {clean(label)[:200]: clean(text) for label, text in agent.blocks}
    system, name = clean(agent.system), clean(agent.name)[:200]
    new = before is None or had != has or (before.system, before.name) != (system, name)
    values = {"name": name, "system": system, "no_calls": agent.no_calls[:200], "read_ms": now_ms(), "gone_ms": None}
    if before is None:
        connection.execute(insert(desk_agents).values(agent_id=agent.id, revision=1, **values))
    else:
        connection.execute(update(desk_agents).where(mine).values(revision=int(before.revision) + int(new), **values))
    if had != has:
        connection.execute(delete(desk_blocks).where(desk_blocks.c.agent_id == agent.id))
        for label, text in has.items():
            connection.execute(insert(desk_blocks).values(agent_id=agent.id, label=label, text=text))
    return new


def gone(store: Store, agent_id: str, at_ms: int) -> int:
    """Letta says that the agent is not there; since when it says so. What is known of the agent stays."""
    mine = desk_agents.c.agent_id == agent_id
    with store.write() as connection:
        connection.execute(update(desk_agents).where(mine, desk_agents.c.gone_ms.is_(None)).values(gone_ms=at_ms))
        since = connection.execute(select(desk_agents.c.gone_ms).where(mine)).scalar()
    return at_ms if since is None else int(since)


def agent_for(store: Store, desk: str) -> str | None:
    """The agent whose conversations a desk's calls become; None: they go to the customers' own agents."""
    statement = (
        select(desks.c.agent_id)
        .join(desk_agents, desk_agents.c.agent_id == desks.c.agent_id)
        .where(desks.c.name == desk, desk_agents.c.no_calls == "")
    )
    with store.read() as connection:
        found = connection.execute(statement).scalar()
    return None if found is None else str(found)


def agents_ever(store: Store) -> list[str]:
    """Agents that a desk speaks for or has spoken for: calls may lie in them."""
    with store.read() as connection:
        return [
            str(i)
            for i in connection.execute(select(desk_agents.c.agent_id).order_by(desk_agents.c.agent_id)).scalars()
        ]


def called_now(store: Store) -> set[str]:
    """Names of the desks, ours too, that somebody is talking to."""
    with store.read() as connection:
        statement = select(calls.c.desk).where(calls.c.state != CallState.ENDED).distinct()
        return {str(name) for name in connection.execute(statement).scalars()}
