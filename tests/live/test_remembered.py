"""Remembered on the real local model, by sound alone, while Letta is down; and all of it in Letta once it is back.

Three of the pairs that `bench/remembered.py` draws twenty of. The model may fail one of them: it is small, and so are
the ears on both sides. Telling a stranger, and a turn that Letta lacks or has twice, are never right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import pytest

from tests.support.letta_server import RealLetta
from tests.support.mirror_proof import differences, not_mirrored
from tests.support.pairs import pairs, words
from tests.support.remembering import Customers, Outcome, Placed, with_letta_down
from tests.support.waiting import wait_for
from tests.voice.local_llm.desk import assistant_tools, context
from voicectl.memory.store.engine import Store
from voicectl.voice.engines.local_llm.adapter import LocalLLM
from voicectl.voice.engines.local_llm.tools import specs_of

pytestmark = [pytest.mark.live, pytest.mark.alone, pytest.mark.timeout(600)]

SEED = 1
PAIRS = 3


@dataclass
class Outage:
    """What happened while Letta was down, and the two stores to compare."""

    letta: RealLetta
    store: Store
    outcomes: list[Outcome] = field(default_factory=list)
    placed: list[Placed] = field(default_factory=list)


@pytest.fixture(scope="module")
def outage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outage]:
    """Three customers who call twice, and three strangers, while nothing listens at Letta's address."""
    with with_letta_down(tmp_path_factory.mktemp("remembered")) as (installation, letta):
        customers = Customers(installation)
        store = installation.store()
        seen = Outage(letta, store, placed=customers.placed)

        async def all_call() -> None:
            for pair in islice(pairs(SEED), PAIRS):
                seen.outcomes.append(await customers.remembered(pair))
                print(seen.outcomes[-1])

        asyncio.run(all_call())
        yield seen
        store.close()


def test_a_name_and_a_fact_are_remembered_by_sound_alone_and_told_to_nobody_else(outage: Outage) -> None:
    heard = "\n".join(map(str, outage.outcomes))

    assert len(outage.outcomes) == PAIRS
    assert sum(o.greeted_by_name for o in outage.outcomes) >= PAIRS - 1, heard
    assert sum(o.fact_heard for o in outage.outcomes) >= PAIRS - 1, heard
    assert not any(o.told_to_a_stranger for o in outage.outcomes), heard
    assert all(o.stranger for o in outage.outcomes), f"a stranger was not answered at all:\n{heard}"


@pytest.fixture(scope="module")
def level(outage: Outage) -> Outage:
    """Letta is started and has been given everything."""
    assert not_mirrored(outage.store), "Letta was down, and yet there is nothing to mirror"
    outage.letta.up()
    wait_for(lambda: not_mirrored(outage.store), 120)
    return outage


def test_what_was_spoken_while_letta_was_down_is_in_it_once_and_in_order_when_it_is_back(level: Outage) -> None:
    assert differences(level.letta, level.store, level.placed) == []


def test_that_comparison_sees_a_turn_that_is_missing_foreign_or_somebody_elses(level: Outage) -> None:
    sql = level.letta.processes.sql
    turn = "select id from messages where role = 'user' and not is_deleted order by sequence_id limit 1"
    ((one,),) = sql(turn)
    for change, back in (
        ("is_deleted = true", "is_deleted = false"),
        ("role = 'assistant'", "role = 'user'"),
        ("sender_id = 'x' || sender_id", "sender_id = substr(sender_id, 2)"),
    ):
        sql(f"update messages set {change} where id = '{one}'")
        seen = differences(level.letta, level.store, level.placed)
        sql(f"update messages set {back} where id = '{one}'")
        assert seen, change
    assert differences(level.letta, level.store, level.placed) == []


def test_no_prompt_or_example_holds_a_name_or_a_fact_of_the_pairs() -> None:
    tools = assistant_tools()
    view, _ = LocalLLM("http://127.0.0.1:9", "unused").rendered(context("", "Hello."), specs_of(tools))
    prompt = str(view.messages).lower()

    assert "shakespeare" in prompt, "the examples are looked at"
    assert {w for w in words() if w in prompt} == set()
