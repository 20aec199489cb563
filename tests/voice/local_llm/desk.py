"""The assistant desk's tools as the small model sees them, and chat contexts; shared by the tests of this folder."""

from __future__ import annotations

from livekit.agents import function_tool
from livekit.agents.beta.tools import EndCallTool
from livekit.agents.llm import ChatContext, Tool, ToolContext
from livekit.agents.llm.chat_context import DYNAMIC_INSTRUCTIONS_MESSAGE_ID

from voicectl.voice.engines.local_llm.examples_assistant import END_CALL, FORGET_FACT, INSTRUCTIONS, RECALL, REMEMBER
from voicectl.voice.engines.local_llm.tools import ToolSpec, hint, specs_of


def assistant_tools() -> list[Tool]:
    @function_tool
    async def remember(fact: str) -> str:
        """Keep a fact."""
        return "saved"

    @function_tool
    async def forget_fact(fact: str) -> str:
        """Forget a fact."""
        return f'forgotten: "{fact}"'

    @function_tool
    async def recall(query: str) -> str:
        """Search earlier calls."""
        return "nothing found"

    end = hint(EndCallTool(end_instructions=None), END_CALL)
    return ToolContext([hint(remember, REMEMBER), hint(forget_fact, FORGET_FACT), hint(recall, RECALL), end]).flatten()


def assistant_specs() -> tuple[ToolSpec, ...]:
    return specs_of(assistant_tools())


def context(facts: str, *said: str, greeting: str = "Hello, how can I help you?") -> ChatContext:
    """A call: the facts about the caller, the greeting, then caller and agent in turn."""
    ctx = ChatContext.empty()
    ctx.add_message(role="system", content=INSTRUCTIONS)
    if facts:
        ctx.add_message(role="system", content=facts, id=DYNAMIC_INSTRUCTIONS_MESSAGE_ID)
    ctx.add_message(role="assistant", content=greeting)
    for n, text in enumerate(said):
        ctx.add_message(role="assistant" if n % 2 else "user", content=text)
    return ctx
