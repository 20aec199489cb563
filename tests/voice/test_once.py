"""A tool that does something in the world: once, whoever dies in it, and its successor knows what came of it."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from livekit.agents import RunContext, ToolError

from tests.support.waiting import wait_until
from voicectl.memory import calls, effects
from voicectl.memory.config import load
from voicectl.memory.recorder import Role, Turn, write_turn
from voicectl.memory.store.engine import Store, open_store
from voicectl.voice.call import MemoryCall
from voicectl.voice.config import VoiceSettings
from voicectl.voice.once import Once
from voicectl.voice.takeover import add_result, left_in

pytestmark = pytest.mark.unit


class Orders:
    """A business database of dishes by key."""

    def __init__(self) -> None:
        self.made: dict[str, str] = {}
        self.asked: list[str] = []
        self.at_work = self.most_at_work = 0
        self.slow: threading.Event | None = None
        self.fails = ""  # "before" or "after" the order is taken

    def make(self, key: str, dish: str) -> str:
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        if self.fails == "before":
            raise ConnectionError("refused")
        if self.slow is not None:
            self.slow.wait(5)
        assert key not in self.made
        self.made[key] = dish
        self.at_work -= 1
        if self.fails == "after":
            raise ConnectionError("no answer")
        return json.dumps({"ordered": dish})

    def find(self, key: str) -> str | None:
        self.asked.append(key)
        return json.dumps({"ordered": self.made[key]}) if key in self.made else None


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(load(VoiceSettings, home=tmp_path))


@pytest.fixture
def orders() -> Orders:
    return Orders()


def job(store: Store, fence: int) -> MemoryCall:
    """What a job has of its call."""
    call = calls.open_call(store, customer="user:1", room="r", desk="shop", fence=fence)
    made = SimpleNamespace(store=store, call=call, effects={}, one_effect=asyncio.Lock(), last_user_item="item_1")
    return cast(MemoryCall, made)


def tool(call: MemoryCall, orders: Orders) -> Once:
    return Once(call, "place_order", make=orders.make, find=orders.find)


class Context:
    def disallow_interruptions(self) -> None:
        return


CONTEXT = cast("RunContext[Any]", Context())


async def test_the_same_order_twice_in_a_turn_is_one(store: Store, orders: Orders) -> None:
    place = tool(job(store, 1), orders)

    said = [await place(CONTEXT, dish="pizza"), await place(CONTEXT, dish="pizza"), await place(CONTEXT, dish="soup")]

    assert said == ['{"ordered": "pizza"}', '{"ordered": "pizza"}', '{"ordered": "soup"}']
    assert sorted(orders.made.values()) == ["pizza", "soup"]


async def test_effects_of_a_call_are_made_one_after_the_other(store: Store, orders: Orders) -> None:
    place = tool(job(store, 1), orders)

    await asyncio.gather(*(place(CONTEXT, dish=f"dish {n}") for n in range(5)))

    assert (len(orders.made), orders.most_at_work) == (5, 1)


@pytest.mark.parametrize("made_before_it_died", [True, False])
async def test_a_successor_makes_what_was_begun_only_if_it_was_not_made(
    store: Store, orders: Orders, made_before_it_died: bool
) -> None:
    dead = job(store, 1)
    begun = effects.begin(store, dead.call, "item_1", "place_order", {"dish": "pizza"})
    if made_before_it_died:
        orders.make(begun.key, "pizza")

    said = await tool(job(store, 2), orders)(CONTEXT, dish="pizza")

    assert said == '{"ordered": "pizza"}'
    assert orders.asked == [begun.key]
    assert list(orders.made.values()) == ["pizza"]


async def test_a_job_that_was_replaced_makes_nothing(store: Store, orders: Orders) -> None:
    place = tool(job(store, 1), orders)
    job(store, 2)

    with pytest.raises(ToolError, match="not done"):
        await place(CONTEXT, dish="pizza")
    assert orders.made == {}


async def test_without_the_store_nothing_is_made(store: Store, orders: Orders) -> None:
    place = tool(job(store, 1), orders)
    place._call.store = Store(store.url, busy_ms=10)

    with store.write(), pytest.raises(ToolError, match="not done"):
        await place(CONTEXT, dish="pizza")
    assert orders.made == {}


async def test_a_failure_before_the_effect_is_said_and_may_be_tried_again(store: Store, orders: Orders) -> None:
    place = tool(job(store, 1), orders)
    orders.fails = "before"
    with pytest.raises(ToolError, match="failed"):
        await place(CONTEXT, dish="pizza")

    orders.fails = ""

    assert await place(CONTEXT, dish="pizza") == '{"ordered": "pizza"}'


async def test_a_failure_after_the_effect_is_known_by_asking(store: Store, orders: Orders) -> None:
    orders.fails = "after"

    assert await tool(job(store, 1), orders)(CONTEXT, dish="pizza") == '{"ordered": "pizza"}'


async def test_what_was_made_is_said_although_it_could_not_be_noted(store: Store, orders: Orders) -> None:
    call = job(store, 1)
    call.store = Store(store.url, busy_ms=20)
    away = ExitStack()

    def make(key: str, dish: str) -> str:
        made = orders.make(key, dish)
        away.enter_context(store.write())
        return made

    said = await Once(call, "place_order", make=make, find=orders.find)(CONTEXT, dish="pizza")
    away.close()

    assert said == '{"ordered": "pizza"}'
    assert await tool(call, orders)(CONTEXT, dish="pizza") == said, "the key tells whoever comes next"
    assert len(orders.made) == 1


async def test_an_effect_belongs_to_the_turn_in_which_it_was_asked_for(store: Store, orders: Orders) -> None:
    call = job(store, 1)
    orders.slow = threading.Event()
    place = tool(call, orders)
    twice = [asyncio.create_task(place(CONTEXT, dish="pizza")) for _ in range(2)]
    await wait_until(lambda: "" if orders.at_work else "the first is not at it")
    call.last_user_item = "item_2"  # the customer goes on talking
    orders.slow.set()

    assert len(set(await asyncio.gather(*twice))) == 1
    assert len(orders.made) == 1


async def test_where_even_asking_fails_nothing_is_claimed(store: Store, orders: Orders) -> None:
    orders.fails = "before"

    def find(key: str) -> str | None:
        raise ConnectionError("down")

    place = Once(job(store, 1), "place_order", make=orders.make, find=find)

    with pytest.raises(ToolError, match="not known"):
        await place(CONTEXT, dish="pizza")


def write(store: Store, call: MemoryCall, item: str, role: Role) -> None:
    with store.write() as connection:
        write_turn(connection, call.call, Turn(item, role, f"words of {item}", at_ms=1))


async def test_a_result_that_was_not_spoken_is_in_the_successors_conversation(store: Store, orders: Orders) -> None:
    dead = job(store, 1)
    write(store, dead, "item_1", Role.USER)
    await tool(dead, orders)(CONTEXT, dish="pizza")

    left = left_in(store, job(store, 2).call)

    assert [item.type for item in left.history.items] == ["message", "function_call", "function_call_output"]
    assert left.history.items[-1].output == '{"ordered": "pizza"}'
    assert (left.owes_answer, left.last_user_item, left.unknown) == (True, "item_1", ())


def test_of_what_was_begun_the_successor_is_told_and_may_add_what_it_finds(store: Store) -> None:
    dead = job(store, 1)
    write(store, dead, "item_1", Role.USER)
    begun = effects.begin(store, dead.call, "item_1", "place_order", {"dish": "pizza"})

    left = left_in(store, job(store, 2).call)
    assert [e.key for e in left.unknown] == [begun.key]
    assert [item.type for item in left.history.items] == ["message"]

    add_result(left.history, begun)
    assert [item.type for item in left.history.items] == ["message", "function_call", "function_call_output"]


def test_an_unanswered_question_is_owed_and_an_answered_one_is_not(store: Store) -> None:
    call = job(store, 1)
    write(store, call, "item_1", Role.USER)
    assert left_in(store, call.call).owes_answer

    write(store, call, "item_2", Role.ASSISTANT)

    assert not left_in(store, call.call).owes_answer
