"""A spoken call of a desk that was added while everything runs: it is that agent, and an edit is in the next turn."""

from __future__ import annotations

import secrets

import pytest
from sqlalchemy import delete

from tests.live.conftest import Call
from tests.support.installation import Installation
from tests.support.llm_stub import LLMStub, Reply, by_keyword
from voicectl.memory import desks, policies
from voicectl.memory.backends.desks import OtherAgent
from voicectl.memory.desk_prompt import read, version
from voicectl.memory.store import schema

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]


def system_of(script: LLMStub) -> str:
    return "\n".join(str(m["content"]) for m in script.requests[-1]["messages"] if m["role"] == "system")


async def test_a_desk_added_without_a_restart_speaks_for_its_agent(
    installation: Installation, script: LLMStub, place_call: Call, customer: str
) -> None:
    script.script = by_keyword({"name": Reply("I am agent sixty six.")}, otherwise="We have a good pizza today.")
    agent_id, name = f"agent-{secrets.token_hex(4)}", f"desk-{secrets.token_hex(4)}"
    store = installation.store()
    desks.add(store, name, "Agent 66", OtherAgent(agent_id, "Agent 66", "Be kind.", (("persona", "I am 66."),)))

    async with place_call(customer, desk=name) as caller:
        await caller.hear()
        await caller.say("What is your name?")
        answer, _ = await caller.hear()
        first = system_of(script)
        before = version(store, name)
        desks.keep(store, OtherAgent(agent_id, "Agent 66", "Be kind.", (("persona", "I am 67."),)))
        policies.write(store, name, "Offer pizza.", policies.Source.ADE)
        assert version(store, name) != before
        await caller.say("What do you have to eat?")
        offer, _ = await caller.hear()
        then = system_of(script)
        await caller.hang_up()

    assert read(store, name).policy == "Offer pizza."
    with store.write() as connection:  # for the other tests' sake; `remove` would wait for the end of the call
        connection.execute(delete(schema.desks).where(schema.desks.c.name == name))
    store.close()
    assert "agent" in answer.lower()
    assert offer.strip()
    assert "(persona):\nI am 66." in first
    assert "(persona):\nI am 67." in then
    assert "(desk_policy):\nOffer pizza." in then
