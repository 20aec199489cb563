"""What Letta has lost is sent again from the store: one conversation, one agent, all of it; and when a person asks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.memory.sync.conftest import CUSTOMER, ON_BOTH, Clock, say
from tests.memory.sync.test_mirror import state_of, until_done
from tests.support.letta_stub import LettaStub
from voicectl.memory import profile
from voicectl.memory.backends import BackendUnavailable, NotThere
from voicectl.memory.backends.letta import LettaBackend
from voicectl.memory.calls import Call, finish, open_call
from voicectl.memory.config import MemorySettings
from voicectl.memory.errors import Refused
from voicectl.memory.profile import Origin, Source
from voicectl.memory.store.engine import Store
from voicectl.memory.store.leases import LeaseHeld, Leases, LeaseState, open_leases
from voicectl.memory.sync import ledger, ledger_agents, letters, rebuild
from voicectl.memory.sync.blocks import sync_blocks
from voicectl.memory.sync.mirror import sync_turns
from voicectl.memory.sync.states import MirrorState, Point
from voicectl.memory.sync.tools import Tools

pytestmark = pytest.mark.unit


@pytest.fixture
def leases(settings: MemorySettings) -> Iterator[Leases]:
    made = open_leases(settings)
    yield made
    made.close()


@pytest.fixture
def two_calls(tools: Tools, store: Store, call: Call, clock: Clock) -> list[str]:
    """One call that is over, one that is on, both in Letta; their markers."""
    say(store, call, "hello", "hi")
    finish(store, call, "done")
    until_done(tools, clock)
    on = open_call(store, customer=CUSTOMER, room="room-2", desk="assistant", fence=1)
    say(store, on, "again", "yes")
    sync_turns(tools, CUSTOMER)
    return [f"{call.id}#1", f"{call.id}#2", f"{on.id}#1", f"{on.id}#2"]


@ON_BOTH
def test_a_letta_that_lost_its_database_gets_everything_again_with_the_next_turn(
    tools: Tools, letta: LettaStub, store: Store, two_calls: list[str], clock: Clock
) -> None:
    profile.put(store, CUSTOMER, "likes tea", Origin(Source.TOOL))
    on = open_call(store, customer=CUSTOMER, room="room-2", desk="assistant", fence=2)
    letta.lose_everything()
    with store.write() as connection:
        connection.exec_driver_sql(
            f"insert into turns (call_id, seq, item_id, role, text, at_ms) "
            f"values ('{on.id}', 3, 'x', 'user', 'more', 1)"
        )

    until_done(tools, clock)

    assert letta.markers() == [*two_calls, f"{on.id}#3"]
    assert len(letta.agents) == 1
    assert next(b for b in letta.blocks.values() if b["label"] == "profile")["value"] == "likes tea"


def test_an_idle_customer_whom_letta_lost_is_found_by_the_sweep_of_blocks(
    tools: Tools, letta: LettaStub, store: Store, two_calls: list[str], clock: Clock
) -> None:
    letta.lose_everything()
    with pytest.raises(NotThere):
        sync_blocks(tools, CUSTOMER)
    assert ledger_agents.customers_to_check(store, 2**60, 10) == [CUSTOMER]

    sync_blocks(tools, CUSTOMER)
    until_done(tools, clock)

    assert letta.markers() == two_calls


def test_a_crash_after_the_new_agent_was_made_still_sends_everything_again(
    tools: Tools, letta: LettaStub, store: Store, two_calls: list[str], clock: Clock
) -> None:
    class Crash(BaseException):
        pass

    def crash(here: Point) -> None:
        if here == Point.AGENT_CREATED:
            raise Crash

    letta.lose_everything()
    with pytest.raises(NotThere):
        sync_blocks(tools, CUSTOMER)
    with pytest.raises(Crash):
        sync_blocks(replace(tools, signal=crash), CUSTOMER)

    sync_blocks(tools, CUSTOMER)
    until_done(tools, clock)

    assert letta.markers() == two_calls


def test_only_the_conversation_that_is_gone_is_sent_again(
    tools: Tools, letta: LettaStub, store: Store, two_calls: list[str], clock: Clock
) -> None:
    on = two_calls[2].split("#")[0]
    lost = ledger.conversations(store, CUSTOMER)[on]
    del letta.conversations[lost]
    appends = letta.appends
    say(store, open_call(store, customer=CUSTOMER, room="room-2", desk="assistant", fence=2), "3", "4")

    until_done(tools, clock)

    assert sorted(letta.markers()) == sorted([*two_calls, f"{on}#3", f"{on}#4"])
    assert letta.appends == appends + 1


def test_a_silent_letta_is_not_an_empty_one(tools: Tools, letta: LettaStub, store: Store, two_calls: list[str]) -> None:
    letta.down = True

    with pytest.raises(BackendUnavailable):
        sync_blocks(tools, CUSTOMER)

    row = ledger_agents.agent(store, CUSTOMER)
    assert row is not None
    assert row.agent_id is not None
    assert len(ledger.conversations(store, CUSTOMER)) == 2


def test_rebuilding_is_refused_while_letta_has_the_agents(
    letta: LettaStub, backend: LettaBackend, store: Store, leases: Leases, two_calls: list[str]
) -> None:
    with pytest.raises(Refused, match=r"1 customers.*--replace"):
        list(rebuild.rebuild(store, leases, backend))

    assert letta.markers() == two_calls
    assert ledger.customers_with_work(store, 10) == []


def test_replacing_deletes_the_agents_takes_the_last_edits_and_sends_everything_again(
    tools: Tools, letta: LettaStub, store: Store, leases: Leases, two_calls: list[str], clock: Clock
) -> None:
    old = set(letta.agents)
    letta.blocks[ledger_agents.blocks(store, CUSTOMER)["profile"].block_id]["value"] = "likes coffee"

    done = list(rebuild.rebuild(store, leases, tools.backend, replace=True))

    assert [(d.customer, d.calls, d.deleted) for d in done] == [(CUSTOMER, 2, 1)]
    until_done(tools, clock)
    assert not old & set(letta.agents)
    assert letta.markers() == two_calls
    assert [x.text for x in profile.lines(store, CUSTOMER)] == ["likes coffee"]


def test_rebuilding_waits_for_the_syncer_that_has_the_customer_and_says_who_when_it_does_not_let_go(
    backend: LettaBackend, letta: LettaStub, store: Store, leases: Leases, two_calls: list[str]
) -> None:
    letta.lose_everything()
    held = leases.claim(f"customer:{CUSTOMER}", "syncer-1", 600, LeaseState.HELD)
    waited: list[float] = []

    with pytest.raises(LeaseHeld, match="syncer-1"):
        list(rebuild.rebuild(store, leases, backend, wait=waited.append))

    assert sum(waited) >= rebuild.PATIENCE_S
    leases.release(held)
    assert len(list(rebuild.rebuild(store, leases, backend))) == 1


@ON_BOTH
def test_what_a_person_dropped_is_not_brought_back_by_a_rebuild(
    tools: Tools, letta: LettaStub, store: Store, leases: Leases, call: Call, clock: Clock
) -> None:
    say(store, call, "hello")
    finish(store, call, "done")
    letta.behaviours = ["store half-linked", "store half-linked"]
    until_done(tools, clock)
    assert state_of(store, call) == MirrorState.DEAD
    letters.drop(store, call.id)
    letta.lose_everything()

    list(rebuild.rebuild(store, leases, tools.backend))

    assert ledger.customers_with_work(store, 10) == []
