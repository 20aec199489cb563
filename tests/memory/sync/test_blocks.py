"""Profile and blocks: ours are shown in Letta, edits made there come back, and a crash repeats neither."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.memory.sync.conftest import CUSTOMER, say
from tests.support.letta_stub import LettaStub
from voicectl.memory import profile
from voicectl.memory.backends import NotThere
from voicectl.memory.calls import Call
from voicectl.memory.profile import BLOCK_LIMIT, Block, Origin, Source
from voicectl.memory.store.engine import Store
from voicectl.memory.sync import ledger_agents
from voicectl.memory.sync.blocks import sync_blocks
from voicectl.memory.sync.mirror import sync_turns
from voicectl.memory.sync.states import Point
from voicectl.memory.sync.tools import Tools

pytestmark = pytest.mark.unit


@pytest.fixture
def known(tools: Tools, store: Store, call: Call) -> None:
    """A customer of whom Letta shows two lines."""
    profile.put(store, CUSTOMER, "name: Rahim", Origin(Source.RULE))
    profile.put(store, CUSTOMER, "likes tea", Origin(Source.TOOL))
    say(store, call, "hello")
    sync_turns(tools, CUSTOMER)


def block(letta: LettaStub, label: str = "profile") -> dict[str, str]:
    return next(b for b in letta.blocks.values() if b["label"] == label)


def known_lines(store: Store) -> list[tuple[str, Source]]:
    return [(x.text, x.source) for x in profile.lines(store, CUSTOMER)]


@pytest.mark.usefixtures("known")
def test_what_we_learn_is_shown_in_letta_and_is_no_edit(tools: Tools, letta: LettaStub, store: Store) -> None:
    assert block(letta)["value"] == "name: Rahim\nlikes tea"
    profile.put(store, CUSTOMER, "born in Dhaka", Origin(Source.TOOL))

    assert sync_blocks(tools, CUSTOMER) == 0

    assert block(letta)["value"] == "name: Rahim\nlikes tea\nborn in Dhaka"
    assert block(letta, "operator_notes")["read_only"]


@pytest.mark.usefixtures("known")
def test_an_edit_in_letta_becomes_operations_of_the_profile(tools: Tools, letta: LettaStub, store: Store) -> None:
    block(letta)["value"] = "name: Karim\n\n- has a cat"
    profile.put(store, CUSTOMER, "born in Dhaka", Origin(Source.TOOL))  # at the same time

    sync_blocks(tools, CUSTOMER)

    assert known_lines(store) == [
        ("name: Karim", Source.ADE),
        ("born in Dhaka", Source.TOOL),
        ("has a cat", Source.ADE),
    ]
    assert block(letta)["value"] == "name: Karim\nborn in Dhaka\nhas a cat"
    assert sync_blocks(tools, CUSTOMER) == 0


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("point", [Point.EDITS_LOGGED, Point.BLOCK_INTENT, Point.BLOCK_PUT])
def test_a_crash_in_between_repeats_no_edit_and_brings_nothing_back(
    tools: Tools, letta: LettaStub, store: Store, point: Point
) -> None:
    class Crash(BaseException):
        pass

    def crash(here: Point) -> None:
        if here == point:
            raise Crash

    block(letta)["value"] += "\nhas a cat"
    profile.put(store, CUSTOMER, "born in Dhaka", Origin(Source.TOOL))
    with pytest.raises(Crash):
        sync_blocks(replace(tools, signal=crash), CUSTOMER)
    born = next(x for x in profile.lines(store, CUSTOMER) if x.text == "born in Dhaka")
    profile.remove(store, CUSTOMER, born.op_id, Origin(Source.PAGE))

    sync_blocks(tools, CUSTOMER)

    assert sorted(text for text, _ in known_lines(store)) == ["has a cat", "likes tea", "name: Rahim"]
    assert "Dhaka" not in block(letta)["value"]


@pytest.mark.usefixtures("known")
def test_a_block_that_is_gone_means_unchanged_and_not_empty(tools: Tools, letta: LettaStub, store: Store) -> None:
    letta.blocks.clear()

    with pytest.raises(NotThere):
        sync_blocks(tools, CUSTOMER)

    assert len(known_lines(store)) == 2
    row = ledger_agents.agent(store, CUSTOMER)
    assert row is not None
    assert row.agent_id is None  # looked up again next time


@pytest.mark.usefixtures("known")
def test_what_does_not_fit_is_refused_and_can_be_seen(tools: Tools, letta: LettaStub, store: Store) -> None:
    block(letta)["value"] += "".join(f"\n{'x' * 290}{n:03}" for n in range(BLOCK_LIMIT // 290 + 1))

    sync_blocks(tools, CUSTOMER)

    refused = ledger_agents.blocks(store, CUSTOMER)["profile"].refused
    assert f"{BLOCK_LIMIT} fit" in refused
    assert len(block(letta)["value"]) <= BLOCK_LIMIT


@pytest.mark.usefixtures("known")
def test_the_description_follows_the_name(tools: Tools, letta: LettaStub, store: Store) -> None:
    profile.put(store, CUSTOMER, "name: Karim", Origin(Source.OPERATOR))

    sync_blocks(tools, CUSTOMER)

    row = ledger_agents.agent(store, CUSTOMER)
    assert row is not None
    assert "Karim" in row.description
    assert ledger_agents.customers_with_changed_profile(store, 0)[0] == []
    assert Block.PROFILE in ledger_agents.blocks(store, CUSTOMER)
