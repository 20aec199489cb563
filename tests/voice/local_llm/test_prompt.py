"""The prefix is the same for all callers; within a call the prompt only grows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from livekit.agents import Agent, function_tool
from livekit.agents.llm import ChatContext, FunctionCall, FunctionCallOutput

from tests.voice.local_llm.desk import assistant_specs, context
from voicectl.voice.engines.local_llm.adapter import LocalLLM
from voicectl.voice.engines.local_llm.examples_assistant import INSTRUCTIONS
from voicectl.voice.engines.local_llm.prompt import fact_lines, prefix, private_words
from voicectl.voice.engines.local_llm.tools import Example, Hints, hint, hinted, hints_of, specs_of

pytestmark = pytest.mark.unit


def sent(model: LocalLLM, ctx: ChatContext) -> list[dict[str, str]]:
    return model.rendered(ctx, assistant_specs())[0].messages


def test_the_prefix_is_the_same_bytes_for_every_caller() -> None:
    head = prefix(INSTRUCTIONS, assistant_specs())

    for facts in ("", "name: Ola\nlikes mango", "About the caller:\n- name: Per"):
        assert sent(LocalLLM("http://x", "k"), context(facts, "hello"))[: len(head)] == head


def test_facts_open_the_call_after_the_examples_and_stay_out_of_the_system_message() -> None:
    messages = sent(LocalLLM("http://x", "k"), context("About the caller:\n- name: Ola\n- likes mango", "hello"))

    assert messages[-3]["content"] == "(A new call begins. Known about the caller:\nname: Ola\nlikes mango)"
    assert messages[-2]["content"] == "@none()\nHello, how can I help you?"
    assert "mango" not in messages[0]["content"]


def test_nothing_known_is_said_in_the_words_of_the_examples() -> None:
    assert fact_lines("Nothing is known about the caller yet.") == []

    messages = sent(LocalLLM("http://x", "k"), context("Nothing is known about the caller yet.", "hello"))
    assert messages[-3]["content"] == "(A new call begins. Nothing is known about the caller.)"


def test_a_call_with_tools_and_changed_facts_only_appends() -> None:
    model = LocalLLM("http://x", "k")
    ctx = context("name: Ola", "my favourite fruit is mango")
    first = sent(model, ctx)
    ctx.items.append(FunctionCall(call_id="1", name="remember", arguments='{"fact": "favourite fruit is mango"}'))
    ctx.items.append(FunctionCallOutput(call_id="1", name="remember", output="saved", is_error=False))
    second = sent(model, ctx)
    ctx.items[1] = ctx.items[1].model_copy(update={"content": ["name: Ola\nfavourite fruit is mango\nis a member"]})
    ctx.add_message(role="assistant", content="Okay.")
    ctx.add_message(role="user", content="thanks")
    third = sent(model, ctx)

    assert second[: len(first)] == first
    assert [m["content"] for m in second[-2:]] == ['@remember("favourite fruit is mango")', "Result: saved"]
    assert third[: len(second)] == second
    assert third[-1]["content"] == "(Now known about the caller: is a member)\nthanks"
    assert sent(model, ctx) == third


def test_a_fact_that_was_taken_back_is_said_to_be_untrue() -> None:
    model = LocalLLM("http://x", "k")
    ctx = context("name: Ola\nlikes mango\nCaller: hello", "hello")
    sent(model, ctx)
    ctx.items[1] = ctx.items[1].model_copy(update={"content": ["name: Ola"]})
    ctx.add_message(role="assistant", content="Hi.")
    ctx.add_message(role="user", content="what do I like")

    assert sent(model, ctx)[-1]["content"] == "(No longer true: likes mango)\nwhat do I like"


def test_another_call_through_the_same_object_never_sees_these_facts() -> None:
    model = LocalLLM("http://x", "k")
    sent(model, context("name: Ola\nlikes mango", "hello"))

    messages = sent(model, context("name: Per", "what do I like"))
    assert "mango" not in str(messages)


def test_examples_carry_calls_results_and_refusals_and_a_call_ends_last() -> None:
    texts = [m["content"] for m in prefix(INSTRUCTIONS, assistant_specs())]

    assert '@remember("car is a blue Toyota")' in texts
    assert texts[texts.index('@remember("car is a blue Toyota")') + 1] == "Result: saved"
    assert "@none()\nAll right, I won't." in texts
    assert texts.index("@end_call()") > texts.index("@none()\nAll right, I won't.")
    assert {"8812", "Toyota", "zinnia"} <= set(private_words(assistant_specs()))


def test_a_foreign_tool_gets_an_example_from_its_schema() -> None:
    @function_tool
    async def book_table(guests: int, day: str, note: str = "") -> str:
        """Book a table. It may fail."""
        return ""

    head = prefix("You take bookings.", specs_of([book_table]))

    assert '@book_table("...", "...")  Book a table' in head[0]["content"]
    assert any(m["content"].startswith('@book_table("3", "something")') for m in head)


@pytest.mark.parametrize("order", ["above", "below"])
def test_hints_survive_binding_to_an_agent_whichever_decorator_is_first(order: str) -> None:
    hints = Hints(examples=(Example("hi", "hello"),))
    decorate: Callable[[Any], Any] = hinted(hints)

    async def greet(self: Agent, who: str) -> str:
        """Greet somebody."""
        return who

    tool = decorate(function_tool(greet)) if order == "above" else function_tool(decorate(greet))
    agent = type("Greeter", (Agent,), {"greet": tool})(instructions="x")

    assert [hints_of(t) for t in agent.tools] == [hints]


def test_hints_of_one_tool_do_not_reach_another_of_the_same_class() -> None:
    from livekit.agents.beta.tools import EndCallTool

    hint(EndCallTool(), Hints(when="never"))

    assert hints_of(EndCallTool().tools[0]) == Hints()
