"""From rows of turns to messages: who said what, with tool calls and hand-offs inside the answer that followed.

Pure functions. Letta keeps our marker only on user and assistant rows (letta.md 4), so those are the only ones sent.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from voicectl.memory.backends import Message
from voicectl.memory.recorder import Role

WORDLESS = "[no words]"  # Letta refuses empty content
SPOKEN = (Role.USER, Role.ASSISTANT)


@dataclass(frozen=True)
class Row:
    """One row of `turns`."""

    seq: int
    role: Role
    text: str


def marker(call_id: str, seq: int) -> str:
    """By what a turn is found in Letta."""
    return f"{call_id}#{seq}"


def messages(call_id: str, rows: Sequence[Row], after: int = 0) -> list[Message]:
    """The messages for rows in order, the same whatever was sent before.

    Args:
        call_id: The call.
        rows: All rows that follow the last assistant row at or before `after`: notes since then belong to the next one.
        after: Only rows with a higher sequence number are given.

    Returns:
        A message for each spoken row. Tool calls and hand-offs that no answer follows are in none.
    """
    found: list[Message] = []
    notes: list[str] = []
    for row in rows:
        if row.role not in SPOKEN:
            notes.append(_note(row))
            continue
        words = row.text if row.text.strip() else WORDLESS
        if row.role == Role.ASSISTANT:
            words = "\n".join([*notes, words])
            notes = []
        if row.seq > after:
            found.append(Message(marker(call_id, row.seq), row.role.value, words))
    return found


def _note(row: Row) -> str:
    if row.role == Role.HANDOFF:
        return f"[hand-off {row.text}]"
    try:
        said = json.loads(row.text)
        return f"[tool {said['tool']} {said['arguments']} → {said['result']}]"
    except (ValueError, KeyError, TypeError):
        return f"[tool {row.text}]"
