"""The loop: who is learnt from when, and that the local model is left to calls."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select, update

from tests.memory.learning.conftest import CUSTOMER, Called, level, speak, texts
from tests.support.fact_model import FactModel, facts
from tests.support.letta_agent_stub import LettaAgentStub
from tests.support.waiting import wait_for
from voicectl.memory import admin, own_calls, recall
from voicectl.memory.backends import LlmEndpoint
from voicectl.memory.backends.letta import LettaBackend
from voicectl.memory.calls import Call, finish, now_ms, open_call, rooms_of_open_calls
from voicectl.memory.config import MemorySettings
from voicectl.memory.learning import due, runner, sentences
from voicectl.memory.learning import figures as steps
from voicectl.memory.learning.runner import Learner
from voicectl.memory.learning.states import StepState
from voicectl.memory.learning.strategy import Chosen, Strategy, choose
from voicectl.memory.store.engine import Store
from voicectl.memory.store.leases import LeaseState, open_leases
from voicectl.memory.store.schema import calls, memory_steps, sync_status

pytestmark = pytest.mark.unit
EXTRACT = Chosen(Strategy.EXTRACT, "a test")
NEW = "new: city: Leeds"  # as the small model says it


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "POLL_S", 0.05)


@contextmanager
def learning(
    store: Store,
    settings: MemorySettings,
    llm: LlmEndpoint | None,
    chosen: Chosen = EXTRACT,
    backend: LettaBackend | None = None,
    quiet_s: float = 0.0,
) -> Iterator[Learner]:
    leases = open_leases(settings)
    made = Learner(store, leases, chosen, llm, backend, quiet_s=quiet_s)
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        yield made
    finally:
        made.stop()
        thread.join(20)
        leases.close()


def step(store: Store) -> tuple[str, int]:
    with store.read() as connection:
        row = connection.execute(select(memory_steps.c.state, memory_steps.c.failures)).first()
    return ("", 0) if row is None else (row.state, int(row.failures))


def learnt(store: Store) -> str:
    return "" if texts(store) == ["city: Leeds"] else f"{texts(store)}, {step(store)}"


def test_calls_that_have_ended_are_learnt_from_with_either_strategy(
    store: Store,
    settings: MemorySettings,
    called: Called,
    model: FactModel,
    letta: LettaAgentStub,
    backend: LettaBackend,
) -> None:
    called("I live in Leeds", customer="user:1")
    called("I live in Leeds", customer="user:2")
    level(store, backend, "user:2")
    model.answer = facts("city: Leeds")
    letta.edit = lambda _b, _a: {"profile": "city: Leeds", "last_call": ""}

    with learning(store, settings, model.endpoint()):
        wait_for(lambda: "" if texts(store, customer="user:1") == ["city: Leeds"] else "not learnt")
        wait_for(lambda: "" if texts(store, customer="user:2") == ["city: Leeds"] else "not learnt")
    called("I like tea", customer="user:2")
    letta.edit = lambda blocks, _a: {"profile": blocks["profile"] + "\nlikes tea", "last_call": ""}
    with learning(store, settings, model.endpoint(), Chosen(Strategy.AGENT, "a test"), backend):
        wait_for(lambda: "" if "likes tea" in texts(store, customer="user:2") else "not learnt")

    assert (len(model.requests), len(letta.asked)) == (2, 1)


def test_the_local_model_is_asked_a_sentence_at_a_time_and_only_where_a_fact_may_be(
    store: Store, settings: MemorySettings, called: Called, model: FactModel
) -> None:
    called("hello", "Hi.", "what time is it?", "Nine.", "I live in Leeds. maybe I will move to Rome", "Nice.")
    model.answer = NEW

    with learning(store, settings, model.endpoint(local=True)):
        wait_for(lambda: learnt(store))

    questions = [r for r in model.requests if r["max_tokens"] > 1]
    assert len(questions) == 1
    assert model.shown().endswith("Caller: I live in Leeds.")
    # What the server reads at once cannot be taken back: the examples go in piece by piece.
    lengths = [len(r["messages"]) for r in model.requests]
    assert max(b - a for a, b in zip([0, *lengths], lengths, strict=False)) <= sentences.PIECE + 1
    assert all("grammar" in r for r in model.requests)


def test_the_local_model_belongs_to_calls_until_none_has_been_on_for_a_while(store: Store, called: Called) -> None:
    assert due.quiet(store, 10)
    called("I live in Leeds")
    ended = now_ms()

    assert not due.quiet(store, 10, ended + 9_000)
    assert due.quiet(store, 10, ended + 10_001)
    other = open_call(store, customer="user:7", room="other", desk="assistant", fence=1)
    assert not due.quiet(store, 10, ended + 60_000)
    assert not due.quiet(store, 0)
    finish(store, other, "hung up")
    assert due.quiet(store, 0)


def test_while_a_call_is_on_no_step_with_the_local_model_begins(
    store: Store, settings: MemorySettings, called: Called, model: FactModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    called("I live in Leeds")
    open_call(store, customer="user:7", room="other", desk="assistant", fence=1)
    looks: list[float] = []
    whole = due.quiet

    def quiet(opened: Store, for_s: float) -> bool:
        looks.append(for_s)
        return whole(opened, for_s)

    monkeypatch.setattr(due, "quiet", quiet)

    with learning(store, settings, model.endpoint(local=True), quiet_s=10):
        wait_for(lambda: "" if len(looks) > 3 else "it has not looked")

    assert set(looks) == {10}
    assert (step(store), model.requests) == (("", 0), [])


def test_a_call_that_begins_takes_the_question_back_and_the_step_is_begun_again_after_it(
    store: Store, settings: MemorySettings, called: Called, model: FactModel
) -> None:
    called("I live in Leeds")
    model.answer = NEW
    model.held.set()

    with learning(store, settings, model.endpoint(local=True)):
        wait_for(lambda: "" if model.requests else "not asked")
        other = open_call(store, customer="user:7", room="other", desk="assistant", fence=1)
        wait_for(lambda: "" if model.left.is_set() else "the connection is open")
        wait_for(lambda: "" if step(store) == (StepState.WAITING, 0) else f"{step(store)}")
        model.held.clear()
        speak(store, other, "hello")
        assert len(model.requests) == 1
        finish(store, other, "hung up")
        wait_for(lambda: learnt(store))

    assert model.requests[1] == model.requests[0]


def test_a_model_elsewhere_is_not_taken_from_anybody_by_a_call(
    store: Store, settings: MemorySettings, called: Called, model: FactModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    called("I live in Leeds")
    model.answer = facts("city: Leeds")
    model.held.set()
    whole = Learner._give_way
    asked: list[bool] = []

    def counted(self: Learner, llm: LlmEndpoint) -> Callable[[], bool]:
        give_way = whole(self, llm)
        return lambda: asked.append(give_way()) or asked[-1]  # type: ignore[func-returns-value]

    monkeypatch.setattr(Learner, "_give_way", counted)

    with learning(store, settings, model.endpoint()):
        wait_for(lambda: "" if model.requests else "not asked")
        open_call(store, customer="user:7", room="other", desk="assistant", fence=1)
        before = len(asked)
        wait_for(lambda: "" if len(asked) > before + 1 else "it has not looked")
        model.held.clear()
        wait_for(lambda: learnt(store))

    assert len(model.requests) == 1
    assert not model.left.is_set()


def test_a_learner_that_is_told_to_end_takes_its_question_back(
    store: Store, settings: MemorySettings, called: Called, model: FactModel
) -> None:
    called("I live in Leeds")
    model.held.set()

    with learning(store, settings, model.endpoint()) as learner:
        wait_for(lambda: "" if model.requests else "not asked")
        learner.stop()
        wait_for(lambda: "" if model.left.is_set() else "the connection is open")
        wait_for(lambda: "" if step(store) == (StepState.WAITING, 0) else f"{step(store)}")


def test_a_customer_whose_lease_somebody_holds_waits_and_the_others_do_not(
    store: Store, settings: MemorySettings, called: Called, model: FactModel
) -> None:
    called("I live in Leeds")
    called("I live in Leeds", customer="user:7")
    model.answer = facts("city: Leeds")
    leases = open_leases(settings)
    grant = leases.claim(f"customer:{CUSTOMER}", "the syncer", 60, LeaseState.HELD)

    with learning(store, settings, model.endpoint()):
        wait_for(lambda: "" if texts(store, customer="user:7") else "the other waits too")
        assert (texts(store), len(model.requests)) == ([], 1)
        leases.release(grant)
        wait_for(lambda: learnt(store))
    leases.close()


def test_what_lost_its_lease_has_no_effect(
    store: Store, settings: MemorySettings, called: Called, model: FactModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "RENEW_S", 0.05)
    called("I live in Leeds")
    model.held.set()
    leases = open_leases(settings)

    with learning(store, settings, model.endpoint()) as learner:
        wait_for(lambda: "" if model.requests else "not asked")
        held = leases.read(f"customer:{CUSTOMER}")
        assert held is not None
        leases.take_over(held, "somebody else", 60, proven_dead=True)
        wait_for(lambda: "" if model.left.is_set() else "the question is still asked")
        learner.stop()
    leases.close()

    assert texts(store) == []


@pytest.mark.parametrize(
    ("setting", "backend", "local", "strategy", "why"),
    [
        ("auto", "letta", False, Strategy.EXTRACT, "adds and never removes"),
        ("auto", "embedded", True, Strategy.EXTRACT, "when no call is on"),
        ("agent", "letta", False, Strategy.AGENT, "MEMORY_STEP=agent"),
        ("agent", "embedded", False, Strategy.EXTRACT, "needs Letta"),
        ("agent", "letta", True, Strategy.EXTRACT, "calls tools"),
        ("extract", "letta", False, Strategy.EXTRACT, "MEMORY_STEP=extract"),
        ("off", "letta", False, Strategy.OFF, "MEMORY_STEP=off"),
        ("auto", "letta", None, Strategy.OFF, "no language model"),
    ],
)
def test_the_strategy_in_force_says_why(
    setting: str, backend: str, local: bool | None, strategy: Strategy, why: str
) -> None:
    llm = None if local is None else LlmEndpoint("http://127.0.0.1:1/v1", "none", "", local)

    chosen = choose(setting, backend, llm)

    assert chosen.strategy == strategy
    assert why in chosen.why


def test_without_a_model_nothing_is_learnt_and_the_words_wait(
    store: Store, settings: MemorySettings, called: Called
) -> None:
    called("I live in Leeds")

    with learning(store, settings, None, choose("auto", "embedded", None)):
        assert step(store) == ("", 0)

    assert steps.figures(store).waiting == 1


def ended(store: Store, *old: Call, ago_ms: int = due.RECENT_MS + 60_000) -> None:
    """Let calls have ended so long ago."""
    with store.write() as connection:
        mine = update(calls).where(calls.c.id.in_([c.id for c in old]))
        connection.execute(mine.values(started_ms=now_ms() - ago_ms - 1, ended_ms=now_ms() - ago_ms))


def test_calls_from_long_before_steps_were_on_are_learnt_from_only_when_somebody_asks(
    store: Store, settings: MemorySettings, called: Called, model: FactModel
) -> None:
    old = called("I live in Leeds")
    ended(store, old, *(called(f"I live in {city}", customer="user:7") for city in ("York", "Hull")))
    called("I like tea", customer="user:9")
    assert steps.figures(store).waiting == 4  # nobody has switched them on yet
    model.answer = facts("city: Leeds")

    with learning(store, settings, model.endpoint()):
        wait_for(lambda: "" if steps.figures(store).done == 1 else "the call of today is not learnt from")
        assert (steps.figures(store).waiting, steps.figures(store).passed_over) == (0, 3)
        assert len(recall.read(store, "user:7").tail) == 2  # their words are told all the same
        assert steps.retry(store) == []
        assert steps.retry(store, CUSTOMER) == [old.id]
        wait_for(lambda: learnt(store))

    assert len(model.requests) == 2
    assert steps.figures(store).passed_over == 2
    assert admin.show(store, "user:7").passed_over == 2


def test_a_step_that_waited_for_a_model_that_was_away_for_days_is_taken(
    store: Store, settings: MemorySettings, called: Called, model: FactModel
) -> None:
    model.answer = facts("city: Leeds")
    with learning(store, settings, model.endpoint()):
        wait_for(lambda: "" if is_on(store) else "not on")

    ended(store, called("I live in Leeds"), ago_ms=30 * due.RECENT_MS)
    with learning(store, settings, model.endpoint()):
        wait_for(lambda: learnt(store))

    assert steps.figures(store).passed_over == 0


def test_calls_of_days_on_which_steps_were_off_are_passed_over_and_what_was_begun_before_is_not(
    store: Store, settings: MemorySettings, called: Called, model: FactModel
) -> None:
    begun = called("I live in Leeds")
    model.held.set()
    with learning(store, settings, model.endpoint()):
        wait_for(lambda: "" if model.requests else "not asked")
    model.held.clear()
    ended(store, begun, called("I live in York", customer="user:7"))

    with learning(store, settings, None, choose("off", "letta", None)):
        wait_for(lambda: "still on" if is_on(store) else "")
    model.answer = facts("city: Leeds")
    with learning(store, settings, model.endpoint()):
        wait_for(lambda: learnt(store))

    assert (steps.figures(store).passed_over, steps.figures(store).waiting) == (1, 0)


@pytest.mark.parametrize("off", [False, True])
def test_a_call_whose_program_died_keeps_the_local_model_waiting_no_longer_and_is_learnt_from(
    store: Store, settings: MemorySettings, model: FactModel, off: bool
) -> None:
    call = open_call(store, customer=CUSTOMER, room=f"{own_calls.OWN_ROOMS}1", desk="", fence=1)
    speak(store, call, "I live in Leeds")
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    own_calls.note(store, call, settings.home / "journal")
    with store.write() as connection:
        row = connection.execute(select(calls.c.progress).where(calls.c.id == call.id)).scalar_one()
        changed = row.replace(f'"pid": {os.getpid()},', f'"pid": {dead.pid},')
        connection.execute(update(calls).where(calls.c.id == call.id).values(progress=changed))
    model.answer = NEW

    with learning(store, settings, None if off else model.endpoint(local=True)):
        wait_for(lambda: "" if rooms_of_open_calls(store) == [] else "it is open")
        if not off:
            wait_for(lambda: learnt(store))


def is_on(store: Store) -> bool:
    with store.read() as connection:
        return connection.execute(select(sync_status.c.name).where(sync_status.c.name == due.ON)).first() is not None


@pytest.mark.process
def test_memory_without_letta_is_learnt_by_the_same_process(
    store: Store, settings: MemorySettings, called: Called, model: FactModel
) -> None:
    called("I live in Leeds")
    model.answer = facts("city: Leeds")
    code = "import sys; from voicectl.memory import syncer, config; from voicectl.memory.backends import LlmEndpoint; "
    code += "syncer.run(config.load(config.MemorySettings), LlmEndpoint(sys.argv[1], 'none', 'scripted'))"
    env = {**os.environ, "MEMORY_BACKEND": "embedded", "VOICE_HOME": str(settings.home)}

    with subprocess.Popen([sys.executable, "-c", code, model.url], env=env, cwd=Path.cwd()) as process:
        try:
            wait_for(lambda: learnt(store), 30)
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
