"""The connection to the local model's server: one streamed completion a request, no pooling, livekit's errors.

Not here: what is asked (prompt.py, grammar.py), what becomes of the text (adapter.py).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp
from livekit.agents import APIConnectionError, APIStatusError, APITimeoutError

from voicectl.voice.engines.local_llm.prompt import Message

SAVE_S = 20.0  # 30 MB to a slow disk


class Wire:
    """One server.

    Args:
        base_url: Its address, with or without /v1.
        key: Its key.
        max_tokens: The longest answer.
    """

    def __init__(self, base_url: str, key: str, max_tokens: int) -> None:
        self._root = base_url.rstrip("/").removesuffix("/v1")
        self._url = f"{self._root}/v1/chat/completions"
        self._key = key
        self._max_tokens = max_tokens
        self._http: aiohttp.ClientSession | None = None

    async def tokens(
        self, messages: Sequence[Message], grammar: str | None, timeout_s: float, max_tokens: int | None = None
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Stream one completion as (text, timings); timings are empty until the last chunk.

        Args:
            messages: The whole prompt.
            grammar: GBNF; None: free text.
            timeout_s: The longest wait for the next bytes.
            max_tokens: The longest answer; None: the limit given at construction.

        Raises:
            APITimeoutError: No bytes for timeout_s.
            APIConnectionError: The connection failed or broke.
            APIStatusError: Any status but 200; 400 for a grammar that cannot be parsed.
        """
        body: dict[str, Any] = {
            "messages": list(messages),
            "temperature": 0,
            "max_tokens": max_tokens or self._max_tokens,
            "stream": True,
            "cache_prompt": True,
        }
        if grammar is not None:
            body["grammar"] = grammar
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=timeout_s, sock_read=timeout_s)
        headers = {"Authorization": f"Bearer {self._key}"}
        try:
            async with self._session().post(self._url, json=body, headers=headers, timeout=timeout) as response:
                if response.status != 200:
                    text = (await response.text())[:500]
                    raise APIStatusError("the local model refused", status_code=response.status, body=text)
                async for raw in response.content:
                    line = raw.decode().strip()
                    if not line.startswith("data: ") or line == "data: [DONE]":
                        continue
                    data = json.loads(line[6:])
                    if "error" in data:
                        raise APIConnectionError(f"the local model failed: {str(data['error'])[:200]}")
                    choices = data.get("choices") or [{}]
                    yield (choices[0].get("delta") or {}).get("content") or "", data.get("timings") or {}
        except TimeoutError as e:
            raise APITimeoutError(f"the local model gave nothing for {timeout_s} s") from e
        except aiohttp.ClientError as e:
            raise APIConnectionError(f"the local model at {self._url} cannot be reached: {e}") from e

    async def save(self, name: str) -> int:
        """Have the server write what it has read into a file of its folder; returns the number of tokens in it.

        Raises:
            APIConnectionError: The connection failed or broke.
            APIStatusError: It could not be written.
        """
        headers = {"Authorization": f"Bearer {self._key}"}
        timeout = aiohttp.ClientTimeout(total=SAVE_S)
        url = f"{self._root}/slots/0?action=save"
        try:
            async with self._session().post(url, json={"filename": name}, headers=headers, timeout=timeout) as response:
                text = await response.text()
        except (aiohttp.ClientError, TimeoutError) as e:
            raise APIConnectionError(f"the local model at {self._root} cannot be reached: {e}") from e
        if response.status != 200:
            raise APIStatusError("the local model refused", status_code=response.status, body=text[:500])
        return int(json.loads(text)["n_saved"])

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None or self._http.closed:
            # No pooling: the server closes idle connections, and a reused one was seen to break (local_llm.md 5).
            self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True), trust_env=False)
        return self._http

    async def aclose(self) -> None:
        """Close what is open."""
        if self._http is not None:
            await self._http.close()
