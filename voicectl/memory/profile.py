"""The profile: an ordered log of line operations; blocks are its rendering.

Every line says who taught it: the operation, its source, and the turn it came from. A change and its rendering are one
transaction. Not here: how a block gets into a prompt (recall.py) or into Letta (syncer.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlalchemy.sql.elements import ColumnElement

from voicectl.memory.calls import ensure_customer, now_ms
from voicectl.memory.errors import Refused
from voicectl.memory.identity import clean
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import profile_lines, profile_ops, turns

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
    item_id: str | None = None


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


def _tidy(line: str) -> str:
    line = " ".join(clean(line).split()).strip(" -*•")
    if not line:
        raise Refused("remember", "there is nothing in the line")
    if len(line) > MAX_LINE:
        raise Refused("remember", f"the line has {len(line)} characters, {MAX_LINE} fit", "Say it shorter.")
    return line


def put(store: Store, customer: str, text: str, origin: Origin, block: Block = Block.PROFILE) -> int:
    """Add a line, or replace the one with the same subject; durable on return.

    Args:
        store: Where it is kept.
        customer: Customer key; created when new.
        text: The line.
        origin: Who says so.
        block: Which block.

    Returns:
        The id of the operation that made the line; the old one's when the line was there already.

    Raises:
        Refused: Empty, too long, or the block is full; nothing is trimmed away.
        StoreUnavailable: Nothing was written.
    """
    line = _tidy(text)
    subject = subject_of(line)
    with store.write() as connection:
        generation = ensure_customer(connection, customer)
        present = _present(connection, customer, block)
        for row in present:
            if row.line.casefold() == line.casefold():
                return int(row.op_id)
        old = next((r for r in present if subject is not None and subject_of(r.line) == subject), None)
        size = sum(len(r.line) + 1 for r in present) - (len(old.line) + 1 if old else 0) + len(line)
        if size > BLOCK_LIMIT:
            raise Refused("remember", f"block {block} would have {size} characters, {BLOCK_LIMIT} fit")
        op_id = _log(connection, customer, generation, block, origin, line, old.line if old else None)
        if old is None:
            connection.execute(
                insert(profile_lines).values(customer=customer, block=block, position=op_id, line=line, op_id=op_id)
            )
        else:
            connection.execute(
                update(profile_lines).where(_at(customer, block, old.position)).values(line=line, op_id=op_id)
            )
        return op_id


def remove(store: Store, customer: str, op_id: int, origin: Origin) -> str | None:
    """Take a line away; durable on return.

    Returns:
        The line that went, or None when no present line was made by that operation.
    """
    with store.write() as connection:
        generation = ensure_customer(connection, customer)
        row = connection.execute(
            select(profile_lines).where(profile_lines.c.customer == customer, profile_lines.c.op_id == op_id)
        ).first()
        if row is None:
            return None
        _log(connection, customer, generation, Block(row.block), origin, row.line, None, op=Op.REMOVE)
        connection.execute(delete(profile_lines).where(_at(customer, row.block, row.position)))
        return str(row.line)


def lines(store: Store, customer: str) -> list[Line]:
    """All present lines of a customer, block by block in order, each with what taught it."""
    with store.read() as connection:
        return read_lines(connection, customer)


def read_lines(connection: Connection, customer: str) -> list[Line]:
    """As `lines`, inside somebody's transaction."""
    statement = (
        select(profile_lines, profile_ops.c.source, profile_ops.c.call_id, profile_ops.c.at_ms, turns.c.text)
        .join(profile_ops, profile_ops.c.id == profile_lines.c.op_id)
        .outerjoin(turns, (turns.c.call_id == profile_ops.c.call_id) & (turns.c.item_id == profile_ops.c.item_id))
        .where(profile_lines.c.customer == customer)
        .order_by(profile_lines.c.block, profile_lines.c.position)
    )
    return [
        Line(int(r.op_id), Block(r.block), r.line, Source(r.source), r.text, r.call_id, int(r.at_ms))
        for r in connection.execute(statement)
    ]


def name_of(present: list[Line]) -> str | None:
    """The customer's name among the present lines."""
    for line in present:
        if line.block == Block.PROFILE and line.text.casefold().startswith("name:"):
            return line.text.split(":", 1)[1].strip() or None
    return None


def _present(connection: Connection, customer: str, block: Block) -> list[Row[Any]]:
    rows = connection.execute(
        select(profile_lines)
        .where(profile_lines.c.customer == customer, profile_lines.c.block == block)
        .order_by(profile_lines.c.position)
    )
    return list(rows)


def _at(customer: str, block: str, position: int) -> ColumnElement[bool]:
    return (
        (profile_lines.c.customer == customer)
        & (profile_lines.c.block == block)
        & (profile_lines.c.position == position)
    )


def _log(
    connection: Connection,
    customer: str,
    generation: int,
    block: Block,
    origin: Origin,
    line: str,
    old_line: str | None,
    *,
    op: Op | None = None,
) -> int:
    chosen = op or (Op.REPLACE if old_line is not None else Op.ADD)
    result = connection.execute(
        insert(profile_ops).values(
            customer=customer,
            generation=generation,
            block=block,
            op=chosen,
            line=line,
            old_line=old_line,
            source=origin.source,
            call_id=origin.call_id,
            item_id=origin.item_id,
            at_ms=now_ms(),
        )
    )
    key = result.inserted_primary_key
    assert key is not None  # noqa: S101  (an autoincrement insert has one)
    return int(key[0])
