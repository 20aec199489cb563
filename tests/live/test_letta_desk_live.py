"""A desk of an agent in a real Letta: what the stub only claims of blocks, conversations, policies and erasure."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.letta_server import RealLetta
from tests.support.waiting import wait_for
from voicectl.cli.system.letta_scrub import STATEMENTS
from voicectl.memory import desk_prompt, desks, others, policies
from voicectl.memory.backends.desks import POLICY_LABEL
from voicectl.memory.backends.letta import NULL_HANDLE, LettaBackend
from voicectl.memory.calls import Call, finish, open_call
from voicectl.memory.config import MemorySettings
from voicectl.memory.errors import AgentUnknown
from voicectl.memory.forget import Forgetting
from voicectl.memory.identity import hashed
from voicectl.memory.null_model import MODEL, NullModel
from voicectl.memory.recorder import Role, Turn, write_turn
from voicectl.memory.store.engine import Store
from voicectl.memory.store.leases import open_leases
from voicectl.memory.sync import letters
from voicectl.memory.sync.desks import DeskKeeper
from voicectl.memory.sync.mirror import sync_turns
from voicectl.memory.sync.tools import Later, Tools
from voicectl.memory.sync.verify import verify

pytestmark = [pytest.mark.letta, pytest.mark.timeout(300)]
DESK = "Agent_66"
SECRET, KEPT = "quicksilver-nougat", "rhubarb-trifle"


@pytest.fixture
def backend(letta: RealLetta) -> Iterator[LettaBackend]:
    with NullModel() as null:
        made = LettaBackend(letta.url, letta.access.key, null.url)
        made.health()
        yield made
        made.close()


def asked(letta: RealLetta, method: str, path: str, body: Any = None) -> Any:
    """As ADE asks it."""
    headers = {"Authorization": f"Bearer {letta.access.key}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{letta.url}/v1{path}", data, headers, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
        return json.loads(answer.read() or b"null")


def say(store: Store, call: Call, *texts: str) -> None:
    with store.write() as connection:
        for number, text in enumerate(texts):
            assert write_turn(connection, call, Turn(f"{text}", (Role.USER, Role.ASSISTANT)[number % 2], text, 1))


def mirrored(tools: Tools, customer: str) -> None:
    def missing() -> str:
        try:
            sync_turns(tools, customer)
        except Later as e:
            return str(e)
        return ""

    wait_for(missing, 40)


def test_an_agent_of_letta_gets_a_voice_and_keeps_its_calls_and_everything_it_had(
    letta: RealLetta, backend: LettaBackend, store: Store, settings: MemorySettings
) -> None:
    # One that somebody made, in ADE's way, and one of a kind that keeps no conversations.
    about = {"model": NULL_HANDLE, "system": "Be kind.", "include_base_tools": False}
    blocks = [{"label": "persona", "value": "I am 66."}, {"label": "human", "value": "Writes from Dhaka."}]
    made = asked(letta, "POST", "/agents/", {**about, "name": "Agent_66", "memory_blocks": blocks})
    asked(letta, "POST", "/agents/", {**about, "name": "Old_66", "agent_type": "memgpt_v2_agent"})
    with pytest.raises(AgentUnknown, match="Agent_66"):
        others.find(backend, "agent66")
    assert "memgpt_v2_agent" in others.find(backend, "Old_66").no_calls
    desks.add(store, DESK, "Agent 66", others.find(backend, "Agent_66"))
    house = desk_prompt.read(store, DESK)
    assert (house.system, dict(house.blocks)) == ("Be kind.", {"persona": "I am 66.", "human": "Writes from Dhaka."})

    # Two customers at once: each call once, as a conversation of that agent, and no step of it is taken.
    who = ("user:desk one", "user:desk two")
    on = [open_call(store, customer=w, room=w, desk=DESK, fence=1) for w in who]
    tools = Tools(store, backend)
    with ThreadPoolExecutor(2) as pool:
        for part in range(3):
            for call, secret in zip(on, (SECRET, KEPT), strict=True):
                say(store, call, f"{secret} {part}", f"I see {part}")
            list(pool.map(lambda w: mirrored(tools, w), who))
    assert [d for w in who for d in verify(store, backend, w).differences] == []
    rows = letta.rows(made["id"])
    assert sorted(marker for _, marker, _, _ in rows) == sorted(f"{c.id}#{n}" for c in on for n in range(1, 7))
    model = f"agent_id = '{made['id']}' and model <> '{MODEL}'"
    assert letta.number(f"select count(*) from steps where {model}") == 0
    own = backend.agents(hashed(who[0]))[0]
    assert letta.rows(own) == []

    # Edits in ADE: of a block, and of what the team says of the desk, which is one block in both customers' agents.
    leases = open_leases(settings)
    keeper = DeskKeeper(store, leases, backend, "test")
    policies.write(store, DESK, "Be brief.", policies.Source.OPERATOR)
    keeper.work()
    for customer in who:
        agent = asked(letta, "GET", f"/agents/{backend.agents(hashed(customer))[0]}?include=agent.blocks")
        (shown,) = [b for b in agent["blocks"] if b["label"] == POLICY_LABEL]
        assert (shown["value"], shown["read_only"]) == ("Be brief.", True)
    asked(letta, "PATCH", f"/agents/{made['id']}/core-memory/blocks/human", {"value": "Writes from Sylhet."})
    asked(letta, "PATCH", f"/blocks/{shown['id']}", {"value": "Be very brief."})

    def missing() -> str:
        keeper.work()
        now = desk_prompt.read(store, DESK)
        return "" if "Sylhet" in str(now.blocks) and now.policy == "Be very brief." else str(now)

    wait_for(missing, 10)

    # The desk called last is the one whose policy an agent shows: the other is detached.
    policies.write(store, "assistant", "Be cheerful.", policies.Source.OPERATOR)
    other = open_call(store, customer=who[0], room="later", desk="assistant", fence=1)
    with store.write() as connection:
        connection.exec_driver_sql(f"update calls set started_ms = started_ms + 5 where id = '{other.id}'")
    DeskKeeper(store, leases, backend, "test").work()
    agent = asked(letta, "GET", f"/agents/{own}?include=agent.blocks")
    assert [b["value"] for b in agent["blocks"] if b["label"] == POLICY_LABEL] == ["Be cheerful."]

    # One of them is forgotten: the calls are erased, the agent and what others share stay as they are.
    for call in (*on, other):
        finish(store, call, "done")
    receipt = Forgetting(store, leases, settings.home, backend).run(who[0])
    assert (receipt.agents, receipt.conversations, receipt.left) == (1, 1, [])
    for statement in (s for s in STATEMENTS if s.startswith("delete")):
        letta.processes.sql(statement)
    assert letta.number(f"select count(*) from messages where content::text like '%{SECRET}%'") == 0
    assert [marker for _, marker, _, _ in letta.rows(made["id"])] == [f"{on[1].id}#{n}" for n in range(1, 7)]
    assert asked(letta, "GET", f"/blocks/{shown['id']}")["value"] == "Be very brief."

    # The agent is deleted in mid-call: the turns stay, and that they do is said.
    last = open_call(store, customer=who[1], room="last", desk=DESK, fence=1)
    say(store, last, "hello")
    mirrored(tools, who[1])
    asked(letta, "DELETE", f"/agents/{made['id']}")
    say(store, last, "are you there")

    def given_up() -> str:
        try:
            sync_turns(tools, who[1])
        except Later as e:
            return str(e)
        return "" if letters.letters(store, who[1]) else "not given up"

    wait_for(given_up, 20)
    later = open_call(store, customer=who[1], room="after it", desk=DESK, fence=1)
    say(store, later, "anybody there")
    wait_for(lambda: given_up() if len(letters.letters(store, who[1])) < 2 else "", 20)
    assert "is not in Letta any more" in letters.letters(store, who[1])[0].why
    assert desk_prompt.read(store, DESK).system == "Be kind."
    assert desks.letta_desks(store)[0].gone_ms is not None
    leases.close()
