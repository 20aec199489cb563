"""How a call is learnt from: chosen by what there is, overridable, and said with its reason.

    choose("auto", "letta", llm)  ->  Chosen(extract, "…")

Not here: the strategies themselves (extract.py, sentences.py, agent.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from voicectl.memory.backends import LlmEndpoint


class Strategy(StrEnum):
    """How the memory step of a call is taken."""

    EXTRACT = "extract"  # we ask the language model ourselves
    AGENT = "agent"  # Letta's agent edits a copy of its blocks with its memory tools
    OFF = "off"  # nothing is learnt after calls


@dataclass(frozen=True)
class Chosen:
    """What is in force.

    Args:
        strategy: Which.
        why: Why that one, in a sentence for people.
    """

    strategy: Strategy
    why: str


def choose(setting: str, backend: str, llm: LlmEndpoint | None) -> Chosen:
    """The strategy in force.

    Args:
        setting: MEMORY_STEP.
        backend: MEMORY_BACKEND.
        llm: The language model; None: none has an address.
    """
    if setting == Strategy.OFF:
        return Chosen(Strategy.OFF, "MEMORY_STEP=off")
    if llm is None:
        return Chosen(Strategy.OFF, "no language model has an address yet")
    if setting == Strategy.AGENT and backend != "letta":
        return Chosen(Strategy.EXTRACT, "MEMORY_STEP=agent needs Letta, and MEMORY_BACKEND is embedded")
    if setting == Strategy.AGENT and llm.local:
        return Chosen(Strategy.EXTRACT, "MEMORY_STEP=agent needs a model that calls tools; the local one does not")
    if setting == Strategy.AGENT:
        return Chosen(Strategy.AGENT, "MEMORY_STEP=agent")
    if setting == Strategy.EXTRACT:
        return Chosen(Strategy.EXTRACT, "MEMORY_STEP=extract")
    if llm.local:
        return Chosen(Strategy.EXTRACT, "the local model cannot call tools; it runs when no call is on")
    return Chosen(Strategy.EXTRACT, "it adds and never removes, and needs Letta neither to be there nor to be up")
