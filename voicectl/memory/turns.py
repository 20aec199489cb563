"""One finished turn, and how it gets into the store: under its own key, fenced, numbered in its transaction.

Not here: when it is written and what happens when the store refuses (recorder.py), which events of LiveKit become turns
(voice/listening.py).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, insert, select, update

from voicectl.memory.calls import Call, CallState, is_forgotten, now_ms
from voicectl.memory.identity import clean
from voicectl.memory.store.schema import calls, refused_turns, turns

MAX_ID = 80  # of the column; providers invent ids of any length
MAX_AGENT = 100
MAX_MS = 2**63 - 1


class Role(StrEnum):
    """Who a turn belongs to."""

    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"  # a call with its result, one row
    HANDOFF = "handoff"


@dataclass(frozen=True)
class Turn:
    """One finished turn, as heard."""

    item_id: str
    role: Role
    text: str
    at_ms: int
    interrupted: bool = False
    agent: str = ""
    progress: str = ""  # JSON of the call's state after this turn, committed with it; "" leaves it


def write_turn(connection: Connection, call: Call, turn: Turn) -> bool:
    """Write one turn under its own key inside a transaction; a turn that is there already stays as it is.

    Returns:
        False when the call is another's or over; the turn is then among the refused ones, once.
    """
    item_id = row_id(turn.item_id)
    same = (turns.c.call_id == call.id) & (turns.c.item_id == item_id)
    if connection.execute(select(turns.c.seq).where(same)).first() is not None:
        return True
    values: dict[str, object] = {"last_seq": calls.c.last_seq + 1}
    if turn.progress:
        values["progress"] = clean(turn.progress)
    seq = connection.execute(
        update(calls)
        .where(calls.c.id == call.id, calls.c.fence == call.fence, calls.c.state != CallState.ENDED)
        .values(**values)
        .returning(calls.c.last_seq)
    ).scalar()
    at_ms = min(max(turn.at_ms, 0), MAX_MS) or now_ms()
    said = {"call_id": call.id, "item_id": item_id, "role": turn.role, "text": clean(turn.text), "at_ms": at_ms}
    if seq is None and is_forgotten(connection, call.id):
        return False  # nothing of it is kept, not even that it was refused
    if seq is None:
        again = (refused_turns.c.call_id == call.id) & (refused_turns.c.item_id == item_id)
        if connection.execute(select(refused_turns.c.id).where(again)).first() is None:
            why = "the call is another job's, or over"
            connection.execute(insert(refused_turns).values(**said, fence=call.fence, why=why))
        return False
    agent = clean(turn.agent)[:MAX_AGENT]
    connection.execute(insert(turns).values(**said, seq=seq, interrupted=int(turn.interrupted), agent=agent))
    return True


def row_id(item_id: str) -> str:
    """An id as the column takes it: what is too long or unprintable is shortened to something of its own."""
    kept = clean(item_id)
    if kept == item_id and len(kept) <= MAX_ID:
        return kept
    digest = hashlib.sha256(item_id.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{kept[: MAX_ID - 17]}~{digest}"
