"""The agents behind the desks, by the desk's name. A new desk is one entry here, one in desk_list.py, one module.

A desk is what a customer chooses to talk to: one agent, or a team with hand-offs. Not here: the agents themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from livekit.agents import Agent
from livekit.agents.llm import Tool, Toolset

from voicectl.voice.agents import assistant
from voicectl.voice.call import MemoryCall
from voicectl.voice.desk_list import desk_info


@dataclass(frozen=True)
class Desk:
    """What makes the first agent of a desk, and what that agent's prompt consists of."""

    first_agent: Callable[[MemoryCall], Agent]
    instructions: str
    tools: Callable[[MemoryCall], list[Tool | Toolset]]


def desk(name: str) -> Desk:
    """The desk of a name.

    Raises:
        DeskUnknown: There is none; the error lists those there are.
    """
    desks = {"assistant": Desk(assistant.assistant, assistant.INSTRUCTIONS, assistant.tools)}
    return desks[desk_info(name).name]
