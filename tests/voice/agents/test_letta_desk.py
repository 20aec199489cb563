"""A desk that speaks for an agent in Letta: its memory is the prompt, beside what is known of the caller; edits too."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import jwt
import pytest
from fastapi.testclient import TestClient
from livekit.agents.beta import Instructions

from bench.plain_turns import PlainTurns
from tests.support.llm_stub import LLMStub, Reply
from tests.support.waiting import wait_until
from voicectl.memory import calls, desk_prompt, desks, policies, profile, recall
from voicectl.memory.backends.desks import OtherAgent
from voicectl.memory.config import MemorySettings, load
from voicectl.memory.profile import Origin, Source
from voicectl.memory.store.engine import Store, open_store
from voicectl.voice.agents.desks import desk
from voicectl.voice.config import VoiceSettings
from voicectl.voice.engines.llm import remote
from voicectl.voice.errors import DeskUnknown
from voicectl.voice.knowledge import Knowledge
from voicectl.voice.web.app import create_app

pytestmark = pytest.mark.unit
AGENT = OtherAgent("agent-1", "Agent 66", "Be kind.", (("human", "Writes from Dhaka."), ("persona", "I am 66.")))
WHO = "user:1"


def agent_with(*blocks: tuple[str, str]) -> OtherAgent:
    return OtherAgent(AGENT.id, AGENT.name, AGENT.system, blocks)


@pytest.fixture
def model() -> Iterator[LLMStub]:
    with LLMStub(lambda _: Reply("I see.")) as running:
        yield running


class DeskCall(PlainTurns):
    """A call of a desk on the text path, with what a call has of memory."""

    def __init__(self, store: Store, settings: VoiceSettings, name: str) -> None:
        super().__init__()
        self.store, self.settings = store, settings
        self.customer = SimpleNamespace(key=WHO)
        self.call = calls.open_call(store, customer=WHO, room=uuid4().hex, desk=name, fence=1)
        self.knowledge = Knowledge(store, self.call, settings, recall.read(store, WHO, but_call=self.call.id))
        self.knowledge.house = desk_prompt.read(store, name)
        self.agent = desk(name, store).first_agent(cast(Any, self))
        self.agent._llm = remote(settings)

    def instructions(self, static: str) -> Instructions:
        return self.knowledge.instructions(static)


def system_of(model: LLMStub) -> str:
    return "\n".join(str(m["content"]) for m in model.requests[-1]["messages"] if m["role"] == "system")


async def test_each_block_is_in_the_prompt_beside_what_is_known_of_the_caller_and_an_edit_is_in_the_next_turn(
    store: Store, settings: MemorySettings, model: LLMStub
) -> None:
    voice = load(
        VoiceSettings, home=settings.home, openai_base_url=model.url, openai_api_key="key", llm_model="scripted"
    )
    desks.add(store, "Agent_66", "Agent 66", AGENT)
    profile.put(store, WHO, "likes tea", Origin(Source.TOOL))
    call = DeskCall(store, voice, "Agent_66")
    await call.open()
    following = asyncio.create_task(call.knowledge.follow())
    try:
        await call.turn("hello")
        first = system_of(model)

        desks.keep(store, agent_with(("human", "Writes from Sylhet."), ("persona", "I am 66.")))
        policies.write(store, "Agent_66", "Never promise a discount.", policies.Source.ADE)
        await wait_until(lambda: "" if "discount" in call.knowledge.text() else "the policy is not known")
        await wait_until(lambda: "" if "Sylhet" in call.knowledge.text() else "the edit is not known")
        await call.turn("and now")
    finally:
        following.cancel()
        await call.close()

    then = system_of(model)
    for said in ("(system):\nBe kind.", "(persona):\nI am 66.", "(human):\n| Writes from Dhaka.", "likes tea"):
        assert first.count(said) == 1, first
    assert first.index("Dhaka") < first.index("About the caller:") < first.index("likes tea")
    assert "(human):\n| Writes from Sylhet." in then
    assert "Dhaka" not in then
    assert then.index("by the team (desk_policy):\nNever promise a discount.") < then.index("Be kind.")


async def test_what_the_team_says_of_our_own_desk_is_in_its_prompt_and_nothing_where_nothing_is_said(
    store: Store, settings: MemorySettings, model: LLMStub
) -> None:
    voice = load(
        VoiceSettings, home=settings.home, openai_base_url=model.url, openai_api_key="key", llm_model="scripted"
    )
    assert DeskCall(store, voice, "assistant").knowledge.text() == "Nothing is known about the caller yet."
    policies.write(store, "assistant", "Offer lunch first.", policies.Source.OPERATOR)

    text = DeskCall(store, voice, "assistant").knowledge.text()

    assert text.startswith("Rules of this desk, by the team (desk_policy):\nOffer lunch first.\n\n")


def test_an_unknown_desk_is_named_with_those_there_are(store: Store) -> None:
    desks.add(store, "Agent_66", "Agent 66", AGENT)

    with pytest.raises(DeskUnknown, match="assistant, Agent_66"):
        desk("nobody", store)


def test_the_page_lists_it_and_a_token_for_it_is_given_without_a_restart(tmp_path: Path) -> None:
    voice = load(
        VoiceSettings,
        home=tmp_path / "home",
        livekit_api_key="key",
        livekit_api_secret="s" * 40,
        livekit_url="ws://127.0.0.1:1",
    )
    wanted = {"participant_identity": "Rahim", "room_config": {"agents": [{"agent_name": "Agent_66"}]}}
    with TestClient(create_app(voice), base_url="http://127.0.0.1:9000") as client:
        assert client.post("/api/token", json=wanted).status_code == 404
        added = open_store(voice)
        desks.add(added, "Agent_66", "Agent 66", AGENT)
        added.close()

        listed = client.get("/api/desks").json()
        answer = client.post("/api/token", json=wanted)

    assert [d["name"] for d in listed] == ["assistant", "Agent_66"]
    assert answer.status_code == 201
    token = jwt.decode(answer.json()["participant_token"], "s" * 40, algorithms=["HS256"])
    assert '"Agent_66"' in token["roomConfig"]["agents"][0]["metadata"]
