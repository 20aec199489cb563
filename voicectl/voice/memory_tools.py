"""The tools with which a model writes and searches memory during a call: remember, forget_fact, recall.

What they write is durable before they answer, and what they answer is what became of it: where people have written
otherwise, the customer hears so. Not here: what is in the prompt without asking (voice/call.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from livekit.agents import RunContext, ToolError, function_tool
from livekit.agents.llm import FunctionTool

from voicectl.memory import asked, profile, search
from voicectl.memory.errors import Refused, StoreUnavailable
from voicectl.voice.engines.local_llm.examples_assistant import FORGET_FACT, RECALL, REMEMBER
from voicectl.voice.engines.local_llm.tools import hint

if TYPE_CHECKING:
    from voicectl.voice.call import MemoryCall

log = logging.getLogger(__name__)

FOUND = 3  # exchanges; the small model reads 40-90 tokens a second, and the customer waits
LONGEST = 200  # characters of what was said, and of the answer


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
        origin = call.origin(profile.Source.TOOL)
        try:
            stands = await asyncio.to_thread(asked.remember, call.store, call.customer.key, fact, origin)
        except Refused as e:
            raise ToolError(f"not saved: {e.why}") from e
        except StoreUnavailable as e:
            log.warning("a fact was not saved", extra={"why": e.reason})
            raise ToolError("not saved: memory cannot be reached now; tell the caller so") from e
        if stands is not None:
            return f"not saved: the team wrote {_listed([stands])}, and only they can change it"
        await call.knowledge.refresh()
        return "saved"

    @function_tool(
        name="forget_fact",
        description="Forget something you know about the caller, when they ask you to forget or delete it.",
    )
    async def forget_fact(context: RunContext[Any], fact: str) -> str:
        """Forget a fact.

        Args:
            context: The turn that called it.
            fact: What to forget, in the caller's words, e.g. "allergic to nuts".
        """
        origin = call.origin(profile.Source.TOOL)
        try:
            done = await asyncio.to_thread(asked.forget, call.store, call.customer.key, fact, origin)
        except Refused as e:
            raise ToolError(f"not forgotten: {e.why}") from e
        except StoreUnavailable as e:
            log.warning("a fact was not forgotten", extra={"why": e.reason})
            raise ToolError("not forgotten: memory cannot be reached now; tell the caller so") from e
        if done.gone:
            await call.knowledge.refresh()
        return told(done)

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
            found = await asyncio.to_thread(
                search.search, call.store, call.customer.key, query, but_call=call.call.id, limit=FOUND
            )
        except StoreUnavailable as e:
            log.warning("memory was not searched", extra={"why": e.reason})
            raise ToolError("memory cannot be reached now; tell the caller so") from e
        # Lines that did not fit into the prompt are found here too.
        wanted = search.wanted_words(query)
        facts = [line.text for line in call.knowledge.now.lines if wanted and search.shares(wanted, line.text)]
        known = [f"Known: {text}" for text in sorted(facts, key=lambda t: (-search.shares(wanted, t), t))[:FOUND]]
        return "\n".join([*known, *(_retold(exchange) for exchange in found)]) or "nothing found"

    return [hint(remember, REMEMBER), hint(forget_fact, FORGET_FACT), hint(look_up, RECALL)]


def told(done: asked.Forgotten) -> str:
    """What became of a request to forget, for the model."""
    parts = [f"forgotten: {_listed(done.gone)}"] if done.gone else []
    if done.stays:
        parts.append(f"not forgotten: the team wrote {_listed(done.stays)}, and only they can remove it")
    if done.which:
        parts.append(f"not forgotten yet, ask the caller which one: {_listed(done.which)}")
    return "; ".join(parts) or "nothing forgotten: nothing like that is kept about the caller"


def _listed(lines: Sequence[str]) -> str:
    return ", ".join(f'"{_short(line)}"' for line in lines)


def _retold(exchange: search.Exchange) -> str:
    """An exchange as one line: the day, the customer's words, and the answer to them."""
    said, answer = _short(exchange.said), _short(exchange.answer)
    when = f"On {search.day(exchange.at_ms)}"
    if not said:
        return f'{when} you said: "{answer}"'
    return f'{when} the caller said: "{said}"' + (f' and you answered: "{answer}"' if answer else "")


def _short(text: str) -> str:
    text = " ".join(text.split()).replace('"', "'")  # what was said must not end its own quotation
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
