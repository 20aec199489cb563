"""The adapter against a server that speaks the wire protocol of the real one, on loopback in this process."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from livekit.agents import APIConnectionError, APIStatusError, APITimeoutError
from livekit.agents.llm import ChatChunk, ChatContext, FunctionCall, FunctionCallOutput
from livekit.agents.llm.chat_context import Instructions
from livekit.agents.types import APIConnectOptions

from tests.voice.local_llm.desk import assistant_tools, context
from voicectl.voice.engines.local_llm.adapter import NOT_UNDERSTOOD, REFUSAL, LocalLLM
from voicectl.voice.engines.local_llm.examples_assistant import INSTRUCTIONS

pytestmark = pytest.mark.unit

Answer = Callable[[dict[str, Any]], list[str] | int]


class Served:
    """What the stand-in was asked, and the model that asks it."""

    def __init__(self, model: LocalLLM) -> None:
        self.model = model
        self.requests: list[dict[str, Any]] = []

    async def chunks(self, ctx: ChatContext, timeout_s: float = 5.0, **choice: Any) -> list[ChatChunk]:
        options = APIConnectOptions(max_retry=0, timeout=timeout_s)
        async with self.model.chat(chat_ctx=ctx, tools=assistant_tools(), conn_options=options, **choice) as stream:
            return [chunk async for chunk in stream]

    async def said(self, ctx: ChatContext, **choice: Any) -> str:
        return spoken(await self.chunks(ctx, **choice))


def spoken(chunks: list[ChatChunk]) -> str:
    return "".join(c.delta.content or "" for c in chunks if c.delta)


def called(chunks: list[ChatChunk]) -> list[tuple[str, dict[str, Any]]]:
    return [(t.name, json.loads(t.arguments)) for c in chunks if c.delta for t in c.delta.tool_calls]


@asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[Served]:
    """A stand-in that streams the tokens of `answer(request)`, or refuses with a status; "<hang>" waits."""

    async def complete(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        served.requests.append(body)
        tokens = answer(body)
        if isinstance(tokens, int):
            message = "failed to parse grammar" if tokens == 400 else "no"
            return web.json_response({"error": {"message": message}}, status=tokens)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for token in tokens:
            if token == "<hang>":
                await hung.wait()
                return response
            delta = {"choices": [{"delta": {"content": token}}]}
            await response.write(f"data: {json.dumps(delta)}\n\n".encode())
        end = {"choices": [{"delta": {}}], "timings": {"prompt_n": 20, "cache_n": 700, "predicted_n": 9}}
        await response.write(f"data: {json.dumps(end)}\n\ndata: [DONE]\n\n".encode())
        return response

    hung = asyncio.Event()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", complete)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    model = LocalLLM(f"http://127.0.0.1:{port}/v1", "secret")
    served = Served(model)
    try:
        yield served
    finally:
        hung.set()
        await model.aclose()
        await runner.cleanup()


def tokens(text: str) -> list[str]:
    return [text[i : i + 3] for i in range(0, len(text), 3)]


async def test_speech_is_streamed_by_sentence_without_the_decision() -> None:
    async with server(lambda _: tokens("@none()\nParis is the capital. It is large.")) as stub:
        chunks = await stub.chunks(context("", "capital of France?"))

    said = [c.delta.content for c in chunks if c.delta and c.delta.content]
    assert said == ["Paris is the capital.", " It is large."]
    usage = chunks[-2].usage or chunks[-1].usage
    assert usage is not None
    assert (usage.prompt_cached_tokens, usage.prompt_tokens, usage.completion_tokens) == (700, 720, 9)


async def test_tokens_before_a_whole_sentence_show_as_empty_chunks() -> None:
    async with server(lambda _: tokens("@none()\nParis is the capital.")) as stub:
        chunks = await stub.chunks(context("", "capital of France?"))

    assert chunks[0].delta is not None
    assert not chunks[0].has_response()


async def test_a_call_is_parsed_and_nothing_of_it_is_spoken() -> None:
    async with server(lambda _: tokens('@recall("song")')) as stub:
        chunks = await stub.chunks(context("", "what did I say about that song last week"))

    assert called(chunks) == [("recall", {"query": "song"})]
    assert spoken(chunks) == ""


async def test_a_request_has_a_grammar_and_the_measured_settings_and_no_tools() -> None:
    async with server(lambda _: tokens("@none()\nHi.")) as stub:
        await stub.said(context("", "hello there"))

    body = stub.requests[0]
    assert body["grammar"].startswith("root ::= tool | speech")
    assert (body["temperature"], body["max_tokens"], body["cache_prompt"], body["stream"]) == (0, 60, True, True)
    assert not {"tools", "response_format", "stop"} & set(body)


async def test_a_goodbye_and_a_told_fact_are_answered_without_the_server() -> None:
    async with server(lambda _: 500) as stub:
        bye = await stub.chunks(context("", "thank you, goodbye"))
        told = await stub.chunks(context("", "my favourite fruit is mango"))

    assert called(bye) == [("end_call", {})]
    assert called(told) == [("remember", {"fact": "favourite fruit is mango"})]
    assert stub.requests == []


async def test_a_saved_fact_is_confirmed_in_the_callers_words_and_a_failure_by_the_model() -> None:
    ctx = context("", "my favourite fruit is mango")
    ctx.items.append(FunctionCall(call_id="1", name="remember", arguments='{"fact": "favourite fruit is mango"}'))
    failed = ctx.copy()
    ctx.items.append(FunctionCallOutput(call_id="1", name="remember", output="saved", is_error=False))
    failed.items.append(FunctionCallOutput(call_id="1", name="remember", output="memory is full", is_error=True))

    async with server(lambda _: tokens("@none()\nI'm sorry, my memory is full.")) as stub:
        saved = await stub.said(ctx)
        refused = await stub.said(failed)

    assert saved == "Okay, I'll remember that your favourite fruit is mango."
    assert refused == "I'm sorry, my memory is full."
    assert stub.requests[0]["messages"][-1]["content"] == "Result: failed, memory is full"


async def test_an_invented_answer_about_the_caller_becomes_a_refusal() -> None:
    async with server(lambda _: tokens("@none()\nYour favourite fruit is papaya. You love it.")) as stub:
        said = await stub.said(context("favourite colour is teal", "which fruit is my favourite"), tool_choice="none")

    assert said == REFUSAL


async def test_a_word_of_the_examples_is_never_spoken_to_a_real_caller() -> None:
    async with server(lambda _: tokens("@none()\nHello Odile, how can I help you?")) as stub:
        said = await stub.said(context("", "hello"))

    assert said == REFUSAL


async def test_a_promise_without_a_call_is_taken_back_and_the_tool_called() -> None:
    def answer(body: dict[str, Any]) -> list[str]:
        speaks = "speech" in body["grammar"].split("\n")[0]
        return tokens("@none()\nOkay, I'll remember that." if speaks else '@remember("the meeting is at nine")')

    async with server(answer) as stub:
        chunks = await stub.chunks(context("", "the meeting is at nine"))

    assert spoken(chunks) == ""
    assert called(chunks) == [("remember", {"fact": "the meeting is at nine"})]


async def test_a_fact_of_the_examples_is_not_remembered() -> None:
    async with server(lambda _: tokens('@remember("flower is zinnia")')) as stub:
        chunks = await stub.chunks(context("", "Can you save that?"))

    assert called(chunks) == []
    assert spoken(chunks) == NOT_UNDERSTOOD


async def test_a_refused_grammar_falls_back_to_speech(caplog: pytest.LogCaptureFixture) -> None:
    def answer(body: dict[str, Any]) -> list[str] | int:
        return 400 if "tool" in body.get("grammar", "") else tokens("@none()\nI am here.")

    async with server(answer) as stub:
        with caplog.at_level(logging.ERROR):
            said = await stub.said(context("", "hello there"))

    assert said == "I am here."
    assert "grammar refused" in caplog.text


async def test_an_answer_that_is_cut_ends_with_its_last_whole_sentence() -> None:
    async with server(lambda _: tokens("@none()\nThis is whole. This is not who")) as stub:
        assert await stub.said(context("", "tell me more")) == "This is whole."


async def test_a_server_that_is_gone_refuses_or_stalls_is_an_error_of_its_kind() -> None:
    async with server(lambda _: 503) as stub:
        with pytest.raises(APIStatusError):
            await stub.said(context("", "hello there"))
    with pytest.raises(APIConnectionError):
        await stub.said(context("", "hello there"))

    async with server(lambda _: ["@none()\nI", "<hang>"]) as stub:
        with pytest.raises(APITimeoutError):
            await stub.chunks(context("", "hello there"), timeout_s=0.2)


async def test_warm_up_sends_what_every_call_begins_with() -> None:
    async with server(lambda _: tokens("@")) as stub:
        took = await stub.model.warm_up(INSTRUCTIONS, assistant_tools())
        await stub.model.warm_up(Instructions(INSTRUCTIONS, dynamic="- likes mango"), assistant_tools(), "Hello.")
        await stub.said(context("likes mango", "hi there", greeting="Hello."))

    cold, known, turn = (r["messages"] for r in stub.requests)
    assert stub.requests[0]["max_tokens"] == 1
    assert (took.tokens_read, took.tokens_cached) == (20, 700)
    assert known[: len(cold)] == cold
    assert turn[: len(known)] == known
