"""The tools with which a model writes and searches memory during a call: remember, recall.

What they write is durable before they answer. Not here: what is in the prompt without asking (voice/call.py).
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from livekit.agents import RunContext, ToolError, function_tool
from livekit.agents.llm import FunctionTool

from voicectl.memory import profile, recall
from voicectl.memory.errors import Refused, StoreUnavailable
from voicectl.voice.engines.local_llm.examples_assistant import RECALL, REMEMBER
from voicectl.voice.engines.local_llm.tools import hint

if TYPE_CHECKING:
    from voicectl.voice.call import MemoryCall

log = logging.getLogger(__name__)


def memory_tools(call: MemoryCall) -> list[FunctionTool[..., Any]]:
    """The tools of one call, bound to its customer."""

    @function_tool(
        name="remember",
        description="Save a lasting fact that the caller tells about themselves, or asks you to remember or note.",
    )
    async def remember(context: RunContext[Any], fact: str) -> str:
        """Save a fact.

        Args:
            context: The turn that called it.
            fact: The fact in a few words, e.g. "favourite colour is teal".
        """
        try:
            await asyncio.to_thread(profile.put, call.store, call.customer.key, fact, call.origin(profile.Source.TOOL))
        except Refused as e:
            raise ToolError(f"not saved: {e.why}") from e
        except StoreUnavailable as e:
            log.warning("a fact was not saved", extra={"why": e.reason})
            raise ToolError("not saved: memory cannot be reached now; tell the caller so") from e
        await call.knowledge.refresh()
        return "saved"

    @function_tool(
        name="recall", description="Search what the caller said in earlier calls, when it is not in front of you."
    )
    async def look_up(context: RunContext[Any], query: str) -> str:
        """Search earlier calls.

        Args:
            context: The turn that called it.
            query: A few words to look for.
        """
        try:
            found = await asyncio.to_thread(recall.search, call.store, call.customer.key, query)
        except StoreUnavailable as e:
            log.warning("memory was not searched", extra={"why": e.reason})
            raise ToolError("memory cannot be reached now; tell the caller so") from e
        if not found:
            return "nothing found"
        return "\n".join(f'On {recall.day(said.at_ms)} the caller said: "{said.text}"' for said in found)

    return [hint(remember, REMEMBER), hint(look_up, RECALL)]
