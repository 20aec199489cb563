"""The syncer against a real Letta server: what was said is in its database once and in order, whatever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests.support.letta_server import RealLetta
from tests.support.llm_stub import LLMStub, Reply, by_keyword
from tests.support.waiting import wait_for
from voicectl.memory import profile
from voicectl.memory.backends.letta import LettaBackend
from voicectl.memory.calls import Call, finish, open_call
from voicectl.memory.config import MemorySettings, load
from voicectl.memory.identity import hashed
from voicectl.memory.null_model import MODEL
from voicectl.memory.profile import Block, Origin, Source
from voicectl.memory.recorder import Recorder, Role, Turn
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import calls
from voicectl.memory.sync import ledger_agents
from voicectl.memory.sync.link import letta_link

pytestmark = [pytest.mark.letta, pytest.mark.timeout(600)]

ADE = "https://app.letta.com"


@contextmanager
def syncer(home: Path, letta: RealLetta, llm_url: str = "", die_at: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """A syncer in a process of its own; `die_at` kills it at a crash point."""
    code = """
import logging, os, signal, sys
from voicectl.memory import syncer
from voicectl.memory.backends import LlmEndpoint
from voicectl.memory.config import MemorySettings, load
from voicectl.memory.sync.states import Point
logging.basicConfig(level=logging.INFO)
logging.getLogger("httpx").setLevel(logging.WARNING)
die_at, llm = sys.argv[1:]
if die_at:
    def die(point):
        if point == Point(die_at):
            os.kill(os.getpid(), signal.SIGKILL)
    syncer.LEASE_S = 4.0  # its successor need not wait 20 s for the customer
    whole = syncer.Syncer
    syncer.Syncer = lambda *a, **k: whole(*a, **k, signal=die)
syncer.run(load(MemorySettings), LlmEndpoint(llm, "sk-llm") if llm else None)
"""
    env = {
        **os.environ,
        "VOICE_HOME": str(home),
        "LETTA_BASE_URL": letta.url,
        "LETTA_API_KEY": letta.access.key,
    }
    process = subprocess.Popen([sys.executable, "-c", code, die_at, llm_url], env=env, cwd=Path.cwd())
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


class Caller:
    """Says things in a call, through the recorder."""

    def __init__(self, store: Store, home: Path, customer: str, room: str) -> None:
        self.store = store
        self.call: Call = open_call(store, customer=customer, room=room, desk="assistant", fence=1)
        self.recorder = Recorder(store, self.call, journal_dir=home / "journal")
        self.said: list[tuple[str, str, str]] = []
        self._seq = 0
        self._note = ""

    def say(self, role: Role, text: str) -> None:
        self._seq += 1
        self.recorder.add(Turn(f"item-{self._seq}", role, text, at_ms=1000 + self._seq))
        if role in (Role.USER, Role.ASSISTANT):
            words = self._note + text if role == Role.ASSISTANT else text
            self.said.append((role.value, f"{self.call.id}#{self._seq}", words))
            if role == Role.ASSISTANT:
                self._note = ""
        else:
            record = json.loads(text)
            self._note += f"[tool {record['tool']} {record['arguments']} → {record['result']}]\n"

    def exchange(self, number: int) -> None:
        self.say(Role.USER, f"question {number} of {self.call.id}: আমার নাম")
        if number % 3 == 0:
            self.say(Role.TOOL, json.dumps({"tool": "recall", "arguments": "{}", "result": f"found {number}"}))
        self.say(Role.ASSISTANT, f"answer {number}")

    def hang_up(self) -> None:
        assert self.recorder.close()
        finish(self.store, self.call, "test")


def all_done(store: Store, customers: list[str]) -> str:
    with store.read() as connection:
        left = connection.execute(
            select(calls.c.id, calls.c.mirror).where(calls.c.customer.in_(customers), calls.c.mirror != "done")
        ).all()
    return f"not done: {left}" if left else ""


def agent_of(store: Store, customer: str) -> str:
    row = ledger_agents.agent(store, customer)
    assert row is not None
    assert row.agent_id is not None
    return row.agent_id


def in_letta(letta: RealLetta, store: Store, customer: str) -> list[tuple[str, str, str]]:
    return [(role, marker, text) for role, marker, text, _ in letta.rows(agent_of(store, customer))]


def request(
    letta: RealLetta, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], Any]:
    """As the browser sends it."""
    given = {"Authorization": f"Bearer {letta.access.key}", "Origin": ADE, "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    sent = urllib.request.Request(letta.url + path, data, {**given, **(headers or {})}, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(sent, timeout=60) as answer:
        text = answer.read()
        return (
            answer.status,
            {k.lower(): v for k, v in answer.headers.items()},
            json.loads(text) if text[:1] in b"{[" else text,
        )


def said_after(store: Store, customer: str, wanted: Callable[[list[profile.Line]], bool]) -> str:
    present = profile.lines(store, customer)
    return "" if wanted(present) else f"lines are {[(x.text, x.source) for x in present]}"


def test_turns_arrive_once_and_in_order_although_letta_is_killed_in_between(
    letta: RealLetta, store: Store, settings: MemorySettings
) -> None:
    rahim, karim = "+8801700000001", "demo:karim"
    first = Caller(store, settings.home, rahim, "room-1")
    other = Caller(store, settings.home, karim, "room-2")

    with syncer(settings.home, letta):
        for number in range(4):
            first.exchange(number)
            other.exchange(number)
        wait_for(
            lambda: "" if ledger_agents.agent(store, karim) and ledger_agents.agent(store, rahim) else "no agents", 60
        )
        wait_for(lambda: "" if in_letta(letta, store, rahim) else "nothing in Letta", 60)
        letta.kill()
        for number in range(4, 8):
            first.exchange(number)
            other.exchange(number)
        first.hang_up()
        second = Caller(store, settings.home, rahim, "room-3")
        second.exchange(1)
        second.hang_up()
        letta.start()
        other.exchange(9)
        other.hang_up()
        wait_for(lambda: all_done(store, [rahim, karim]), 120)

    assert in_letta(letta, store, rahim) == first.said + second.said
    assert in_letta(letta, store, karim) == other.said
    agents = f"('{agent_of(store, rahim)}', '{agent_of(store, karim)}')"
    assert letta.number(f"select count(*) from steps where agent_id in {agents} and model <> '{MODEL}'") == 0
    assert letta.number(f"select count(*) from conversations where agent_id in {agents} and not is_deleted") == 3
    names = letta.processes.sql(f"select name from agents where id in {agents} order by name")
    assert sorted(n for (n,) in names) == sorted(f"customer-{hashed(k)}" for k in (rahim, karim))


@pytest.mark.parametrize(
    "point", ["agent created", "conversation created", "intent committed", "posted", "acknowledged"]
)
def test_a_syncer_killed_at_a_point_leaves_nothing_lost_or_doubled(
    letta: RealLetta, store: Store, settings: MemorySettings, point: str
) -> None:
    customer = f"user:killed at {point}"
    caller = Caller(store, settings.home, customer, "room-1")
    for number in range(3):
        caller.exchange(number)
    caller.hang_up()

    with syncer(settings.home, letta, die_at=point) as process:
        assert process.wait(90) == -signal.SIGKILL
    with syncer(settings.home, letta):
        wait_for(lambda: all_done(store, [customer]), 90)

    assert in_letta(letta, store, customer) == caller.said
    tagged = "select count(distinct agent_id) from agents_tags where tag = 'cust:{}'"
    assert letta.number(tagged.format(hashed(customer))) == 1


def test_an_edit_as_ade_sends_it_comes_back_into_the_profile_and_ours_are_seen_there(
    letta: RealLetta, store: Store, settings: MemorySettings
) -> None:
    customer = "user:edited"
    profile.put(store, customer, "name: Rahim", Origin(Source.RULE))
    profile.put(store, customer, "likes football", Origin(Source.TOOL))
    caller = Caller(store, settings.home, customer, "room-1")
    caller.exchange(1)

    with syncer(settings.home, letta):
        wait_for(lambda: "" if ledger_agents.blocks(store, customer) else "no blocks", 60)
        blocks = ledger_agents.blocks(store, customer)
        path = f"/v1/blocks/{blocks['profile'].block_id}"
        assert request(letta, "GET", path)[2]["value"] == "name: Rahim\nlikes football"
        status, headers, _ = request(letta, "PATCH", path, {"value": "name: Rahim\n- likes cricket\n\nhas two cats"})
        wait_for(lambda: said_after(store, customer, lambda p: len(p) == 3), 15)
        notes = f"/v1/blocks/{blocks['operator_notes'].block_id}"
        request(letta, "PATCH", notes, {"value": "Prefers to be called in the evening"})
        profile.put(store, customer, "Born in Dhaka", Origin(Source.TOOL))
        wait_for(lambda: "" if "Born in Dhaka" in request(letta, "GET", path)[2]["value"] else "ours is not there", 15)
        wait_for(lambda: said_after(store, customer, lambda p: any(x.block == Block.OPERATOR_NOTES for x in p)), 15)
        caller.hang_up()
        wait_for(lambda: all_done(store, [customer]), 60)

    assert (status, headers["access-control-allow-origin"]) == (200, ADE)
    known = {(x.block.value, x.text, x.source) for x in profile.lines(store, customer)}
    assert known == {
        ("profile", "name: Rahim", Source.RULE),
        ("profile", "likes cricket", Source.ADE),
        ("profile", "has two cats", Source.ADE),
        ("profile", "Born in Dhaka", Source.TOOL),
        ("operator_notes", "Prefers to be called in the evening", Source.ADE),
    }
    agent = request(letta, "GET", f"/v1/agents/{agent_of(store, customer)}")[2]
    assert "Rahim" in agent["description"]
    link = letta_link(store, load(MemorySettings, home=settings.home, letta_base_url=letta.url), customer)
    assert link is not None
    assert (link.agent_id, link.mirrored, link.waiting) == (agent["id"], 2, 0)


def test_an_agent_that_an_operator_deleted_is_made_again_with_the_call_that_is_on(
    letta: RealLetta, store: Store, settings: MemorySettings
) -> None:
    customer = "user:deleted"
    profile.put(store, customer, "likes tea", Origin(Source.TOOL))
    caller = Caller(store, settings.home, customer, "room-1")
    caller.exchange(1)

    with syncer(settings.home, letta):
        wait_for(lambda: "" if ledger_agents.agent(store, customer) else "no agent", 60)
        wait_for(lambda: "" if len(in_letta(letta, store, customer)) == 2 else "not there", 60)
        old = agent_of(store, customer)
        request(letta, "DELETE", f"/v1/agents/{old}")
        caller.exchange(2)
        caller.hang_up()
        wait_for(lambda: all_done(store, [customer]), 90)

    assert agent_of(store, customer) != old
    assert in_letta(letta, store, customer) == caller.said
    assert [x.text for x in profile.lines(store, customer)] == ["likes tea"]


def test_an_operator_can_talk_to_the_agent_through_the_model_of_the_calls(
    letta: RealLetta, store: Store, settings: MemorySettings
) -> None:
    customer = "user:talked to"
    caller = Caller(store, settings.home, customer, "room-1")
    caller.exchange(1)
    caller.hang_up()

    with LLMStub(by_keyword({"remember": Reply("She likes tea.")})) as llm, syncer(settings.home, letta, llm.url):
        wait_for(lambda: all_done(store, [customer]), 60)
        path = f"/v1/agents/{agent_of(store, customer)}/messages/stream"
        body = {"messages": [{"role": "user", "content": "What do you remember?"}], "stream_tokens": True}
        _, _, said = request(letta, "POST", path, body)

    assert b"She likes" in said or b"tea" in said
    assert in_letta(letta, store, customer) == caller.said  # it is not in the customer's conversations


def test_a_call_longer_than_any_context_is_kept_as_it_was_said(
    letta: RealLetta, store: Store, settings: MemorySettings
) -> None:
    customer = "user:talkative"
    caller = Caller(store, settings.home, customer, "room-1")
    caller.say(Role.USER, "word " * 40_000)  # 200,000 characters; Letta compacts at 27,000 tokens (letta.md 9)
    for number in range(70):
        caller.exchange(number)
    caller.hang_up()

    with syncer(settings.home, letta):
        wait_for(lambda: all_done(store, [customer]), 90)

    assert in_letta(letta, store, customer) == caller.said


def test_forgetting_leaves_no_agent_block_or_message_in_letta(
    letta: RealLetta, store: Store, settings: MemorySettings
) -> None:
    customer = "user:forgotten"
    profile.put(store, customer, "likes zebras", Origin(Source.TOOL))
    caller = Caller(store, settings.home, customer, "room-1")
    caller.say(Role.USER, "I like zebras")
    caller.hang_up()
    with syncer(settings.home, letta):
        wait_for(lambda: all_done(store, [customer]), 60)
    agent = agent_of(store, customer)
    backend = LettaBackend(letta.url, letta.access.key, "http://127.0.0.1:1/v1")

    gone = [backend.forget(hashed(customer)), backend.forget(hashed(customer))]

    backend.close()
    assert gone == [1, 0]
    assert letta.number(f"select count(*) from messages where agent_id = '{agent}'") == 0
    assert letta.number("select count(*) from block where value like '%zebras%'") == 0
    assert letta.number("select count(*) from messages where content::text like '%zebras%'") == 0


def test_the_browser_may_ask_from_the_page_of_ade(letta: RealLetta) -> None:
    asked = {
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "authorization,content-type",
        "Authorization": "",
    }

    status, headers, _ = request(letta, "OPTIONS", "/v1/blocks/block-1", headers=asked)

    assert status == 200
    assert headers["access-control-allow-origin"] == ADE
    assert "PATCH" in headers["access-control-allow-methods"]
    assert "authorization" in headers["access-control-allow-headers"].lower()


def test_no_password_stands_in_lettas_log(letta: RealLetta) -> None:
    log = "\n".join(letta.log)

    assert "secure mode with password: ***" in log
    assert letta.access.key not in log
    assert letta.access.postgres_password not in log
