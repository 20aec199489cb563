"""The small model as a livekit LLM: one pass a turn, decision first, under the grammar of the turn.

Promises: the prompt's prefix is the same for every caller and within a call the prompt only grows; a tool's name and
argument kinds are always valid; what a reply says about the caller is in the facts, the call or a result, else the
refusal is spoken instead; a closing is decided without the model where it is beyond doubt.
Speech arrives in whole sentences, because a sentence is checked before it is heard (TTS waits for one anyway); a chunk
without content marks each token before that, for whoever watches for a stall.
Not here: the words of the prompt (prompt.py), the rules (grammar.py, cues.py, guard.py), the connection (wire.py), the
server (server.py).
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from livekit.agents import APIConnectOptions, APIStatusError, utils
from livekit.agents.llm import (
    LLM,
    ChatChunk,
    ChatContext,
    ChatItem,
    ChoiceDelta,
    CompletionUsage,
    FunctionToolCall,
    LLMStream,
    Tool,
    ToolChoice,
    Toolset,
)
from livekit.agents.llm.chat_context import Instructions
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, NotGivenOr

from voicectl.voice.engines.local_llm import guard
from voicectl.voice.engines.local_llm.cues import Cue, Turn, cues
from voicectl.voice.engines.local_llm.grammar import NONE, SPEECH_ONLY, Plan, only, parse_call, plan, repaired
from voicectl.voice.engines.local_llm.prompt import (
    GENERAL,
    Message,
    Opening,
    Rendered,
    fact_lines,
    opening,
    prefix,
    private_words,
    render,
    split,
)
from voicectl.voice.engines.local_llm.tools import Example, ToolSpec, specs_of
from voicectl.voice.engines.local_llm.wire import Wire

log = logging.getLogger(__name__)

REFUSAL = "I'm sorry, I don't know that yet."
NOT_UNDERSTOOD = "I'm sorry, could you say that again?"
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_WARM_UP_TIMEOUT_S = 120.0  # a cold prefix took 23 s on a loaded machine (local_llm.md 3)
_CALLS_KEPT = 8  # openings remembered; a job serves one call, tests a few


@dataclass(frozen=True)
class WarmUp:
    """What a warm-up cost.

    Args:
        seconds: From the request to its answer.
        tokens_read: Prompt tokens that were processed now.
        tokens_cached: Prompt tokens that were there already.
    """

    seconds: float
    tokens_read: int
    tokens_cached: int


class LocalLLM(LLM[Any]):
    """The small model behind voicectl's local server. One object serves one call at a time.

    Args:
        base_url: The server's address without /v1, e.g. http://127.0.0.1:8080.
        api_key: Its key.
        general: Examples that belong to no tool; they are part of the prefix.
        refusal: Said where the model would invent.
        max_tokens: The longest answer of one pass.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        general: Sequence[Example] = GENERAL,
        refusal: str = REFUSAL,
        max_tokens: int = 60,
    ) -> None:
        super().__init__()
        self.wire = Wire(base_url, api_key, max_tokens)
        self._general = tuple(general)
        self._refusal = refusal
        self._openings: OrderedDict[str, Opening] = OrderedDict()
        self._head: tuple[str, tuple[ToolSpec, ...], list[Message]] | None = None  # the last agent's prefix

    @property
    def model(self) -> str:
        """The model's name in metrics."""
        return "qwen2.5-coder-1.5b"

    @property
    def provider(self) -> str:
        """The provider's name in metrics."""
        return "local"

    def chat(
        self,
        *,
        chat_ctx: ChatContext,
        tools: list[Tool] | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        parallel_tool_calls: NotGivenOr[bool] = NOT_GIVEN,
        tool_choice: NotGivenOr[ToolChoice] = NOT_GIVEN,
        extra_kwargs: NotGivenOr[dict[str, Any]] = NOT_GIVEN,
    ) -> LLMStream:
        """Answer the last turn of a chat context, by speech or by one tool call.

        Args:
            chat_ctx: Instructions, optionally dynamic instructions (facts about the caller), and the call so far.
            tools: The agent's tools.
            conn_options: `timeout` is the longest wait for the next token, in seconds.
            parallel_tool_calls: Ignored; one call a turn.
            tool_choice: auto, none, required, or one tool by name.
            extra_kwargs: Ignored.
        """
        choice = "auto"
        if isinstance(tool_choice, dict):
            choice = tool_choice["function"]["name"]
        elif isinstance(tool_choice, str):
            choice = tool_choice
        return _Stream(self, chat_ctx=chat_ctx, tools=list(tools or []), conn_options=conn_options, choice=choice)

    async def warm_up(
        self, instructions: str | Instructions, tools: Iterable[Tool | Toolset], greeting: str = ""
    ) -> WarmUp:
        """Let the server read the prompt up to where the caller speaks, so that the first turn is as fast as the next.

        Args:
            instructions: The agent's. With `dynamic` the facts about this caller are read, too.
            tools: The agent's tools, in the order in which the session will pass them.
            greeting: What the agent says first, word by word; empty: unknown.

        Raises:
            APIConnectionError: The server did not answer; APITimeoutError after 120 s.
            APIStatusError: It refused.
        """
        facts = ""
        if isinstance(instructions, Instructions):
            facts = "\n".join(fact_lines(instructions.dynamic or ""))
        static = instructions if isinstance(instructions, str) else instructions.render_static(modality="audio")
        messages = prefix(static, specs_of(tools), self._general)
        if facts or greeting:
            messages.append({"role": "user", "content": opening(facts)})
        if greeting:
            messages.append({"role": "assistant", "content": f"{NONE}\n{greeting}"})
        began = time.perf_counter()
        usage = (0, 0)
        async for _, timings in self.wire.tokens(messages, None, _WARM_UP_TIMEOUT_S, max_tokens=1):
            if timings:
                usage = int(timings.get("prompt_n", 0)), int(timings.get("cache_n", 0))
        return WarmUp(time.perf_counter() - began, *usage)

    def rendered(self, chat_ctx: ChatContext, tools: Sequence[ToolSpec]) -> tuple[Rendered, list[ChatItem]]:
        """The request for a chat context, and the call's items."""
        static, facts, items = split(chat_ctx)
        if self._head is None or self._head[:2] != (static, tuple(tools)):
            self._head = (static, tuple(tools), prefix(static, tools, self._general))
        head = self._head[2]
        begun = self._opening(items, facts)
        return render(items, facts, begun, head, static), items

    def _opening(self, items: Sequence[ChatItem], facts: list[str]) -> Opening:
        """How this call was opened: the facts of its first turn, found again by the id of its first item.

        An id is random and lives as long as the call's history, so no other call ever sees these facts; a history that
        was cut at the front opens anew.
        """
        key = items[0].id if items else ""
        begun = self._openings.get(key) if key else None
        if begun is None:
            begun = Opening(list(facts))
            if key:
                self._openings[key] = begun
            while len(self._openings) > _CALLS_KEPT:
                self._openings.popitem(last=False)
        return begun

    @property
    def refusal(self) -> str:
        """What is said where the model would invent."""
        return self._refusal

    async def aclose(self) -> None:
        """Close the connection to the server."""
        await super().aclose()
        await self.wire.aclose()


class _Stream(LLMStream):
    """One turn."""

    def __init__(
        self, llm: LocalLLM, *, chat_ctx: ChatContext, tools: list[Tool], conn_options: APIConnectOptions, choice: str
    ) -> None:
        super().__init__(llm, chat_ctx=chat_ctx, tools=tools, conn_options=conn_options)
        self._local = llm
        self._choice = choice
        self._retry_on_chunk_sent = False  # half a sentence must not be said twice
        self._id = utils.shortuuid("local_")
        self._specs: tuple[ToolSpec, ...] = ()

    async def _run(self) -> None:
        self._specs = specs_of(self._tools)
        view, _ = self._local.rendered(self._chat_ctx, self._specs)
        decided = plan(view.turn, self._specs, self._choice)
        if decided.call is not None:
            self._send_call(*decided.call)
            return
        if (words := self._confirmation(view)) and self._choice != "required":
            self._send(words)
            return
        promised = await self._pass(view, decided)
        if promised is not None:  # the model claimed what no tool did: let the tool do it
            await self._pass(view, only(promised, view.turn))

    def _confirmation(self, view: Rendered) -> str:
        """What the tool's author has it say about this result; empty where the model shall speak."""
        spec = next((t for t in self._specs if t.name == view.answered), None)
        if spec is None or spec.hints.confirm is None or view.turn.result is None:
            return ""
        return spec.hints.confirm(view.turn.sentence, view.turn.result)

    async def _pass(self, view: Rendered, decided: Plan) -> ToolSpec | None:
        """One generation, sent on as it passes the checks.

        Returns:
            A tool that the reply claimed to have run; then nothing was sent. Else None.
        """
        head, speech, said = "", "", 0
        speaking = False
        async for token in self._tokens_of(view, decided):
            if not speaking:
                head += token
                start = f"{NONE}\n"
                speaking = head.startswith(start) or not (start.startswith(head) or head.startswith("@"))
                if speaking:
                    speech = head.removeprefix(start)
            else:
                speech += token
            if not speaking:
                self._send("")
                continue
            *whole, speech = _SENTENCE_END.split(speech)
            for sentence in whole:
                if said == 0 and (tool := self._promised(sentence, view.turn, decided)) is not None:
                    return tool
                if not self._say(sentence, view.turn, said):
                    return None
                said += 1
            self._send("")
        if not speaking:
            self._finish_call(head, view, decided)
            return None
        if said == 0 and (tool := self._promised(speech, view.turn, decided)) is not None:
            return tool
        self._say(_whole(speech, said), view.turn, said)
        return None

    async def _tokens_of(self, view: Rendered, decided: Plan) -> AsyncIterator[str]:
        """The model's text; a grammar that the server cannot parse is replaced by plain speech."""
        timeout_s = self._conn_options.timeout
        for grammar in (decided.grammar, SPEECH_ONLY, None):
            try:
                async for text, timings in self._local.wire.tokens(view.messages, grammar, timeout_s):
                    if timings:
                        self._send_usage(timings)
                    if text:
                        yield text
                return
            except APIStatusError as e:
                if e.status_code != 400 or grammar is None or "grammar" not in str(e.body):
                    raise
                log.error("grammar refused, falling back to speech", extra={"tools": [t.name for t in decided.tools]})

    def _promised(self, sentence: str, turn: Turn, decided: Plan) -> ToolSpec | None:
        """The tool whose work a first sentence claims although nothing was called."""
        if turn.result is not None:
            return None
        return next((t for t in decided.tools if guard.promises(sentence, t.hints.promises)), None)

    def _say(self, sentence: str, turn: Turn, said: int) -> bool:
        """Send a sentence, or the refusal in its place. False: nothing more of this reply may follow."""
        sentence = sentence.strip()
        if not sentence:
            return True
        bad = self._inventions(sentence, turn)
        if not bad:
            self._send((" " if said else "") + sentence)
            return True
        log.warning("reply held back: it said what nobody told us", extra={"words": len(bad), "sentence": said})
        if said == 0:
            self._send(self._local.refusal)
        return False

    def _inventions(self, sentence: str, turn: Turn) -> list[str]:
        source = "\n".join([turn.facts, turn.dialogue, turn.result or ""])
        bad = guard.leaked(sentence, private_words(self._specs), source)
        seen = cues(turn)
        if seen & {Cue.ASKS_PERSONAL, Cue.ASKS_EARLIER}:
            told = "\n".join([turn.facts, turn.caller, turn.result or ""])
            bad += guard.invented_about_caller(sentence, told)
        if turn.result is not None or any(t.hints.sole_source for t in self._specs):
            bad += guard.invented(sentence, source)
        return bad

    def _finish_call(self, head: str, view: Rendered, decided: Plan) -> None:
        call = parse_call(head, decided.tools)
        if call is None:
            log.warning("unreadable call", extra={"length": len(head)})
            self._send(NOT_UNDERSTOOD)
            return
        name, arguments = call
        spec = next(t for t in decided.tools if t.name == name)
        fixed = repaired(arguments, spec, view.turn)
        if fixed is None:
            self._send(NOT_UNDERSTOOD)
            return
        self._send_call(name, fixed)

    def _send(self, content: str) -> None:
        delta = ChoiceDelta(role="assistant", content=content or None)
        self._event_ch.send_nowait(ChatChunk(id=self._id, delta=delta))

    def _send_call(self, name: str, arguments: dict[str, object]) -> None:
        call = FunctionToolCall(
            name=name, arguments=json.dumps(arguments, ensure_ascii=False), call_id=utils.shortuuid("call_")
        )
        delta = ChoiceDelta(role="assistant", tool_calls=[call])
        self._event_ch.send_nowait(ChatChunk(id=self._id, delta=delta))

    def _send_usage(self, timings: dict[str, Any]) -> None:
        read, cached, written = (int(timings.get(k, 0)) for k in ("prompt_n", "cache_n", "predicted_n"))
        usage = CompletionUsage(
            completion_tokens=written,
            prompt_tokens=read + cached,
            prompt_cached_tokens=cached,
            total_tokens=read + cached + written,
        )
        self._event_ch.send_nowait(ChatChunk(id=self._id, usage=usage))


def _whole(speech: str, said: int) -> str:
    """The rest of a reply that the token limit may have cut: an unfinished sentence after a whole one is dropped."""
    rest = speech.strip()
    return rest if said == 0 or rest.endswith((".", "!", "?")) else ""


__all__ = ["LocalLLM", "WarmUp"]
