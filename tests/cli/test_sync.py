"""`voicectl sync` and `memory rebuild`: exit codes, what is listed, what is asked before something is given up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.support.letta_stub import LettaStub
from voicectl.cli.faults import explained
from voicectl.cli.main import app
from voicectl.memory.backends.letta import LettaBackend
from voicectl.memory.calls import Call, finish, now_ms, open_call
from voicectl.memory.config import MemorySettings
from voicectl.memory.recorder import Role, Turn, write_turn
from voicectl.memory.store.engine import Store
from voicectl.memory.sync import figures
from voicectl.memory.sync.mirror import sync_turns
from voicectl.memory.sync.states import Outage
from voicectl.memory.sync.tools import Later, Tools

pytestmark = pytest.mark.unit
KEY = "user:42"


@pytest.fixture
def letta(monkeypatch: pytest.MonkeyPatch) -> Iterator[LettaStub]:
    with LettaStub() as stub:
        monkeypatch.setenv("LETTA_BASE_URL", stub.url)
        yield stub


@pytest.fixture
def call(store: Store) -> Call:
    return open_call(store, customer=KEY, room="room-1", desk="assistant", fence=1)


def mirror(store: Store, letta: LettaStub, call: Call, *texts: str) -> None:
    """Say, hang up, and mirror until nothing is left to do."""
    with store.write() as connection:
        for number, text in enumerate(texts):
            role = (Role.USER, Role.ASSISTANT)[number % 2]
            write_turn(connection, call, Turn(f"item-{number}", role, text, now_ms()))
    finish(store, call, "done")
    backend = LettaBackend(letta.url, None, "http://127.0.0.1:1/v1")
    for _ in range(5):
        try:
            sync_turns(Tools(store, backend), KEY)
        except Later:
            continue
    backend.close()


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        answer = explained(result.exception)  # as main() does
        assert answer is not None, result.exception
        return answer.code, answer.text
    return result.exit_code, result.stdout


def document(*words: str) -> tuple[int, Any]:
    code, said = run(*words)
    return code, json.loads(said)


def test_verify_says_equal_with_0_and_each_kind_of_difference_with_1(
    store: Store, letta: LettaStub, call: Call
) -> None:
    mirror(store, letta, call, "one", "two", "three", "four", "five")
    assert run("sync", "verify")[0] == 0
    assert run("sync", "verify", KEY) == (0, "equal: 1 customers, 1 calls, 5 rows in Letta\n")
    two, three, four, five = letta.rows[1:]
    two["content"] = "other words"
    letta.rows[1:] = [two, four, three, dict(three, id="message-x"), dict(five, sender_id="x", id="message-y")]

    code, seen = document("sync", "verify", KEY, "--json")

    assert code == 1
    assert {(d["row"], d["kind"]) for d in seen["differences"]} == {
        (f"{call.id}#2", "text"),
        (f"{call.id}#3", "order"),
        (f"{call.id}#3", "doubled"),
        (f"{call.id}#5", "missing"),
        ("x", "foreign"),
    }
    assert "other words" not in json.dumps(seen)


def test_verify_sees_a_second_agent_a_second_conversation_and_another_block(
    store: Store, letta: LettaStub, call: Call
) -> None:
    mirror(store, letta, call, "one")
    agent = next(iter(letta.agents.values()))
    letta.agents["agent-2"] = agent | {"id": "agent-2", "blocks": []}
    conversation = next(iter(letta.conversations.values()))
    letta.conversations["conv-2"] = conversation | {"id": "conv-2"}
    letta.rows.append(letta.rows[0] | {"conversation": "conv-2", "id": "message-2"})
    next(b for b in letta.blocks.values() if b["label"] == "profile")["value"] = "likes tea"

    code, seen = document("sync", "verify", "--json")

    assert code == 1
    assert [d["kind"] for d in seen["differences"]] == ["doubled", "agent", "block"]


def test_verify_of_a_turn_that_is_not_sent_yet_says_waiting(store: Store, letta: LettaStub, call: Call) -> None:
    with store.write() as connection:
        write_turn(connection, call, Turn("item-1", Role.USER, "hello", now_ms()))

    code, seen = document("sync", "verify", KEY, "--json")

    assert (code, [d["kind"] for d in seen["differences"]]) == (1, ["waiting"])


def test_exit_codes_tell_unknown_customers_a_silent_letta_and_an_embedded_one_apart(
    store: Store, letta: LettaStub, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("sync", "verify", "user:nobody")[0] == 4
    assert run("sync", "list", "user:nobody")[0] == 4
    assert run("sync", "retry", "user:nobody")[0] == 4
    letta.down = True
    assert run("sync", "verify")[0] == 3
    assert run("memory", "rebuild")[0] == 3
    monkeypatch.setenv("MEMORY_BACKEND", "embedded")
    assert run("sync", "verify")[0] == 5


def test_dead_letters_are_listed_dropped_only_when_confirmed_and_retried(
    store: Store, letta: LettaStub, call: Call
) -> None:
    mirror(store, letta, call, "poison", "hi")

    _, listed = document("sync", "list", "--json")
    assert [(x["customer"], x["call"], x["seq"], x["state"]) for x in listed["dead_letters"]] == [
        (KEY, call.id, 1, "dead")
    ]
    assert "HTTP 422" in listed["dead_letters"][0]["why"]
    assert run("sync", "drop")[0] == 2
    assert run("sync", "drop", KEY)[0] == 5
    assert run("sync", "verify")[0] == 1
    assert run("sync", "drop", KEY, "--yes")[0] == 0
    assert document("sync", "list", "--json")[1]["dead_letters"][0]["state"] == "dropped"
    assert run("sync", "verify")[0] == 0
    code, said = run("sync", "retry", call.id)
    assert (code, said) == (0, f"{call.id} goes out again\n")
    assert document("sync", "list", "--json")[1]["dead_letters"] == []


def test_status_tells_lag_backlog_and_outage_from_the_rows(
    store: Store, letta: LettaStub, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.write() as connection:
        for number in range(3):
            write_turn(connection, call, Turn(f"item-{number}", Role.USER, "hello", now_ms() - 60_000))
    assert document("sync", "status", "--json")[1]["outage"] == "unknown"
    figures.say(store, Outage.DOWN, "connection refused")
    figures.say(store, Outage.FAILING, "HTTP 500", customer=KEY)

    _, seen = document("sync", "status", "--json")

    assert (seen["backlog"], seen["outage"], seen["why"]) == (3, "down", "connection refused")
    assert 60_000 <= seen["lag_ms"] < 120_000
    assert seen["failing"] == {KEY: "HTTP 500"}
    assert "backlog 3 turns" in run("sync", "status")[1]
    silent = figures.sync_figures(store, now_ms() + figures.SILENT_MS + 1000)
    assert silent.outage is None
    monkeypatch.setenv("MEMORY_BACKEND", "embedded")
    assert document("sync", "status", "--json")[1]["backend"] == "embedded"


def test_a_memory_step_that_failed_for_good_is_listed_and_retried(
    store: Store, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from voicectl.memory.backends import LlmEndpoint
    from voicectl.memory.learning import due
    from voicectl.memory.learning.proposal import ModelFailed
    from voicectl.memory.learning.step import Asking, learn
    from voicectl.memory.learning.strategy import Strategy

    monkeypatch.setenv("MEMORY_BACKEND", "embedded")
    with store.write() as connection:
        write_turn(connection, call, Turn("item-1", Role.USER, "I live in Leeds", now_ms()))
    finish(store, call, "done")
    assert document("sync", "status", "--json")[1]["steps"]["waiting"] == 1
    for _ in range(len(due.WAITS_S) + 1):
        with pytest.raises(ModelFailed):
            learn(store, call.id, Asking(Strategy.EXTRACT, LlmEndpoint("http://127.0.0.1:9/v1", "none")))

    listed = document("sync", "list", KEY, "--json")[1]["dead_letters"]

    assert [(x["call"], x["seq"], x["state"]) for x in listed] == [(call.id, "memory step", "dead")]
    assert "not reachable" in listed[0]["why"]
    assert "1 failed: the model of the memory step: not reachable" in run("sync", "status")[1]
    assert run("sync", "retry", KEY) == (0, f"{call.id} is to be learnt from\n")
    assert document("sync", "list", "--json")[1]["dead_letters"] == []


def test_calls_from_before_memory_steps_are_said_not_to_be_learnt_from(
    store: Store, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from voicectl.memory.learning import due

    monkeypatch.setenv("MEMORY_BACKEND", "embedded")
    with store.write() as connection:
        write_turn(connection, call, Turn("item-1", Role.USER, "I live in Leeds", now_ms()))
    finish(store, call, "done")
    assert "before memory steps" not in run("memory", "show", KEY)[1]
    with store.write() as connection:
        connection.exec_driver_sql("update calls set ended_ms = 1")
    assert due.switched_on(store) == 1

    assert (
        f"1 call ended before memory steps were on, not learnt from; to do it: voicectl sync retry {KEY}"
        in run("memory", "show", KEY)[1]
    )
    assert document("memory", "show", KEY, "--json")[1]["passed_over"] == 1
    assert "1 calls ended before memory steps were on" in run("sync", "status")[1]
    assert run("sync", "retry", "--all")[0] == 0
    assert document("sync", "status", "--json")[1]["steps"]["passed_over"] == 1
    assert run("sync", "retry", KEY) == (0, f"{call.id} is to be learnt from\n")
    assert document("sync", "status", "--json")[1]["steps"]["waiting"] == 1


def test_rebuild_is_refused_with_5_and_done_with_replace(
    store: Store, letta: LettaStub, call: Call, settings: MemorySettings
) -> None:
    mirror(store, letta, call, "one", "two")

    assert run("memory", "rebuild")[0] == 5
    code, said = run("memory", "rebuild", "--replace", "--no-wait")

    assert (code, said) == (0, f"{KEY}: 1 calls go out again, 1 agents deleted\n")
    assert letta.agents == {}
    assert figures.sync_figures(store).backlog == 2
    assert settings.home.exists()


def test_status_tells_how_calls_are_learnt_from_and_why(
    store: Store, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from voicectl.cli.system.survey import learning

    monkeypatch.setenv("MEMORY_BACKEND", "embedded")
    monkeypatch.setenv("MEMORY_STEP", "agent")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-a-test")

    told = learning()

    assert (told["strategy"], told["steps"]["waiting"], told["steps"]["dead"]) == ("extract", 0, 0)
    assert "needs Letta" in told["why"]
    monkeypatch.setenv("MEMORY_STEP", "off")
    assert learning()["strategy"] == "off"
