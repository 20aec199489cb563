"""One question to an OpenAI-compatible model, that can be taken back at once.

While the answer is awaited `give_way` is asked five times a second; when it says so the connection is closed, and the
server stops generating. Addresses on this machine are reached without the environment's proxy.
Not here: what is asked (extract.py, sentences.py).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from voicectl.memory.backends import LlmEndpoint
from voicectl.memory.learning.proposal import GaveWay, ModelFailed

LOOK_S = 0.2
LONGEST_ANSWER = 200_000  # characters


class Refused400(ModelFailed):
    """The server does not take the request as it is: some know no JSON schema."""


def ask(llm: LlmEndpoint, body: Mapping[str, Any], timeout_s: float, give_way: Callable[[], bool]) -> str:
    """The text of one completion. Blocks; runs an event loop of its own.

    Args:
        llm: Which model.
        body: The request, without the model's name.
        timeout_s: How long the whole of it may take, in seconds.
        give_way: Whether the model is needed for something else.

    Raises:
        GaveWay: It was; the connection is closed.
        ModelFailed: No answer that can be used: refused, limited, silent, not reachable.
    """
    return asyncio.run(_ask(llm, body, timeout_s, give_way))


async def _ask(llm: LlmEndpoint, body: Mapping[str, Any], timeout_s: float, give_way: Callable[[], bool]) -> str:
    if give_way():
        raise GaveWay
    request = asyncio.create_task(_request(llm, body, timeout_s), name="memory-step-model")
    try:
        while not (await asyncio.wait({request}, timeout=LOOK_S))[0]:
            if await asyncio.to_thread(give_way):
                raise GaveWay
        return request.result()
    finally:
        request.cancel()
        await asyncio.wait({request})


async def _request(llm: LlmEndpoint, body: Mapping[str, Any], timeout_s: float) -> str:
    url = f"{llm.base_url.rstrip('/')}/chat/completions"
    sent = {**body, **({"model": llm.model} if llm.model else {})}
    host = urlsplit(url).hostname or ""
    loopback = host in ("localhost", "::1") or host.startswith("127.")
    headers = {"Authorization": f"Bearer {llm.api_key}"}
    try:
        async with (
            aiohttp.ClientSession(
                # No pooling: a request that is taken back must close its connection, which is how the server knows.
                connector=aiohttp.TCPConnector(force_close=True),
                trust_env=not loopback,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
            ) as http,
            http.post(url, json=sent, headers=headers) as answer,
        ):
            text = await answer.text()
            status = answer.status
    except TimeoutError as e:
        raise ModelFailed(f"no answer within {timeout_s:.0f} s") from e
    except aiohttp.ClientError as e:
        raise ModelFailed(f"not reachable ({type(e).__name__})") from e
    if status in (400, 422):
        raise Refused400(f"HTTP {status}")
    if status != 200:
        raise ModelFailed(f"HTTP {status}")
    return _content(text, bounded="max_tokens" in body)


def _content(text: str, *, bounded: bool) -> str:
    try:
        choice = json.loads(text)["choices"][0]
        content = choice["message"]["content"]
    except (ValueError, LookupError, TypeError) as e:
        raise ModelFailed("an answer without words") from e
    if choice.get("finish_reason") == "length" and not bounded:  # a bound of ours is no fault
        raise ModelFailed("an answer that did not end within its length")
    if not isinstance(content, str) or not content.strip() or len(content) > LONGEST_ANSWER:
        raise ModelFailed("an empty or endless answer")
    return content
