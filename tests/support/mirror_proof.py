"""Whether Letta's database holds what was spoken: each turn once, in order, by the right speaker, and nothing else.

Read by SQL, not through Letta's API or our syncer's code. What a caller spoke is compared with the store's turns by
number, order and role, and loosely by words, since recognition stands between; the store's turns with Letta's exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import groupby

from sqlalchemy import select

from tests.support.letta_server import RealLetta
from tests.support.remembering import Placed
from voicectl.memory.null_model import MODEL
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import calls, letta_agents, turns

SPOKEN = ("user", "assistant")
ALIKE = 0.5  # of the letters: a name may be misheard, another sentence is not alike
NOTES = ("[tool ", "[hand-off ")  # what else happened before an answer stands in front of it
Rows = list[tuple[str, str, str]]  # role, marker, text


def not_mirrored(store: Store) -> str:
    """Which calls are not completely in Letta yet; for waiting."""
    with store.read() as connection:
        left = connection.execute(select(calls.c.id, calls.c.state, calls.c.mirror).where(calls.c.mirror != "done"))
        return ", ".join(f"{r.id}: {r.state}, mirror {r.mirror}" for r in left)


def differences(letta: RealLetta, store: Store, placed: Sequence[Placed]) -> list[str]:
    """What is in Letta otherwise than it was spoken; empty when all is as it must be.

    Args:
        letta: A server whose database is this installation's alone.
        store: The installation's store.
        placed: All calls that were placed, in order.
    """
    found: list[str] = []
    total = 0
    customers = list(dict.fromkeys(p.customer for p in placed))
    for customer in customers:
        spoken = [p for p in placed if p.customer == customer]
        held = _held(store, customer)
        if len(held) != len(spoken):
            found.append(f"{customer}: {len(spoken)} calls placed, {len(held)} in the store")
            continue
        for call, rows in zip(spoken, held, strict=True):
            found += _against_speech(call, rows)
        there = letta.rows(_agent(store, customer))
        found += _against_store(customer, [row for rows in held for row in rows], [row[:3] for row in there])
        if len({conversation for *_, conversation in there}) != len(spoken):
            found.append(f"{customer}: {len(spoken)} calls are not {len(spoken)} conversations")
        total += sum(len(rows) for rows in held)
    counts = {
        "select count(*) from messages where role <> 'system' and not is_deleted": total,
        "select count(*) from agents where not is_deleted": len(customers),
        "select count(*) from conversations where not is_deleted": len(placed),
        f"select count(*) from steps where model <> '{MODEL}'": 0,
    }
    for statement, wanted in counts.items():
        if (there_are := letta.number(statement)) != wanted:
            found.append(f"{there_are} instead of {wanted}: {statement}")
    return found


def _held(store: Store, customer: str) -> list[Rows]:
    """The spoken turns of each call of a customer, in the store."""
    with store.read() as connection:
        ids = connection.execute(select(calls.c.id).where(calls.c.customer == customer).order_by(calls.c.started_ms))
        return [
            [
                (str(r.role), f"{call}#{r.seq}", str(r.text))
                for r in connection.execute(
                    select(turns.c.role, turns.c.seq, turns.c.text)
                    .where(turns.c.call_id == call, turns.c.role.in_(SPOKEN))
                    .order_by(turns.c.seq)
                )
            ]
            for call in ids.scalars().all()
        ]


def _agent(store: Store, customer: str) -> str:
    with store.read() as connection:
        return str(
            connection.execute(select(letta_agents.c.agent_id).where(letta_agents.c.customer == customer)).scalar_one()
        )


def _against_speech(call: Placed, rows: Rows) -> list[str]:
    wanted = ["assistant", *(role for _ in call.lines for role in SPOKEN)]  # a greeting, then line and answer
    # An answer is one row, or several: the line that bridges a silence, and what is said after a tool.
    roles = [speaker for speaker, _ in groupby(role for role, _, _ in rows)]
    if roles != wanted or sum(role == "user" for role, _, _ in rows) != len(call.lines):
        return [f"{call.customer} spoke {call.lines}: {rows}"]
    heard = [text for role, _, text in rows if role == "user"]
    return [
        f"{call.customer} spoke {line!r}, and {text!r} is in its place"
        for line, text in zip(call.lines, heard, strict=True)
        if SequenceMatcher(None, line.lower(), text.lower()).ratio() < ALIKE
    ]


def _against_store(customer: str, held: Rows, there: Rows) -> list[str]:
    if [row[:2] for row in held] != [row[:2] for row in there]:
        return [f"{customer}: the store has {held}, Letta {there}"]
    return [
        f"{customer}: {marker} is {text!r} in the store and {copy!r} in Letta"
        for (role, marker, text), (_, _, copy) in zip(held, there, strict=True)
        if not (copy == text or (role == "assistant" and copy.endswith(f"\n{text}") and copy.startswith(NOTES)))
    ]
