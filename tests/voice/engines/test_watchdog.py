"""A language model that refuses, is silent or stalls ends its turn in time, once, and the next turn works."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from livekit.agents import APIConnectionError, APIStatusError, APITimeoutError
from livekit.agents.llm import LLM, ChatChunk, ChatContext, ChoiceDelta, LLMError, LLMStream

from voicectl.memory.config import load
from voicectl.voice.config import VoiceSettings
from voicectl.voice.engines.llm import WatchedLLM, remote

pytestmark = pytest.mark.unit

LIMIT_S = 2.0
WORDS = ["Your", " order", " has", " been", " shipped", " today", "."]


class Stub:
    """An OpenAI-compatible server that behaves as its `mood` says."""

    def __init__(self) -> None:
        self.mood, self.asked = "well", 0
        self.released = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        if self.mood == "refuses":
            raise web.HTTPUnauthorized(text='{"error": {"message": "bad key"}}', content_type="application/json")
        reply = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        if self.mood == "no byte":
            await self.released.wait()
        await reply.prepare(request)
        await self.send(reply, {"role": "assistant", "content": ""})
        for n, word in enumerate(WORDS):
            if (self.mood, n) in (("only opens", 0), ("stalls", 5)):
                while not self.released.is_set():  # alive by bytes, dead by words
                    await self.send(reply, {"content": ""})
                    await asyncio.sleep(LIMIT_S / 4)
            await self.send(reply, {"content": word})
        await reply.write(b"data: [DONE]\n\n")
        return reply

    async def send(self, reply: web.StreamResponse, delta: dict[str, Any]) -> None:
        import json

        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        chunk["choices"] = [{"index": 0, "delta": delta, "finish_reason": None}]
        await reply.write(f"data: {json.dumps(chunk)}\n\n".encode())


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    made = Stub()
    yield made
    made.released.set()


@pytest.fixture
async def model(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[WatchedLLM]:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    app = web.Application()
    app.router.add_post("/v1/chat/completions", stub.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    made = remote(load(VoiceSettings, openai_base_url=f"http://127.0.0.1:{port}/v1", llm_timeout_s=LIMIT_S))
    yield made
    stub.released.set()
    await made.aclose()
    await runner.cleanup()


async def words(model: WatchedLLM) -> list[str]:
    context = ChatContext.empty()
    context.add_message(role="user", content="Where is my order?")
    heard: list[str] = []
    async with model.chat(chat_ctx=context) as stream:
        async for chunk in stream:
            if chunk.delta and chunk.delta.content:
                heard.append(chunk.delta.content)
    return heard


async def test_reply_comes_through_word_by_word_without_the_proxy_of_the_shell(model: WatchedLLM) -> None:
    assert await words(model) == WORDS


@pytest.mark.parametrize(
    ("mood", "error"),
    [
        ("refuses", APIStatusError),
        ("no byte", APITimeoutError),
        ("only opens", APITimeoutError),
        ("stalls", APITimeoutError),
    ],
)
async def test_turn_ends_in_time_with_one_error_and_the_next_one_works(
    model: WatchedLLM, stub: Stub, mood: str, error: type[Exception]
) -> None:
    errors: list[LLMError] = []
    model.on("error", errors.append)
    stub.mood = mood

    began = time.monotonic()
    with pytest.raises(error):
        await words(model)
    took = time.monotonic() - began

    assert took < LIMIT_S + 8, "the stub would never end it; the rest is a busy machine's"
    assert [e.recoverable for e in errors] == [False]
    assert stub.asked == 1, "one attempt a turn"
    stub.mood = "well"
    stub.released.set()
    assert await words(model) == WORDS


async def test_address_where_nobody_listens_is_an_error_at_once() -> None:
    model = remote(load(VoiceSettings, openai_base_url="http://127.0.0.1:9/v1", llm_timeout_s=LIMIT_S))

    with pytest.raises(APIConnectionError):
        await words(model)
    await model.aclose()


class Pondering(LLM[Any]):
    """Gives an empty chunk every 0.1 s, and its sentence after twelve of them."""

    def chat(self, *, chat_ctx: ChatContext, **given: Any) -> LLMStream:
        return _Pondered(self, chat_ctx=chat_ctx, tools=[], conn_options=given["conn_options"])


class _Pondered(LLMStream):
    async def _run(self) -> None:
        for text in [""] * 12 + ["Done."]:
            await asyncio.sleep(0.1)
            self._event_ch.send_nowait(ChatChunk(id="c", delta=ChoiceDelta(content=text)))


@pytest.mark.parametrize("empty_is_life", [True, False])
async def test_empty_chunks_are_life_only_for_the_model_that_checks_whole_sentences(empty_is_life: bool) -> None:
    model = WatchedLLM(Pondering(), 1.0, 1.0, empty_is_life=empty_is_life)

    if empty_is_life:
        assert await words(model) == ["Done."]
    else:
        with pytest.raises(APITimeoutError):
            await words(model)
    await model.aclose()


async def test_metrics_of_a_turn_are_reported_once(model: WatchedLLM) -> None:
    seen: list[object] = []
    model.on("metrics_collected", seen.append)

    await words(model)

    assert len(seen) == 1
