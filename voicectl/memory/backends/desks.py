"""The port's second part: agents in Letta that are somebody else's, and the blocks with what the team says of a desk.

Of such an agent we read; we add conversations to it (Backend.append_turns) and never change or delete it.
Not here: customers' agents (backends/__init__.py), when any of it is asked (memory/sync/desks.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

POLICY_LABEL = "desk_policy"


@dataclass(frozen=True)
class OtherAgent:
    """An agent as somebody made it.

    Args:
        id: Letta's id.
        name: Its name; not unique.
        system: Its system prompt.
        blocks: Label and text of each block.
        tags: Its tags.
        no_calls: Why calls cannot be conversations of it; "" when they can.
    """

    id: str
    name: str
    system: str
    blocks: tuple[tuple[str, str], ...]
    tags: tuple[str, ...] = ()
    no_calls: str = ""


class DeskBackend(Protocol):
    """What every adapter does for desks. Reads raise BackendUnavailable or NotThere; writes any BackendFault."""

    def read(self, agent_id: str) -> OtherAgent:
        """An agent with its blocks, in one request: what it says of them was true at one moment."""

    def named(self, name: str) -> list[OtherAgent]:
        """All agents of exactly this name."""

    def names(self) -> list[tuple[str, str]]:
        """Id and name of every agent but our customers'."""

    def ensure_policy(self, desk: str, text: str, limit: int) -> str:
        """Find the block with what the team says of a desk, or create it with this text; its id."""

    def attach_policy(self, agent_id: str, block_id: str) -> None:
        """Show such a block in an agent, in place of another desk's."""


class NoDesks:
    """Without Letta there is no agent to speak for, and nobody sees a block."""

    def read(self, agent_id: str) -> OtherAgent:
        """Never.

        Raises:
            NotThere: Always.
        """
        from voicectl.memory.backends import NotThere

        raise NotThere("read agent", "there is no agent without Letta")

    def named(self, name: str) -> list[OtherAgent]:
        """None."""
        return []

    def names(self) -> list[tuple[str, str]]:
        """None."""
        return []

    def ensure_policy(self, desk: str, text: str, limit: int) -> str:
        """A name; the store has the text."""
        return f"{POLICY_LABEL}/{desk}"

    def attach_policy(self, agent_id: str, block_id: str) -> None:
        """Nothing: nobody looks."""
