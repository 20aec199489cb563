"""The assistant: one agent that answers, remembers, and ends the call when the customer is done."""

from __future__ import annotations

from livekit.agents import Agent
from livekit.agents.beta.tools import EndCallTool
from livekit.agents.llm import Tool, Toolset

from voicectl.voice.agents.base import DeskAgent
from voicectl.voice.call import MemoryCall
from voicectl.voice.engines.local_llm.examples_assistant import END_CALL
from voicectl.voice.engines.local_llm.examples_assistant import INSTRUCTIONS as INSTRUCTIONS
from voicectl.voice.engines.local_llm.tools import hint
from voicectl.voice.memory_tools import memory_tools


class Assistant(DeskAgent):
    """The only agent of its desk."""


def assistant(call: MemoryCall) -> Agent:
    """The assistant of one call."""
    return Assistant(call, instructions=INSTRUCTIONS, tools=tools(call))


def tools(call: MemoryCall) -> list[Tool | Toolset]:
    """What the assistant can do in a call."""
    return [*memory_tools(call), end_call(call)]


def end_call(call: MemoryCall) -> Toolset:
    """The framework's tool for ending a call, with our closing line heard in full."""

    async def closing(_: Toolset.ToolCalledEvent) -> None:
        await call.say_closing()

    made = EndCallTool(delete_room=False, end_instructions=None, on_tool_called=closing)
    for tool in made.tools:
        hint(tool, END_CALL)
    return made
