"""Calls that lie in a desk's agent, which is somebody else's: what to do when Letta lost them, and when to delete them.

We add conversations to such an agent and delete our own; the agent and its blocks are never touched.
Not here: sending (mirror.py), reading the agent (desks.py).
"""

from __future__ import annotations

import logging

from sqlalchemy import select

from voicectl.memory import desks
from voicectl.memory.backends import Backend, NotThere
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import calls, forgotten_calls, letta_conversations
from voicectl.memory.sync import ledger
from voicectl.memory.sync.ledger import CallRow
from voicectl.memory.sync.states import MirrorState
from voicectl.memory.sync.tools import ABSENCE_S, Later, Tools

log = logging.getLogger(__name__)


def call_in(title: str) -> str:
    """The call that a conversation is of, by its title; any text of somebody else's conversation."""
    return title.split(" ")[0].split("/")[0]


def look(tools: Tools, call: CallRow, agent_id: str) -> None:
    """Letta said that something of a call is not there: find out what. Returns when it is the customer's own agent.

    Raises:
        Later: The call goes into a new conversation, was given up because the agent is gone, or it is too early to say.
        BackendUnavailable: Letta does not answer.
    """
    try:
        present = tools.backend.conversations(agent_id)
    except NotThere as e:
        now = tools.clock_ms()
        since = desks.gone(tools.store, agent_id, now)
        if now - since < ABSENCE_S * 1000:  # a Letta that is being brought back may not have it yet
            raise Later(ABSENCE_S, "the desk's agent is not in Letta; looking once more") from e
        why = (
            f"the agent of desk {call.desk} ({agent_id}) is not in Letta any more. The turns are safe in the store. "
            f"To send them to the customer's own agent: voicectl desks remove {call.desk}, then voicectl sync retry"
        )
        ledger.close_call(tools.store, call, MirrorState.DEAD, why)
        log.error("call given up; its turns are safe in the store", extra={"call": call.id, "why": why})
        raise Later(0.1, "the call was given up") from e
    known = ledger.conversation(tools.store, call.id)
    if known is not None and known not in present:
        why = "its conversation is not in Letta any more"
        log.warning("call goes into a new conversation", extra={"call": call.id, "why": why})
        ledger.restart_call(tools.store, call.id, why)
        raise Later(0.5, why)


def conversations_of(store: Store, customer: str) -> dict[str, tuple[str, str | None]]:
    """A customer's calls that lie in desks' agents: agent and conversation of each."""
    statement = (
        select(calls.c.id, letta_conversations.c.agent_id, letta_conversations.c.conversation_id)
        .join(letta_conversations, letta_conversations.c.call_id == calls.c.id)
        .where(calls.c.customer == customer, letta_conversations.c.agent_id.is_not(None))
    )
    with store.read() as connection:
        return {str(r[0]): (str(r[1]), None if r[2] is None else str(r[2])) for r in connection.execute(statement)}


def titles(backend: Backend, agent_id: str) -> dict[str, str]:
    """All conversations of an agent; none when it is not there."""
    try:
        return backend.conversations(agent_id)
    except NotThere:
        return {}


def drop_of(store: Store, backend: Backend, customer: str) -> int:
    """Delete a customer's conversations in desks' agents; how many there were.

    Raises:
        BackendFault: Letta does not answer.
    """
    mine = conversations_of(store, customer)
    return sum(_drop(backend, agent_id, set(mine)) for agent_id in sorted({agent for agent, _ in mine.values()}))


def drop_forgotten(store: Store, backend: Backend) -> int:
    """Delete the conversations of calls whose customers were forgotten, in all agents that ever were a desk's.

    Raises:
        BackendFault: Letta does not answer; nothing counts as deleted.
        StoreUnavailable: The store does not answer.
    """
    agents = desks.agents_ever(store)
    if not agents:
        return 0
    with store.read() as connection:
        gone = {str(i) for i in connection.execute(select(forgotten_calls.c.call_id)).scalars()}
    return sum(_drop(backend, agent_id, gone) for agent_id in agents)


def _drop(backend: Backend, agent_id: str, call_ids: set[str]) -> int:
    found = [conversation for conversation, title in titles(backend, agent_id).items() if call_in(title) in call_ids]
    for conversation in found:
        backend.drop_conversation(conversation)
    return len(found)
