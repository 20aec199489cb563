"""What is told about desks outside a call: names, titles, descriptions. No agent is imported for it.

Not here: the agents (agents/), desks that speak for an agent in Letta, which the store knows (memory/desks.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from voicectl.memory.desks import letta_desks
from voicectl.memory.store.engine import Store
from voicectl.voice.errors import DeskUnknown


@dataclass(frozen=True)
class DeskInfo:
    """A desk as the page and the token endpoint see it."""

    name: str
    title: str
    description: str


DESKS: tuple[DeskInfo, ...] = (
    DeskInfo("assistant", "Personal assistant", "Answers questions and remembers what you tell it, from call to call."),
)


def is_ours(name: str) -> bool:
    """Whether it is one of DESKS, which nobody needs to look up."""
    return any(d.name == name for d in DESKS)


def all_desks(store: Store) -> tuple[DeskInfo, ...]:
    """Our desks, and those that somebody added.

    Raises:
        StoreUnavailable: The store did not answer.
    """
    return (
        *DESKS,
        *(DeskInfo(d.name, d.title, f"The agent {d.agent_name} of our Letta server.") for d in letta_desks(store)),
    )


def desk_info(name: str, known: tuple[DeskInfo, ...] = DESKS) -> DeskInfo:
    """The desk of a name.

    Raises:
        DeskUnknown: There is none; the error lists those there are.
    """
    for info in known:
        if info.name == name:
            return info
    raise DeskUnknown(name, [d.name for d in known])
