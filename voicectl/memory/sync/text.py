"""Blocks and descriptions as text, and what somebody changed in a text. Pure functions.

A block's text is its lines, one a line. People write into it freely: bullets and blank lines are not changes, a long
paragraph becomes several lines.
"""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from voicectl.memory.backends import AgentSpec
from voicectl.memory.identity import clean, hashed
from voicectl.memory.profile import BLOCK_LIMIT, MAX_LINE, Block, Line, name_of

READ_ONLY = frozenset({Block.OPERATOR_NOTES.value})


@dataclass(frozen=True)
class Edit:
    """One change of a text.

    Args:
        old: The line that is gone; None when one was added.
        new: The line that is new; None when one was removed.
    """

    old: str | None
    new: str | None


def render(present: Sequence[Line], block: Block) -> str:
    """The text of a block."""
    return "\n".join(line.text for line in present if line.block == block)


def agent_spec(customer: str, generation: int, present: Sequence[Line], *, hide_names: bool) -> AgentSpec:
    """The customer's agent as it should be.

    Args:
        customer: Customer key; only its hash goes in.
        generation: The customer's generation.
        present: The lines of the profile.
        hide_names: Keep the name out of the description.
    """
    name = None if hide_names else name_of(list(present))
    return AgentSpec(
        customer=hashed(customer),
        generation=generation,
        description=f"Memory of {name or 'a customer'} ({hashed(customer)})",
        blocks={block.value: render(present, block) for block in Block},
        limit=BLOCK_LIMIT,
        read_only=READ_ONLY,
    )


def lines_of(text: str) -> list[str]:
    """A text as lines the profile can hold: no bullets, no blank ones, none longer than MAX_LINE."""
    found: list[str] = []
    for line in clean(text).splitlines():
        words = " ".join(line.split()).strip(" -*•")
        if words:
            found += textwrap.wrap(words, MAX_LINE, break_on_hyphens=False)
    return found


def edits(before: str | None, after: str) -> list[Edit]:
    """What turned one text into another, line by line.

    Args:
        before: The text both sides last had; None when they never had one: then nothing counts as removed.
        after: The text found.
    """
    if before is None:
        return [Edit(None, line) for line in lines_of(after)]
    old, new = lines_of(before), lines_of(after)
    found: list[Edit] = []
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        gone, come = old[i1:i2], new[j1:j2]
        shared = min(len(gone), len(come))
        found += [Edit(a, b) for a, b in zip(gone[:shared], come[:shared], strict=True)]
        found += [Edit(line, None) for line in gone[shared:]]
        found += [Edit(None, line) for line in come[shared:]]
    # A line that only moved is no change of what is known.
    moved = {e.old for e in found} & {e.new for e in found} - {None}
    return [
        Edit(e.old if e.old not in moved else None, e.new if e.new not in moved else None)
        for e in found
        if (e.old not in moved and e.old is not None) or (e.new not in moved and e.new is not None)
    ]
