"""The other arm of reply_path.py: a plain LiveKit agent on the text path. Imports nothing of ours."""

from __future__ import annotations

import time
from typing import Any

from livekit.agents import DEFAULT_API_CONNECT_OPTIONS, Agent, AgentSession, llm


class InstantLLM(llm.LLM):
    """Answers at once, and counts how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    @property
    def model(self) -> str:
        return "instant"

    @property
    def provider(self) -> str:
        return "bench"

    def chat(
        self, *, chat_ctx: llm.ChatContext, tools: Any = None, conn_options: Any = None, **_: Any
    ) -> llm.LLMStream:
        self.calls += 1
        return _Stream(
            self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options or DEFAULT_API_CONNECT_OPTIONS
        )


class _Stream(llm.LLMStream):
    async def _run(self) -> None:
        delta = llm.ChoiceDelta(role="assistant", content="I see.")
        self._event_ch.send_nowait(llm.ChatChunk(id="1", delta=delta))


class PlainTurns:
    """A session that turns can be run through."""

    def __init__(self, instructions: Any = "You are helpful.") -> None:
        self.llm = InstantLLM()
        self.session: AgentSession[None] = AgentSession(llm=self.llm, vad=None, turn_handling={"turn_detection": None})
        self.agent = Agent(instructions=instructions)

    async def open(self) -> None:
        await self.session.start(self.agent, record=False)

    async def turn(self, text: str) -> float:
        """Run one turn; returns milliseconds until its reply was complete."""
        began = time.perf_counter()
        await self.session.run(user_input=text)
        return (time.perf_counter() - began) * 1000

    async def settled(self) -> None:
        """What a turn leaves to be done behind it is done; nothing, here."""

    async def trim(self) -> None:
        """Keep the history short, as an agent in production does (livekit.md 0.9)."""
        await self.agent.update_chat_ctx(self.agent.chat_ctx.copy().truncate(max_items=20))

    async def close(self) -> None:
        await self.session.aclose()
