"""What is told about desks outside a call: names, titles, descriptions. No agent is imported for it.

Not here: the agents (agents/).
"""

from __future__ import annotations

from dataclasses import dataclass

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


def desk_info(name: str) -> DeskInfo:
    """The desk of a name.

    Raises:
        DeskUnknown: There is none; the error lists those there are.
    """
    for info in DESKS:
        if info.name == name:
            return info
    raise DeskUnknown(name, [d.name for d in DESKS])
