"""Each turn once: what is done after an answer that never came, and what only then."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import select

from tests.memory.sync.conftest import CUSTOMER, Clock, say
from tests.support.letta_stub import LettaStub
from voicectl.memory.backends import BackendUnavailable
from voicectl.memory.backends.letta import LettaBackend
from voicectl.memory.calls import Call, finish
from voicectl.memory.errors import FencedOut
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import calls, customers, letta_batches, letta_conversations
from voicectl.memory.sync import ledger, ledger_agents
from voicectl.memory.sync.mirror import BATCH_TURNS, sync_turns
from voicectl.memory.sync.states import BatchState, MirrorState, Point
from voicectl.memory.sync.tools import ABSENCE_S, APPEND_S, Later, Tools
from voicectl.memory.sync.transcript import messages

pytestmark = pytest.mark.unit


def state_of(store: Store, call: Call) -> str:
    with store.read() as connection:
        return str(connection.execute(select(calls.c.mirror).where(calls.c.id == call.id)).scalar_one())


def batch_states(store: Store) -> list[str]:
    with store.read() as connection:
        return list(connection.execute(select(letta_batches.c.state).order_by(letta_batches.c.id)).scalars())


def until_done(tools: Tools, clock: Clock) -> None:
    """Come back as often and as late as asked."""
    for _ in range(20):
        try:
            sync_turns(tools, CUSTOMER)
            return
        except Later as e:
            clock.ahead_s += e.seconds
    raise AssertionError("it is never done")


def test_new_turns_are_appended_while_the_call_is_on_and_the_call_completed_after_it(
    tools: Tools, letta: LettaStub, store: Store, call: Call
) -> None:
    say(store, call, "hello", "hi")
    assert sync_turns(tools, CUSTOMER) == 2
    assert sync_turns(tools, CUSTOMER) == 0
    say(store, call, "bye")
    assert (sync_turns(tools, CUSTOMER), state_of(store, call)) == (1, MirrorState.OPEN)
    finish(store, call, "done")

    sync_turns(tools, CUSTOMER)

    assert letta.markers() == [f"{call.id}#{n}" for n in (1, 2, 3)]
    assert [r["content"] for r in letta.rows] == ["hello", "hi", "bye"]
    assert state_of(store, call) == MirrorState.DONE
    assert ledger.customers_with_work(store, 10) == []


def test_many_turns_go_in_batches_in_order(tools: Tools, letta: LettaStub, store: Store, call: Call) -> None:
    say(store, call, *[f"turn {n}" for n in range(BATCH_TURNS * 2 + 20)])
    finish(store, call, "done")

    sync_turns(tools, CUSTOMER)

    assert letta.markers() == [f"{call.id}#{n}" for n in range(1, BATCH_TURNS * 2 + 21)]
    assert letta.appends == 3
    assert state_of(store, call) == MirrorState.DONE  # more rows than one page of a listing


def test_turns_whose_answer_was_lost_are_found_and_not_sent_again(
    tools: Tools, letta: LettaStub, store: Store, call: Call, clock: Clock
) -> None:
    say(store, call, "hello", "hi")
    letta.behaviours = ["store, then silence"]

    with pytest.raises(Later):
        sync_turns(tools, CUSTOMER)
    until_done(tools, clock)

    assert letta.markers() == [f"{call.id}#1", f"{call.id}#2"]
    assert letta.appends == 1
    assert batch_states(store) == [BatchState.CONFIRMED]


def test_turns_that_were_not_stored_go_out_again_after_two_looks_and_not_before(
    tools: Tools, letta: LettaStub, store: Store, call: Call, clock: Clock
) -> None:
    say(store, call, "hello", "hi")
    letta.behaviours = ["500, nothing stored"]
    with pytest.raises(Later):
        sync_turns(tools, CUSTOMER)

    with pytest.raises(Later, match="under way"):
        sync_turns(tools, CUSTOMER)
    clock.ahead_s = APPEND_S + 1
    with pytest.raises(Later, match="once more"):
        sync_turns(tools, CUSTOMER)
    with pytest.raises(Later, match="once more"):
        sync_turns(tools, CUSTOMER)
    assert letta.appends == 1
    clock.ahead_s += ABSENCE_S

    assert sync_turns(tools, CUSTOMER) == 2
    assert letta.markers() == [f"{call.id}#1", f"{call.id}#2"]
    assert batch_states(store) == [BatchState.ABSENT, BatchState.CONFIRMED]


def test_a_look_that_failed_makes_the_looks_before_it_worthless(
    tools: Tools, letta: LettaStub, store: Store, call: Call, clock: Clock
) -> None:
    say(store, call, "hello")
    letta.behaviours = ["500, nothing stored"]
    with pytest.raises(Later):
        sync_turns(tools, CUSTOMER)
    clock.ahead_s = APPEND_S + 1
    with pytest.raises(Later, match="once more"):
        sync_turns(tools, CUSTOMER)
    letta.reads_fail = True
    with pytest.raises(BackendUnavailable):
        sync_turns(tools, CUSTOMER)
    letta.reads_fail = False
    clock.ahead_s += ABSENCE_S

    with pytest.raises(Later, match="once more"):
        sync_turns(tools, CUSTOMER)
    assert letta.appends == 1


def test_rows_that_the_conversation_does_not_show_send_the_call_into_a_new_one(
    tools: Tools, letta: LettaStub, store: Store, call: Call, clock: Clock
) -> None:
    say(store, call, "hello", "hi")
    finish(store, call, "done")
    letta.behaviours = ["store half-linked"]

    until_done(tools, clock)

    assert letta.markers() == [f"{call.id}#1", f"{call.id}#2"]  # in conversations that exist
    assert len(letta.conversations) == 1
    assert state_of(store, call) == MirrorState.DONE
    with store.read() as connection:
        assert connection.execute(select(letta_conversations.c.attempt)).scalar_one() == 2


def test_a_call_that_does_not_come_out_right_twice_is_given_up_and_says_why(
    tools: Tools, letta: LettaStub, store: Store, call: Call, clock: Clock
) -> None:
    say(store, call, "hello")
    finish(store, call, "done")
    letta.behaviours = ["store half-linked", "store half-linked"]

    until_done(tools, clock)

    assert state_of(store, call) == MirrorState.DEAD
    with store.read() as connection:
        why = connection.execute(select(letta_conversations.c.last_error)).scalar_one()
    assert why == "1 turns wanted, 1 found: 0 missing, 0 doubled, 0 not ours, 1 not shown"


def test_a_server_that_is_not_there_has_certainly_stored_nothing(store: Store, call: Call, clock: Clock) -> None:
    with LettaStub() as letta:
        backend = LettaBackend(letta.url, None, "http://127.0.0.1:1/v1", write_s=0.3)
        tools = Tools(store, backend, clock_ms=clock)
        say(store, call, "hello")
        sync_turns(tools, CUSTOMER)
    say(store, call, "hi")

    with pytest.raises(BackendUnavailable):
        sync_turns(tools, CUSTOMER)

    assert batch_states(store) == [BatchState.CONFIRMED, BatchState.ABSENT]
    backend.close()


def test_nothing_of_a_forgotten_customer_is_sent(tools: Tools, letta: LettaStub, store: Store, call: Call) -> None:
    say(store, call, "hello")

    def forget(point: Point) -> None:
        if point == Point.CONVERSATION_CREATED:
            with store.write() as connection:
                connection.execute(customers.update().values(generation=2))

    sync_turns(replace(tools, signal=forget), CUSTOMER)

    assert letta.rows == []
    assert ledger.customers_with_work(store, 10) == []


def test_who_has_lost_the_lease_sends_nothing(tools: Tools, letta: LettaStub, store: Store, call: Call) -> None:
    say(store, call, "hello")

    def renew() -> None:
        raise FencedOut("customer:user:42", 1, 2)

    with pytest.raises(FencedOut):
        sync_turns(replace(tools, renew=renew), CUSTOMER)

    assert letta.rows == []


def test_an_agent_is_found_again_by_its_tag(tools: Tools, letta: LettaStub, store: Store, call: Call) -> None:
    say(store, call, "hello")
    sync_turns(tools, CUSTOMER)
    ledger_agents.lose_agent(store, CUSTOMER)
    say(store, call, "there")
    with store.write() as connection:
        connection.execute(letta_conversations.delete())

    sync_turns(tools, CUSTOMER)

    assert len(letta.agents) == 1
    assert len(letta.conversations) == 1


def test_a_run_that_never_ends_cannot_put_its_turns_beside_those_that_were_sent_again(
    tools: Tools, letta: LettaStub, store: Store, call: Call, clock: Clock
) -> None:
    say(store, call, "hello", "hi")
    letta.behaviours = ["500, nothing stored"]
    with pytest.raises(Later):
        sync_turns(tools, CUSTOMER)
    old = next(iter(letta.conversations))
    letta.ghosts = [old]

    until_done(tools, clock)

    assert old not in letta.conversations
    assert letta.markers() == [f"{call.id}#1", f"{call.id}#2"]
    with store.read() as connection:
        row = connection.execute(select(letta_conversations.c.attempt, letta_conversations.c.failures)).one()
    assert tuple(row) == (2, 0)


def test_a_syncer_that_stood_still_before_its_request_does_not_send_it(
    tools: Tools, letta: LettaStub, store: Store, call: Call, clock: Clock
) -> None:
    say(store, call, "hello")

    def freeze(point: Point) -> None:
        if point == Point.INTENT_COMMITTED:
            clock.ahead_s += 60

    with pytest.raises(Later, match="stood still"):
        sync_turns(replace(tools, signal=freeze), CUSTOMER)

    assert letta.appends == 0
    assert sync_turns(tools, CUSTOMER) == 1


def test_turns_that_a_frozen_syncer_sent_beside_its_successors_are_found_and_put_right(
    tools: Tools, letta: LettaStub, store: Store, call: Call, clock: Clock
) -> None:
    say(store, call, "hello", "hi")
    finish(store, call, "done")

    def meanwhile(point: Point) -> None:
        """The request was under way while somebody else settled it as absent, sent it, and completed the call."""
        if point == Point.POSTED:
            with store.write() as connection:
                connection.execute(letta_batches.update().values(state=BatchState.ABSENT))
            rows, letta.rows = letta.rows, []
            until_done(replace(tools, signal=lambda _: None), clock)
            assert state_of(store, call) == MirrorState.DONE
            letta.rows += rows

    with pytest.raises(Later, match="another syncer"):
        sync_turns(replace(tools, signal=meanwhile), CUSTOMER)
    until_done(tools, clock)

    assert letta.markers() == [f"{call.id}#1", f"{call.id}#2"]
    assert len(letta.conversations) == 1
    assert state_of(store, call) == MirrorState.DONE


def test_a_run_that_ends_between_two_questions_is_seen_before_anything_is_sent_again(
    tools: Tools, letta: LettaStub, backend: LettaBackend, store: Store, call: Call, clock: Clock
) -> None:
    say(store, call, "hello", "hi")
    letta.behaviours = ["500, nothing stored"]
    with pytest.raises(Later):
        sync_turns(tools, CUSTOMER)
    conversation = next(iter(letta.conversations))

    def ends_now(_: str) -> bool:
        if not letta.rows:
            backend.append_turns(conversation, messages(call.id, ledger.rows(store, call.id)))
        return False

    tools.backend.busy = ends_now  # type: ignore[method-assign]
    until_done(tools, clock)

    assert letta.markers() == [f"{call.id}#1", f"{call.id}#2"]
