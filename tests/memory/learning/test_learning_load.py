"""Many calls and long ones: no customer hides another, and nobody waits for the store while words are searched."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.memory.conftest import STORES
from tests.memory.learning.conftest import Called, texts
from tests.support.fact_model import FactModel, facts
from voicectl.memory.calls import now_ms
from voicectl.memory.learning import due, verdicts
from voicectl.memory.learning.due import Due
from voicectl.memory.learning.grounding import Evidence
from voicectl.memory.learning.quoted import MAX_QUOTED, Heard
from voicectl.memory.learning.states import StepState
from voicectl.memory.learning.step import Asking, learn
from voicectl.memory.learning.strategy import Strategy
from voicectl.memory.lines import Block
from voicectl.memory.store.engine import Store

pytestmark = [pytest.mark.unit, pytest.mark.parametrize("store_url", STORES, indirect=True)]


def test_a_customer_whose_first_call_waits_hides_nobody(store: Store, called: Called) -> None:
    first, *_ = [called("I live in Leeds", customer="user:old") for _ in range(25)]
    others = [called("I live in York", customer=f"user:{n}") for n in range(3)]
    intent = due.begin(store, Due(first.id, "user:old"), Strategy.EXTRACT, "x", 60)
    assert intent is not None
    assert due.failed(store, intent, "HTTP 500") is StepState.WAITING

    assert [d.call_id for d in due.due(store, 1)] == [others[0].id]
    assert [d.call_id for d in due.due(store, 10)] == [call.id for call in others]
    later = now_ms() + 3_600_000
    assert [d.call_id for d in due.due(store, 10, later)] == [first.id, *(call.id for call in others)]
    assert [d.call_id for d in due.due(store, 2, later)] == [first.id, others[0].id]


def test_others_write_while_a_calls_words_are_searched(
    store: Store, called: Called, model: FactModel, extract: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = called("I live in Leeds")
    model.answer = facts("city: Leeds", "likes tea", last_call="The customer lives in Leeds")
    searched: list[str] = []
    other = store.impatient(50)

    def write() -> None:
        with other.write() as connection:
            other.lock(connection, "profile", call.customer)

    class Searched(Evidence):
        def __init__(self, said: Sequence[Heard], known: Sequence[str] = ()) -> None:
            write()
            super().__init__(said, known)

        def of(self, line: str) -> Heard:
            write()
            searched.append(line)
            return super().of(line)

    monkeypatch.setattr(verdicts, "Evidence", Searched)

    assert learn(store, call.id, extract) is not None
    other.close()

    assert searched == ["city: Leeds", "likes tea"]
    assert texts(store) == ["city: Leeds"]


def test_what_a_caller_asks_to_forget_is_not_what_the_call_was_about(
    store: Store, called: Called, model: FactModel, extract: Asking
) -> None:
    call = called("please forget that I'm allergic to nuts", "All right.", "and the blue gate is broken", "I see.")
    model.answer = facts("is allergic to nuts")

    learn(store, call.id, extract)

    assert texts(store) == []
    assert ["blue gate" in line for line in texts(store, Block.LAST_CALL)] == [True]


@pytest.mark.timeout(20)
def test_a_turn_of_spaces_and_one_without_end_are_cut(store: Store, called: Called) -> None:
    call = called("I am" + " " * 20_000 + "here", "Yes.", "word " * MAX_QUOTED)

    intent = due.begin(store, Due(call.id, call.customer), Strategy.EXTRACT, "x", 60)

    assert intent is not None
    assert [len(h.text) for h in intent.said] == [len("I am here"), len("Yes."), MAX_QUOTED]
