"""What a strategy hands over: changes that a model wishes, nothing of it believed yet; and how a strategy can fail.

Not here: what of it is taken (applying.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from voicectl.memory.errors import MemoryFault


@dataclass(frozen=True)
class Wish:
    """One change of the profile.

    Args:
        new: The line to be there; None: only `old` is to go.
        old: The line to go; None: `new` is simply added.
    """

    new: str | None
    old: str | None = None


@dataclass(frozen=True)
class Proposal:
    """What a model made of a call.

    Args:
        wishes: Changes of the profile.
        last_call: What the call was about, in a sentence; "" when it does not say.
    """

    wishes: tuple[Wish, ...] = ()
    last_call: str = ""


@dataclass(frozen=True)
class Refusal:
    """What a model proposed and code did not take."""

    line: str
    why: str


class GaveWay(Exception):
    """The step cannot be taken now, through no fault of its own: it is taken again later, and nothing is counted.

    Args:
        why: What comes first.
        wait_s: Not before that many seconds.
    """

    def __init__(self, why: str = "a call began, or this process ends", wait_s: float = 0.0) -> None:
        self.why, self.wait_s = why, wait_s
        super().__init__(why)


class ModelFailed(MemoryFault):
    """The model gave nothing that can be used.

    Args:
        why: What it or its server said, without anything customers said.
    """

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(f"the model of the memory step: {why}")
