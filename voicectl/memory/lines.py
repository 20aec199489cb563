"""What a line of the profile is: its block, who made it, what it is about, whose word stands.

Not here: where lines are kept (profile.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from voicectl.memory.errors import Refused
from voicectl.memory.identity import clean

MAX_LINE = 300  # characters; a fact is a sentence
BLOCK_LIMIT = 4000  # characters; Letta does not enforce its own limits (letta.md 1.6), so we do


class Block(StrEnum):
    """The blocks of a customer's core memory."""

    PROFILE = "profile"  # learnt: `name:`, `language:`, then a fact a line
    LAST_CALL = "last_call"  # written by the memory step after a call
    OPERATOR_NOTES = "operator_notes"  # written by people; the agent reads it


class Op(StrEnum):
    """What an operation does to a line."""

    ADD = "add"
    REPLACE = "replace"
    REMOVE = "remove"


class Source(StrEnum):
    """Who made an operation."""

    TOOL = "tool"  # the model's remember / forget_fact during a call
    RULE = "rule"  # the name rule
    PAGE = "page"  # the customer, on the page
    OPERATOR = "operator"  # voicectl
    ADE = "ade"  # an edit found in Letta
    MEMORY_STEP = "memory_step"  # after the call
    IMPORT = "import"  # voicectl memory import


@dataclass(frozen=True)
class Line:
    """A line of a block as it is now, and what taught it."""

    op_id: int
    block: Block
    text: str
    source: Source
    because: str | None  # the words of the turn that taught it
    call_id: str | None
    at_ms: int


@dataclass(frozen=True)
class Origin:
    """Where an operation comes from."""

    source: Source
    call_id: str | None = None
    item_id: str | None = None  # the turn that taught it; of an import, file and line
    generation: int | None = None  # of the customer when it was learnt, where no call says it
    model: str | None = None  # which model said so, of a memory step


@dataclass(frozen=True)
class Entry:
    """What operations of one writer on one block have in common."""

    customer: str
    generation: int
    block: Block
    origin: Origin


PEOPLE = 2
_WEIGHTS = {
    Source.MEMORY_STEP: 0,
    Source.TOOL: 1,
    Source.RULE: 1,
    Source.PAGE: 1,  # the name somebody types to join is what they say of themselves, no more
    Source.OPERATOR: PEOPLE,
    Source.ADE: PEOPLE,
    Source.IMPORT: PEOPLE,
}


def weight(source: str, op: Op = Op.REPLACE) -> int:
    """Whose word stands where two speak of the same line; of equals the later one.

    A customer may take away any line about them.
    """
    return PEOPLE if source == Source.PAGE and op == Op.REMOVE else _WEIGHTS[Source(source)]


_KEYED = re.compile(r"^(?P<key>[a-z][a-z ]{1,30}):\s", re.IGNORECASE)
_IS = re.compile(
    r"^(?:(?:my|his|her|their|the (?:caller|customer)(?:['’]s)?|caller['’]s|customer['’]s)\s+)?"
    r"(?P<key>(?:[\w'’-]+\s+){0,5}?[\w'’-]+)\s+(?:is|are|was)\s+(?:now\s+)?\S",
    re.IGNORECASE,
)
_PRONOUNS = {"he", "she", "they", "it", "i", "this", "that", "there", "caller", "customer", "who", "what"}


def subject_of(line: str) -> str | None:
    """What a line is about when a newer one of the same subject should take its place; None when it stands alone.

    `favourite colour is teal` and `My favourite colour is red` have the same subject; `likes red` has none.
    """
    if keyed := _KEYED.match(line):
        return keyed["key"].casefold().strip()
    found = _IS.match(line)
    if found is None:
        return None
    subject = " ".join(found["key"].casefold().replace("favorite", "favourite").split())
    return None if subject in _PRONOUNS else subject


def tidy(line: str) -> str:
    """A line as it is kept: on one row, without a bullet.

    Raises:
        Refused: There is nothing in it, or it is longer than MAX_LINE.
    """
    line = " ".join(clean(line).split()).strip(" -*•")
    if not line:
        raise Refused("remember", "there is nothing in the line")
    if len(line) > MAX_LINE:
        raise Refused("remember", f"the line has {len(line)} characters, {MAX_LINE} fit", "Say it shorter.")
    return line
