"""Without Letta the store itself is the backend: it shows what was recorded and learnt."""

from __future__ import annotations

import pytest

from tests.memory.sync.conftest import CUSTOMER, say
from voicectl.memory import profile
from voicectl.memory.backends import NotThere, Rejected
from voicectl.memory.backends.embedded import EmbeddedBackend
from voicectl.memory.calls import Call
from voicectl.memory.profile import Origin, Source
from voicectl.memory.store.engine import Store
from voicectl.memory.sync.text import agent_spec

pytestmark = pytest.mark.unit


def test_turns_and_blocks_are_those_of_the_store(store: Store, call: Call) -> None:
    profile.put(store, CUSTOMER, "likes tea", Origin(Source.TOOL))
    say(store, call, "hello", "hi")
    backend = EmbeddedBackend(store)
    agent = backend.ensure_agent(agent_spec(CUSTOMER, 1, profile.lines(store, CUSTOMER), hide_names=False))
    conversation = backend.ensure_conversation(agent.id, call.id, "a call")

    assert [(m.role, m.text) for m in backend.list_turns(conversation)] == [("user", "hello"), ("assistant", "hi")]
    assert backend.has_marker(conversation, f"{call.id}#2")
    assert not backend.has_marker(conversation, f"{call.id}#3")
    assert backend.get_blocks(agent.block_ids)["profile"] == "likes tea"
    with pytest.raises(NotThere):
        backend.append_turns("no-such-call", [])
    with pytest.raises(NotThere):
        backend.get_blocks({"profile": "nobody/profile"})
    with pytest.raises(Rejected, match="without Letta"):
        backend.copy_blocks(agent.id, "a step", ["profile"])
    with pytest.raises(Rejected, match="without Letta"):
        backend.ask_agent(conversation, "change it", 5)
