"""Turns that Letta refuses: found alone, listed with the reason, retried or dropped by a person; others go on."""

from __future__ import annotations

import pytest

from tests.memory.sync.conftest import CUSTOMER, Clock, say
from tests.memory.sync.test_mirror import state_of, until_done
from tests.support.letta_stub import LettaStub
from voicectl.memory.backends import ModelFault
from voicectl.memory.calls import Call, finish, open_call
from voicectl.memory.errors import CustomerUnknown
from voicectl.memory.store.engine import Store
from voicectl.memory.sync import ledger, letters
from voicectl.memory.sync.figures import sync_figures
from voicectl.memory.sync.mirror import LONE_TRIES, REFUSED_TURNS, sync_turns
from voicectl.memory.sync.states import LetterState, MirrorState
from voicectl.memory.sync.tools import Later, Tools

pytestmark = pytest.mark.unit


def texts(letta: LettaStub) -> list[str]:
    return [r["content"] for r in letta.rows if r["conversation"] in letta.conversations]


def test_a_refused_turn_becomes_a_dead_letter_and_the_others_arrive(
    tools: Tools, letta: LettaStub, store: Store, call: Call, clock: Clock
) -> None:
    say(store, call, "hello", "hi", "poison", "what?", "bye")
    finish(store, call, "done")

    until_done(tools, clock)

    assert texts(letta) == ["hello", "hi", "what?", "bye"]
    assert [(x.customer, x.call, x.seq, x.state) for x in letters.letters(store)] == [
        (CUSTOMER, call.id, 3, LetterState.DEAD)
    ]
    assert "HTTP 422" in letters.letters(store)[0].why
    assert state_of(store, call) == MirrorState.DONE
    assert (sync_figures(store).backlog, sync_figures(store).dead_letters) == (0, 1)


def test_a_refused_last_turn_of_a_call_that_is_on_is_not_tried_for_ever(
    tools: Tools, letta: LettaStub, store: Store, call: Call
) -> None:
    say(store, call, "hello", "hi")
    sync_turns(tools, CUSTOMER)
    say(store, call, "poison")

    sync_turns(tools, CUSTOMER)

    assert ledger.customers_with_work(store, 10) == []
    appends = letta.appends
    assert sync_turns(tools, CUSTOMER) == 0
    assert letta.appends == appends


def test_a_call_of_which_nearly_all_is_refused_is_given_up_whole(
    tools: Tools, store: Store, call: Call, clock: Clock
) -> None:
    say(store, call, *[f"poison {n}" for n in range(REFUSED_TURNS + 5)])
    finish(store, call, "done")

    until_done(tools, clock)

    assert [(x.seq, x.why.split(",")[0]) for x in letters.letters(store)] == [
        (ledger.WHOLE_CALL, f"more than {REFUSED_TURNS} of its turns were refused")
    ]


def test_retrying_sends_the_whole_call_again_in_order_into_one_conversation(
    tools: Tools, letta: LettaStub, store: Store, call: Call, clock: Clock
) -> None:
    say(store, call, "hello", "poison", "bye")
    finish(store, call, "done")
    until_done(tools, clock)
    with store.write() as connection:
        connection.exec_driver_sql("update turns set text = 'better' where text = 'poison'")

    retried = letters.retry(store, call.id)

    assert [x.seq for x in retried] == [2]
    until_done(tools, clock)
    assert texts(letta) == ["hello", "better", "bye"]
    assert len(letta.conversations) == 1
    assert letters.letters(store) == []
    assert state_of(store, call) == MirrorState.DONE


def test_what_was_dropped_stays_listed_as_that_and_is_not_retried_with_the_others(
    tools: Tools, store: Store, call: Call, clock: Clock
) -> None:
    say(store, call, "poison", "hi")
    finish(store, call, "done")
    until_done(tools, clock)

    assert letters.drop(store, CUSTOMER) == 1

    assert [x.state for x in letters.letters(store)] == [LetterState.DROPPED]
    assert sync_figures(store).dead_letters == 0
    assert letters.retry(store) == []
    assert [x.seq for x in letters.retry(store, call.id)] == [1]


def test_who_is_meant_is_a_customer_or_a_call_that_exists(store: Store, call: Call) -> None:
    assert letters.find(store, " user:42 ") == CUSTOMER
    assert letters.find(store, call.id) == call.id
    with pytest.raises(CustomerUnknown):
        letters.find(store, "user:nobody")


@pytest.mark.parametrize("behaviour", ["model 401", "model 429"])
def test_an_error_of_the_model_behind_letta_is_no_fault_of_letta_or_the_turn(
    tools: Tools, letta: LettaStub, store: Store, call: Call, behaviour: str
) -> None:
    say(store, call, "hello")
    letta.behaviours = [behaviour]

    with pytest.raises(Later) as waits:
        sync_turns(tools, CUSTOMER)

    assert isinstance(waits.value.fault, ModelFault)
    assert "the model behind Letta: llm_" in str(waits.value.fault)
    assert letters.letters(store) == []


def test_a_forgotten_customers_letters_are_nobodys(tools: Tools, store: Store, call: Call, clock: Clock) -> None:
    say(store, call, "poison", "hi")
    until_done(tools, clock)
    with store.write() as connection:
        connection.exec_driver_sql("update customers set generation = 2")

    assert letters.letters(store) == []
    assert sync_figures(store).dead_letters == 0


def test_a_batch_that_gets_no_answer_goes_out_in_smaller_ones(
    tools: Tools, letta: LettaStub, store: Store, call: Call, clock: Clock
) -> None:
    say(store, call, *[f"turn {n}" for n in range(60)])
    letta.behaviours = ["500, nothing stored", "500, nothing stored"]

    until_done(tools, clock)

    assert texts(letta) == [f"turn {n}" for n in range(60)]
    assert letta.appends == 2 + 2  # 50, 25 lost; 12, then 48


def test_calls_of_other_customers_are_not_held_up(
    tools: Tools, letta: LettaStub, store: Store, call: Call, clock: Clock
) -> None:
    other = open_call(store, customer="user:other", room="room-2", desk="assistant", fence=1)
    say(store, call, "poison")
    say(store, other, "hello")

    until_done(tools, clock)
    sync_turns(tools, "user:other")

    assert texts(letta) == ["hello"]


def test_a_turn_that_letta_never_stores_is_given_up_only_when_it_stores_others(
    tools: Tools, letta: LettaStub, store: Store, call: Call, clock: Clock
) -> None:
    say(store, call, "hello", "hi")
    letta.behaviours = ["500, nothing stored"] * (LONE_TRIES + 2)
    for _ in range(8 * LONE_TRIES):
        try:
            sync_turns(tools, CUSTOMER)
        except Later as e:
            clock.ahead_s += e.seconds
        if len(letta.behaviours) == 1:
            break
    assert letters.letters(store) == []  # nothing tells the turn from an outage
    other = open_call(store, customer="user:other", room="room-2", desk="assistant", fence=1)
    say(store, other, "good morning")
    behaviours, letta.behaviours = letta.behaviours, []
    sync_turns(tools, "user:other")
    letta.behaviours = behaviours

    until_done(tools, clock)

    assert [x.seq for x in letters.letters(store)] == [1]
    assert "others it did" in letters.letters(store)[0].why
    assert texts(letta) == ["good morning", "hi"]
