"""An effect of a tool happens once, whoever is killed in the middle of it."""

from __future__ import annotations

import threading

import pytest

from voicectl.memory import calls, effects
from voicectl.memory.effects import EffectState
from voicectl.memory.errors import CallOver, FencedOut
from voicectl.memory.recorder import Role, Turn, write_turn
from voicectl.memory.store.engine import Store

pytestmark = pytest.mark.unit
PIZZA = {"dish": "pizza", "count": 1}


@pytest.fixture
def call(store: Store) -> calls.Call:
    return calls.open_call(store, customer="user:1", room="r1", desk="assistant", fence=1)


def say(store: Store, call: calls.Call, item_id: str, role: Role) -> None:
    with store.write() as connection:
        assert write_turn(connection, call, Turn(item_id, role, "words", 1))


def test_the_first_to_begin_makes_the_effect_and_nobody_after_it(store: Store, call: calls.Call) -> None:
    first = effects.begin(store, call, "item_1", "order", PIZZA)
    again = effects.begin(store, call, "item_1", "order", dict(reversed(PIZZA.items())))

    assert first.ours
    assert (again.ours, again.state, again.key) == (False, EffectState.STARTED, first.key)


def test_what_is_done_is_answered_with_its_result(store: Store, call: calls.Call) -> None:
    effects.done(store, call, effects.begin(store, call, "item_1", "order", PIZZA), '{"order": 7}')

    again = effects.begin(store, call, "item_1", "order", PIZZA)

    assert (again.ours, again.state, again.result) == (False, EffectState.DONE, '{"order": 7}')


@pytest.mark.parametrize(
    ("turn", "tool", "arguments"),
    [("item_2", "order", PIZZA), ("item_1", "cancel", PIZZA), ("item_1", "order", {"dish": "soup", "count": 1})],
)
def test_another_turn_tool_or_argument_is_another_effect(
    store: Store, call: calls.Call, turn: str, tool: str, arguments: dict[str, object]
) -> None:
    effects.begin(store, call, "item_1", "order", PIZZA)

    assert effects.begin(store, call, turn, tool, arguments).ours


def test_what_certainly_failed_may_be_tried_again(store: Store, call: calls.Call) -> None:
    effects.failed(store, call, effects.begin(store, call, "item_1", "order", PIZZA), "the kitchen is closed")

    assert effects.begin(store, call, "item_1", "order", PIZZA).ours


def test_a_successor_sees_what_was_begun_and_what_was_not_spoken(store: Store, call: calls.Call) -> None:
    say(store, call, "item_1", Role.USER)
    spoken = effects.begin(store, call, "item_1", "look_up", {})
    effects.done(store, call, spoken, "found")
    say(store, call, "item_2", Role.ASSISTANT)
    begun = effects.begin(store, call, "item_3", "order", PIZZA)
    made = effects.begin(store, call, "item_3", "order", {"dish": "soup"})
    effects.done(store, call, made, '{"order": 8}')

    left = effects.unsettled(store, call.id)

    assert {(e.key, e.state) for e in left} == {(begun.key, EffectState.STARTED), (made.key, EffectState.DONE)}
    say(store, call, "item_4", Role.ASSISTANT)
    assert [e.key for e in effects.unsettled(store, call.id)] == [begun.key]


def test_a_fenced_out_job_begins_nothing_and_notes_nothing(store: Store, call: calls.Call) -> None:
    begun = effects.begin(store, call, "item_1", "order", PIZZA)
    calls.open_call(store, customer="user:1", room="r1", desk="assistant", fence=2)

    with pytest.raises(FencedOut):
        effects.begin(store, call, "item_2", "order", PIZZA)
    with pytest.raises(FencedOut):
        effects.done(store, call, begun, "too late")

    assert [e.state for e in effects.unsettled(store, call.id)] == [EffectState.STARTED]


def test_nothing_is_begun_in_a_call_that_is_over(store: Store, call: calls.Call) -> None:
    calls.finish(store, call, "bye")

    with pytest.raises(CallOver):
        effects.begin(store, call, "item_1", "order", PIZZA)


def test_of_many_who_begin_at_once_one_makes_it(store: Store, call: calls.Call) -> None:
    together = threading.Barrier(4)
    ours: list[bool] = []

    def begin() -> None:
        together.wait()
        ours.append(effects.begin(store, call, "item_1", "order", PIZZA).ours)

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(ours) == [False, False, False, True]


def test_arguments_that_databases_refuse_are_kept_out_of_the_row_not_of_the_key(store: Store, call: calls.Call) -> None:
    one = effects.begin(store, call, "item\x00_1", "order", {"dish": "a\x00\ud800"})
    two = effects.begin(store, call, "item\x00_1", "order", {"dish": "a"})

    assert one.ours
    assert two.ours
