"""The real model behind the adapter: it takes our grammars, remembers, answers, and keeps callers apart."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from livekit.agents import APIStatusError

from bench.local_llm import ask, served, turn, until_ready
from tests.support.installation import CACHE, free_port
from tests.voice.local_llm.desk import assistant_tools, context
from voicectl.memory.config import checkout
from voicectl.voice.engines.local_llm.adapter import LocalLLM
from voicectl.voice.engines.local_llm.examples_assistant import INSTRUCTIONS
from voicectl.voice.engines.local_llm.grammar import plan
from voicectl.voice.engines.local_llm.server import MODEL
from voicectl.voice.engines.local_llm.tools import specs_of

pytestmark = [pytest.mark.live, pytest.mark.alone, pytest.mark.timeout(420)]


def model_home() -> Path:
    """The home that holds the model: the tests' cache, else the checkout's own."""
    homes = (CACHE / "home", checkout() / ".voice")
    found = next((h for h in homes if list((h / "models" / MODEL).glob("*.gguf"))), None)
    assert found is not None, f"no model under {homes}; run: python -m tests.setup"
    return found


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, str]]:
    """Address and key of a real server; at the end it must stop cleanly."""
    port, key = free_port(), secrets.token_hex(8)
    with served(model_home(), port, key) as child:
        asyncio.run(until_ready(child, port))
        yield f"http://127.0.0.1:{port}", key
        child.terminate()
        assert child.wait(20) == os.EX_OK


@pytest.fixture
async def model(address: tuple[str, str]) -> AsyncIterator[LocalLLM]:
    local = LocalLLM(*address)
    yield local
    await local.aclose()


async def test_a_fact_told_in_one_call_is_answered_in_the_next_and_to_nobody_else(model: LocalLLM) -> None:
    tools = assistant_tools()
    await model.warm_up(INSTRUCTIONS, tools)
    again = await model.warm_up(INSTRUCTIONS, tools)
    assert again.tokens_read <= 4  # the prefix is cached; all later callers share it

    told, confirmed = await turn(model, context(""), tools, "Hi, my name is Ola and my favourite fruit is guava.")
    name, arguments = told.tool()
    assert (name, arguments) == ("remember", {"fact": "favourite fruit is guava"})
    assert confirmed is not None
    assert "guava" in confirmed.said

    knows = f"About the caller:\n- name: Ola\n- {arguments['fact']}"
    answer, _ = await turn(model, context(knows), tools, "What is my favourite fruit?")
    assert "guava" in answer.said

    other, reply = await turn(model, context("About the caller:\n- name: Per"), tools, "What is my favourite fruit?")
    assert other.tool()[0] == "recall"
    assert reply is not None
    assert reply.said
    assert "guava" not in other.said + reply.said


async def test_the_server_takes_the_grammar_of_an_open_turn_and_refuses_strangers(
    model: LocalLLM, address: tuple[str, str]
) -> None:
    tools = assistant_tools()
    specs = specs_of(tools)
    ctx = context("", "What is the capital of France?")
    view, _ = model.rendered(ctx, specs)
    decided = plan(view.turn, specs)
    assert decided.grammar.startswith("root ::= tool | speech")

    answer = await ask(model, ctx, tools)
    assert "Paris" in answer.said

    stranger = LocalLLM(address[0], "wrong")
    with pytest.raises(APIStatusError):
        await stranger.warm_up(INSTRUCTIONS, [])
    await stranger.aclose()
