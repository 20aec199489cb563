"""The agents behind the desks, by the desk's name. A new desk is one entry here, one in desk_list.py, one module.

A desk is what a customer chooses to talk to: one agent, or a team with hand-offs. Those that speak for an agent in
Letta are in the store. Not here: the agents themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from livekit.agents import Agent
from livekit.agents.llm import Tool, Toolset

from voicectl.memory.store.engine import Store
from voicectl.voice.agents import assistant, letta_desk
from voicectl.voice.call import MemoryCall
from voicectl.voice.desk_list import all_desks, desk_info, is_ours


@dataclass(frozen=True)
class Desk:
    """What makes the first agent of a desk, and what that agent's prompt consists of."""

    first_agent: Callable[[MemoryCall], Agent]
    instructions: str
    tools: Callable[[MemoryCall], list[Tool | Toolset]]


def desk(name: str, store: Store) -> Desk:
    """The desk of a name.

    Args:
        name: The name.
        store: Asked for a name that is not one of ours.

    Raises:
        DeskUnknown: There is none; the error lists those there are.
        StoreUnavailable: The store did not answer.
    """
    desks = {"assistant": Desk(assistant.assistant, assistant.INSTRUCTIONS, assistant.tools)}
    if is_ours(name):
        return desks[name]
    desk_info(name, all_desks(store))
    return Desk(letta_desk.letta_desk, letta_desk.INSTRUCTIONS, letta_desk.tools)
