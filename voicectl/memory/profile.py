"""The profile: an ordered log of line operations; blocks are its rendering.

Every line says who taught it: the operation, its source, and the turn it came from. A change and its rendering are one
transaction. Of two who speak of the same line people stand above what was said in a call, and that above the memory
step; the loser stays in the log. Not here: what a line is (lines.py), reading the log and undoing (history.py), how a
block gets into a prompt (recall.py) or into Letta (sync/blocks.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update
from sqlalchemy.sql.elements import ColumnElement

from voicectl.memory.calls import ensure_customer, is_forgotten, now_ms
from voicectl.memory.errors import Refused
from voicectl.memory.lines import (
    BLOCK_LIMIT,
    MAX_LINE,
    PEOPLE,
    Block,
    Entry,
    Line,
    Op,
    Origin,
    Source,
    subject_of,
    tidy,
    weight,
)
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import calls, customers, profile_lines, profile_ops, turns

__all__ = [
    "BLOCK_LIMIT",
    "MAX_LINE",
    "Block",
    "Line",
    "Op",
    "Origin",
    "Source",
    "lines",
    "name_of",
    "put",
    "read_lines",
    "remove",
    "subject_of",
]


def put(store: Store, customer: str, text: str, origin: Origin, block: Block = Block.PROFILE) -> int:
    """Add a line, or replace the one with the same subject; durable on return.

    Args:
        store: Where it is kept.
        customer: Customer key; created when new.
        text: The line.
        origin: Who says so.
        block: Which block.

    Returns:
        The id of the operation behind the line that is there now: the new one, or that of the line that was there
        already or that stood because somebody with more weight made it.

    Raises:
        Refused: Empty, too long, or the block is full; nothing is trimmed away. Or only people write this block, the
            line was undone, or its customer was forgotten.
        StoreUnavailable: Nothing was written.
    """
    with store.write() as connection:
        store.lock(connection, "profile", customer)
        return put_in(connection, customer, text, origin, block)


def put_in(connection: Connection, customer: str, text: str, origin: Origin, block: Block) -> int:
    """As `put`, inside somebody's transaction that holds the profile."""
    line = tidy(text)
    _refuse_forgotten(connection, customer, origin)
    generation = ensure_customer(connection, customer)
    if block == Block.OPERATOR_NOTES and weight(origin.source) < PEOPLE:
        raise Refused("remember", f"only people write the block {block}")
    present = present_rows(connection, customer, block)
    same = next((r for r in present if r.line.casefold() == line.casefold()), None)
    if same is not None and weight(origin.source) <= weight(same.source):
        return int(same.op_id)
    if origin.call_id is not None and weight(origin.source) < PEOPLE:
        refuse_undone(connection, customer, block, line, origin.call_id)
    subject = subject_of(line)
    old = same or next((r for r in present if subject is not None and subject_of(r.line) == subject), None)
    entry = Entry(customer, generation, block, origin)
    if old is None:
        check_room(present, block, line)
        op_id = log_op(connection, entry, Op.ADD, line)
        connection.execute(
            insert(profile_lines).values(customer=customer, block=block, position=op_id, line=line, op_id=op_id)
        )
        return op_id
    if weight(origin.source) < weight(old.source):
        log_op(connection, entry, Op.REPLACE, line, old.line, position=int(old.position), overruled_by=int(old.op_id))
        return int(old.op_id)
    check_room(present, block, line, old.line)
    return replace_in(connection, entry, int(old.position), old.line, line)


def replace_in(
    connection: Connection, entry: Entry, position: int, old_line: str, line: str, undoes: int | None = None
) -> int:
    """Let a line say something else; returns the operation."""
    op_id = log_op(connection, entry, Op.REPLACE, line, old_line, position=position, undoes=undoes)
    place = at(entry.customer, entry.block, position)
    connection.execute(update(profile_lines).where(place).values(line=line, op_id=op_id))
    return op_id


def remove(store: Store, customer: str, op_id: int, origin: Origin) -> str | None:
    """Take a line away; durable on return.

    Returns:
        The line that went, or None when no present line was made by that operation.

    Raises:
        Refused: Somebody with more weight made the line; it stays, and the log says that it was tried.
        StoreUnavailable: Nothing was written.
    """
    with store.write() as connection:
        store.lock(connection, "profile", customer)
        row = next((r for r in present_rows(connection, customer) if r.op_id == op_id), None)
        if row is None:
            return None
        _refuse_forgotten(connection, customer, origin)
        entry = Entry(customer, ensure_customer(connection, customer), Block(row.block), origin)
        stands = weight(origin.source, Op.REMOVE) < weight(row.source)
        if stands:
            log_op(connection, entry, Op.REMOVE, row.line, position=int(row.position), overruled_by=int(row.op_id))
        else:
            remove_in(connection, entry, int(row.position), row.line)
    if stands:
        raise Refused("forget a fact", f"{row.source} made that line, which stands above {origin.source}")
    return str(row.line)


def remove_in(connection: Connection, entry: Entry, position: int, line: str, undoes: int | None = None) -> int:
    """Take a line away; returns the operation."""
    op_id = log_op(connection, entry, Op.REMOVE, line, position=position, undoes=undoes)
    connection.execute(delete(profile_lines).where(at(entry.customer, entry.block, position)))
    return op_id


def lines(store: Store, customer: str) -> list[Line]:
    """All present lines of a customer, block by block in order, each with what taught it."""
    with store.read() as connection:
        return read_lines(connection, customer)


_LINES = (  # built once: it is read in each turn of a call
    select(profile_lines, profile_ops.c.source, profile_ops.c.call_id, profile_ops.c.at_ms, turns.c.text)
    .join(profile_ops, profile_ops.c.id == profile_lines.c.op_id)
    .outerjoin(turns, (turns.c.call_id == profile_ops.c.call_id) & (turns.c.item_id == profile_ops.c.item_id))
    .where(profile_lines.c.customer == bindparam("whose"))
    .order_by(profile_lines.c.block, profile_lines.c.position)
)


def read_lines(connection: Connection, customer: str) -> list[Line]:
    """As `lines`, inside somebody's transaction."""
    return [
        Line(int(r.op_id), Block(r.block), r.line, Source(r.source), r.text, r.call_id, int(r.at_ms))
        for r in connection.execute(_LINES, {"whose": customer})
    ]


def name_of(present: list[Line]) -> str | None:
    """The customer's name among the present lines."""
    for line in present:
        if line.block == Block.PROFILE and line.text.casefold().startswith("name:"):
            return line.text.split(":", 1)[1].strip() or None
    return None


def present_rows(connection: Connection, customer: str, block: Block | None = None) -> list[Row[Any]]:
    """The present lines as they are stored, each with the source of the operation that made it what it is."""
    statement = (
        select(profile_lines, profile_ops.c.source)
        .join(profile_ops, profile_ops.c.id == profile_lines.c.op_id)
        .where(profile_lines.c.customer == customer)
        .order_by(profile_lines.c.block, profile_lines.c.position)
    )
    if block is not None:
        statement = statement.where(profile_lines.c.block == block)
    return list(connection.execute(statement))


def check_room(present: Sequence[Row[Any]], block: Block, line: str, old_line: str | None = None) -> None:
    """Whether a block has room for a line, in place of another one.

    Raises:
        Refused: It has not.
    """
    size = sum(len(r.line) + 1 for r in present) - (len(old_line) + 1 if old_line is not None else 0) + len(line)
    if size > BLOCK_LIMIT:
        raise Refused("remember", f"block {block} would have {size} characters, {BLOCK_LIMIT} fit")


def _refuse_forgotten(connection: Connection, customer: str, origin: Origin) -> None:
    """What an earlier generation learnt must not come back after its customer was forgotten."""
    learnt = origin.generation
    if origin.call_id is not None:
        learnt = connection.execute(select(calls.c.generation).where(calls.c.id == origin.call_id)).scalar()
        if learnt is None and not is_forgotten(connection, origin.call_id):
            return  # not a call of ours at all: somebody's own reference
    elif learnt is None:
        return
    now = connection.execute(select(customers.c.generation).where(customers.c.key == customer)).scalar()
    if learnt is None or learnt != now:
        raise Refused("remember", "the customer was forgotten since that call began")


def refuse_undone(connection: Connection, customer: str, block: Block, line: str, call_id: str) -> None:
    """A line that a person has undone is not learnt again from the call that taught it.

    Raises:
        Refused: It was.
    """
    undos = select(profile_ops.c.id, profile_ops.c.undoes)
    undos = undos.where(profile_ops.c.customer == customer, profile_ops.c.undoes.is_not(None))
    other = taken_back([(int(r.id), int(r.undoes)) for r in connection.execute(undos.order_by(profile_ops.c.id))])
    undone = connection.execute(
        select(profile_ops.c.line).where(
            profile_ops.c.id.in_([target for undo, target in other.items() if undo > target]),
            profile_ops.c.block == block,
            profile_ops.c.call_id == call_id,
            profile_ops.c.op != Op.REMOVE,
        )
    ).scalars()
    about = subject_of(line)
    for text in undone:
        if text.casefold() == line.casefold() or (about is not None and subject_of(text) == about):
            raise Refused("remember", "a person has undone that line in this call")


def taken_back(undos: Sequence[tuple[int, int]]) -> dict[int, int]:
    """By operation that is taken back, the one that did it, and the other way round; an undone undo did nothing.

    Args:
        undos: Each undo with what it undoes, oldest first.
    """
    found: dict[int, int] = {}
    for undo, target in reversed(undos):
        if undo not in found:
            found |= {undo: target, target: undo}
    return found


def at(customer: str, block: str, position: int) -> ColumnElement[bool]:
    """Where a line is."""
    return (
        (profile_lines.c.customer == customer)
        & (profile_lines.c.block == block)
        & (profile_lines.c.position == position)
    )


def log_op(
    connection: Connection,
    entry: Entry,
    op: Op,
    line: str,
    old_line: str | None = None,
    *,
    position: int | None = None,
    overruled_by: int | None = None,
    undoes: int | None = None,
) -> int:
    """Add an operation to the log; a line without a position is new, and its position is the operation."""
    result = connection.execute(
        insert(profile_ops).values(
            customer=entry.customer,
            generation=entry.generation,
            block=entry.block,
            op=op,
            line=line,
            old_line=old_line,
            source=entry.origin.source,
            call_id=entry.origin.call_id,
            item_id=entry.origin.item_id,
            at_ms=now_ms(),
            position=position,
            overruled_by=overruled_by,
            undoes=undoes,
            model=entry.origin.model,
        )
    )
    key = result.inserted_primary_key
    assert key is not None  # noqa: S101  (an autoincrement insert has one)
    op_id = int(key[0])
    if position is None:
        connection.execute(update(profile_ops).where(profile_ops.c.id == op_id).values(position=op_id))
    return op_id
