"""An OpenAI-compatible server on loopback whose answers are scripted: the one part that would be slow or random.

A script is a function from the last user text (or `Result: …` of a tool) to a Reply. Named behaviours: refuse the
request, send no first byte, stall after some tokens. It records every request.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class Reply:
    """What one completion says: words, a tool call, or a misbehaviour."""

    text: str = ""
    tool: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    behaviour: str = ""  # "", "refuse", "no first byte", "stall"


Script = Callable[[str], Reply]


def by_keyword(rules: dict[str, Reply], otherwise: str = "I see.") -> Script:
    """A script that answers the first rule whose key occurs in the text, whatever the case."""

    def script(text: str) -> Reply:
        for key, reply in rules.items():
            if key.lower() in text.lower():
                return reply
        return Reply(otherwise)

    return script


class LLMStub:
    """The server, in a thread of its own. Use as a context manager."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[dict[str, Any]] = []
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> LLMStub:
        self._thread.start()
        assert self._up.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._up.set()
        self._loop.run_forever()

    async def _serve(self) -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_get("/v1/models", self._models)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}/v1"

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "scripted", "object": "model"}]})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._reply(request)
        except ConnectionResetError:  # the customer spoke on, or the request was given up: as a real server sees it
            return web.Response(status=499)

    async def _reply(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        reply = self.script(_last(body["messages"]))
        if reply.behaviour == "refuse":
            return web.json_response({"error": {"message": "refused", "type": "server_error"}}, status=500)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        if reply.behaviour == "no first byte":
            await asyncio.sleep(60)
        if not body.get("stream"):  # as Letta asks for its agent's steps
            return web.json_response(self._whole(reply))
        await response.prepare(request)
        if reply.tool:
            call = {"name": reply.tool, "arguments": json.dumps(reply.arguments)}
            delta = {
                "tool_calls": [{"index": 0, "id": f"call_{len(self.requests)}", "type": "function", "function": call}]
            }
            await self._send(response, delta)
        for number, word in enumerate(reply.text.split(" ") if reply.text else []):
            if reply.behaviour == "stall" and number == 5:
                await asyncio.sleep(60)
            await self._send(response, {"content": word if number == 0 else f" {word}"})
        await self._send(response, {}, "tool_calls" if reply.tool else "stop")
        await response.write(b"data: [DONE]\n\n")
        return response

    def _whole(self, reply: Reply) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
        if reply.tool:
            call = {"name": reply.tool, "arguments": json.dumps(reply.arguments)}
            message["tool_calls"] = [{"id": f"call_{len(self.requests)}", "type": "function", "function": call}]
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if reply.tool else "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "scripted"}
        return {**head, "choices": [choice], "usage": usage}

    async def _send(self, response: web.StreamResponse, delta: dict[str, Any], finish: str | None = None) -> None:
        chunk = {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "scripted",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        }
        await response.write(f"data: {json.dumps(chunk)}\n\n".encode())


def _last(messages: list[dict[str, Any]]) -> str:
    for message in reversed(messages):
        if message["role"] == "tool":
            return f"Result: {message['content']}"
        if message["role"] == "user":
            content = message["content"]
            return content if isinstance(content, str) else " ".join(p.get("text", "") for p in content)
    return ""
