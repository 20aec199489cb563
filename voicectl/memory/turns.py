"""One finished turn, and how it gets into the store: under its own key, fenced, numbered in its transaction.

Not here: when it is written and what happens when the store refuses (recorder.py), which events of LiveKit become turns
(voice/listening.py).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, bindparam, insert, select, update

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


# Built once: building and hashing them for each turn took 0.5 of its 0.6 ms of processor time, and while the writer's
# thread computes, Python's lock is not with the reply.
_FIND = select(turns.c.seq).where(turns.c.call_id == bindparam("call"), turns.c.item_id == bindparam("item"))
_MINE = (calls.c.id == bindparam("call"), calls.c.fence == bindparam("held"), calls.c.state != CallState.ENDED)
_COUNT = update(calls).where(*_MINE).values(last_seq=calls.c.last_seq + 1).returning(calls.c.last_seq)
_COUNT_WITH_STATE = _COUNT.values(progress=bindparam("state_now"))
_INSERT = insert(turns)


def write_turn(connection: Connection, call: Call, turn: Turn) -> bool:
    """Write one turn under its own key inside a transaction; a turn that is there already stays as it is.

    Returns:
        False when the call is another's or over; the turn is then among the refused ones, once.
    """
    item_id = row_id(turn.item_id)
    if connection.execute(_FIND, {"call": call.id, "item": item_id}).first() is not None:
        return True
    held = {"call": call.id, "held": call.fence}
    if turn.progress:
        seq = connection.execute(_COUNT_WITH_STATE, {**held, "state_now": clean(turn.progress)}).scalar()
    else:
        seq = connection.execute(_COUNT, held).scalar()
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
    connection.execute(_INSERT, {**said, "seq": seq, "interrupted": int(turn.interrupted), "agent": agent})
    return True


def row_id(item_id: str) -> str:
    """An id as the column takes it: what is too long or unprintable is shortened to something of its own."""
    kept = clean(item_id)
    if kept == item_id and len(kept) <= MAX_ID:
        return kept
    digest = hashlib.sha256(item_id.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{kept[: MAX_ID - 17]}~{digest}"
