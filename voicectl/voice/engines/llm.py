"""The language model: the small one on this machine, or any OpenAI-compatible server; and the watchdog around both.

Whatever happens there, a turn without an answer ends with one error within a bounded time; the call says the apology.
Not here: the apology (the call), the adapter of the small model (local_llm/).
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Any

from livekit.agents import APIConnectOptions, APITimeoutError, llm
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, NotGivenOr

from voicectl.voice.proxies import proxy_for

if TYPE_CHECKING:
    from voicectl.voice.config import VoiceSettings
    from voicectl.voice.engines.local_llm.adapter import LocalLLM

OPENAI_URL = "https://api.openai.com/v1"
# A cold prompt takes the small model 4.7 s (local_models.md 4.2) and nothing else can answer faster here.
LOCAL_FIRST_TOKEN_S = 8.0


class WatchedLLM(llm.LLM[Any]):
    """A language model that is given up when it gives no words in time.

    One attempt, no retry. Refused: its error at once. No word `first_s` after the request, or `gap_s` between two:
    `APITimeoutError`, one unrecoverable "error" event, and the request is cancelled. The framework's own timeouts count
    bytes, so empty chunks would defeat them, and connecting and reading each have the full time.

    Args:
        inner: The model; closed with this one.
        first_s: Seconds from the request to the first word or tool call.
        gap_s: Seconds between two chunks that carry words.
        empty_is_life: Chunks without words count, too: the small model here checks whole sentences and marks each token
            before one with an empty chunk. An empty chunk of a remote server only says that it opened the stream.
    """

    def __init__(self, inner: llm.LLM[Any], first_s: float, gap_s: float, *, empty_is_life: bool = False) -> None:
        super().__init__()
        self.inner, self.first_s, self.gap_s, self.empty_is_life = inner, first_s, gap_s, empty_is_life
        inner.on("metrics_collected", self._forward)

    @property
    def model(self) -> str:
        """The inner model's name."""
        return self.inner.model

    @property
    def provider(self) -> str:
        """The inner model's provider."""
        return self.inner.provider

    def _forward(self, *args: Any, **kwargs: Any) -> None:
        self.emit("metrics_collected", *args, **kwargs)

    def prewarm(self, *, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Warm the inner model's connection."""
        self.inner.prewarm(loop=loop)

    def chat(
        self,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool] | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        parallel_tool_calls: NotGivenOr[bool] = NOT_GIVEN,
        tool_choice: NotGivenOr[llm.ToolChoice] = NOT_GIVEN,
        extra_kwargs: NotGivenOr[dict[str, Any]] = NOT_GIVEN,
    ) -> llm.LLMStream:
        """Ask for a reply; see the class for what can end it."""
        extra = {"parallel_tool_calls": parallel_tool_calls, "tool_choice": tool_choice, "extra_kwargs": extra_kwargs}
        return _Watched(self, chat_ctx, tools or [], dataclasses.replace(conn_options, max_retry=0), extra)

    async def aclose(self) -> None:
        """Close the inner model too."""
        self.inner.off("metrics_collected", self._forward)
        await self.inner.aclose()
        await super().aclose()


class _Watched(llm.LLMStream):
    _llm_request_span_name = "llm_watched"
    _llm_attempt_span_name = None
    _genai_operation_name = None  # the inner request's span owns the call

    def __init__(
        self,
        watched: WatchedLLM,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool],
        conn_options: APIConnectOptions,
        extra: dict[str, Any],
    ) -> None:
        super().__init__(watched, chat_ctx=chat_ctx, tools=tools, conn_options=conn_options)
        self._watched, self._extra = watched, extra

    async def _run(self) -> None:
        watched, loop = self._watched, asyncio.get_running_loop()
        options = dataclasses.replace(self._conn_options, timeout=max(watched.first_s, watched.gap_s))
        limit = watched.first_s
        deadline = loop.time() + limit
        async with watched.inner.chat(
            chat_ctx=self._chat_ctx, tools=self._tools, conn_options=options, **self._extra
        ) as stream:
            chunks = stream.__aiter__()
            while True:
                try:
                    async with asyncio.timeout_at(deadline):
                        chunk = await anext(chunks)
                except StopAsyncIteration:
                    return
                except TimeoutError as e:
                    raise APITimeoutError(f"{watched.inner.label} gave no word for {limit:g} s", retryable=False) from e
                if watched.empty_is_life or chunk.has_response():
                    limit = watched.gap_s
                    deadline = loop.time() + limit
                self._event_ch.send_nowait(chunk)

    async def _metrics_monitor_task(self, event_aiter: AsyncIterable[llm.ChatChunk]) -> None:
        async for _ in event_aiter:  # the inner stream measures; a second report would count each turn twice
            pass


def remote(settings: VoiceSettings) -> llm.LLM[Any]:
    """A model behind an OpenAI-compatible address; without a base URL, OpenAI's own.

    Strict tool schemas are OpenAI's alone. The environment's proxy is used, never for loopback.
    """
    import httpx2
    import openai
    from livekit.plugins import openai as plugin

    url = settings.openai_base_url or OPENAI_URL
    key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else "none"
    client = openai.AsyncClient(
        api_key=key,
        base_url=url,
        max_retries=0,
        http_client=httpx2.AsyncClient(
            proxy=proxy_for(url),
            trust_env=False,
            follow_redirects=True,
            timeout=settings.llm_timeout_s,
            limits=httpx2.Limits(max_connections=50, max_keepalive_connections=50, keepalive_expiry=120),
        ),
    )
    # The plugin closes only a client that it made; hand ours over so that closing the model closes the connections.
    model = plugin.LLM(model=settings.llm_model, client=client, _strict_tool_schema=is_openai(url))
    model._owns_client = True
    return WatchedLLM(model, settings.llm_timeout_s, settings.llm_timeout_s)


def is_openai(url: str) -> bool:
    """Whether an address is OpenAI's own."""
    return url.startswith("https://api.openai.com/")


def local_model(settings: VoiceSettings) -> LocalLLM:
    """The adapter of the small model on this machine.

    Raises:
        SettingError: VOICE_LOCAL_LLM_URL is not set: `voicectl up` starts the model and sets it.
    """
    from voicectl.memory.errors import SettingError
    from voicectl.voice.engines.local_llm.adapter import LocalLLM

    if settings.local_llm_url is None:
        raise SettingError("VOICE_LOCAL_LLM_URL", "", "the local model's address", "Run voicectl up, or set a key.")
    key = settings.local_llm_key.get_secret_value() if settings.local_llm_key else ""
    return LocalLLM(base_url=settings.local_llm_url, api_key=key)


def local(settings: VoiceSettings) -> llm.LLM[Any]:
    """The small model on this machine, watched.

    Raises:
        SettingError: As `local_model`.
    """
    first_s = max(LOCAL_FIRST_TOKEN_S, settings.llm_timeout_s)
    return WatchedLLM(local_model(settings), first_s, settings.llm_timeout_s, empty_is_life=True)
