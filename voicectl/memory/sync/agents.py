"""The customer's agent in Letta: found by tag or created, recorded, and what is done when Letta has lost something.

Letta is a view: what it has lost (a conversation, an agent, its whole database) is sent again from the store. Nothing
is decided by a missing row alone: the agent is looked up by tag and its conversations are listed first.
Not here: sending (mirror.py), the texts of blocks (blocks.py).
"""

from __future__ import annotations

import logging

from voicectl.memory.backends import Agent, NotThere
from voicectl.memory.identity import hashed
from voicectl.memory.profile import lines
from voicectl.memory.sync import ledger, ledger_agents
from voicectl.memory.sync.states import Point
from voicectl.memory.sync.text import agent_spec
from voicectl.memory.sync.tools import Later, Tools

log = logging.getLogger(__name__)


def ensure_agent(tools: Tools, customer: str) -> str:
    """The customer's agent in Letta, recorded in the store; its id.

    Raises:
        Later: Another syncer recorded another one, or the customer was forgotten: look again.
    """
    generation = ledger.generation(tools.store, customer)
    spec = agent_spec(customer, generation, lines(tools.store, customer), hide_names=tools.hide_names)
    known = ledger_agents.agent(tools.store, customer)
    model = tools.backend.model()
    if known is not None and known.agent_id is not None and known.generation == generation:
        if (known.description, known.model) != (spec.description, model):
            try:
                tools.renew()
                tools.backend.describe(known.agent_id, spec.description)
            except NotThere:
                lost(tools, customer)
                return ensure_agent(tools, customer)
            ledger_agents.described(tools.store, customer, model=model, description=spec.description)
        return known.agent_id
    tools.renew()
    agent = tools.backend.ensure_agent(spec)
    tools.signal(Point.AGENT_CREATED)
    _send_again_what_is_gone(tools, customer, agent)
    recorded = ledger_agents.record_agent(
        tools.store, customer, generation, agent, model=model, description=spec.description, texts=spec.blocks
    )
    if not recorded:
        raise Later(1.0, "the customer's agent was recorded by somebody else, or the customer was forgotten")
    log.info("agent in Letta", extra={"customer": hashed(customer), "agent": agent.id, "new": agent.created})
    return agent.id


def lost(tools: Tools, customer: str) -> None:
    """Something of the customer is not in Letta any more; the next `ensure_agent` finds out what.

    Raises:
        BackendUnavailable: Letta does not answer.
    """
    ledger_agents.lose_agent(tools.store, customer)
    tools.backend.health()  # in a new database the models must be registered before an agent can be made


def is_lost(tools: Tools, customer: str) -> bool:
    """Whether the customer had an agent, and it must be looked up again before anything is sent."""
    known = ledger_agents.agent(tools.store, customer)
    return known is not None and known.agent_id is None


def _send_again_what_is_gone(tools: Tools, customer: str, agent: Agent) -> None:
    """Calls whose conversation this agent does not have go out again, whole; before the agent is recorded."""
    believed = ledger.conversations(tools.store, customer)
    if not believed:
        return
    present = tools.backend.conversations(agent.id)
    gone = [call_id for call_id, conversation in believed.items() if conversation not in present]
    for call_id in gone:
        ledger.restart_call(tools.store, call_id, "its conversation is not in Letta any more")
    if gone:
        log.warning(
            "Letta lost calls; they are sent again from the store",
            extra={"customer": hashed(customer), "calls": len(gone), "agent": "new" if agent.created else "the same"},
        )
