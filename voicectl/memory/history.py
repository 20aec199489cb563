"""Where each line of a profile came from, and taking an operation back.

    for version in history(store, "user:42"): ...
    for line in blame(store, "user:42"): line.sentence
    undo(store, "user:42", 17)

Undo is the inverse operation on what is there now, itself in the log and itself undoable; never a step back in time.
Not here: making operations (profile.py), changing many lines at once (edit.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from voicectl.memory.admin import key_of
from voicectl.memory.errors import OperationUnknown, Refused
from voicectl.memory.lines import Block, Entry, Op, Origin, Source, subject_of
from voicectl.memory.profile import (
    check_room,
    log_op,
    present_rows,
    read_lines,
    remove_in,
    replace_in,
    taken_back,
)
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import calls, profile_lines, profile_ops, turns


@dataclass(frozen=True)
class Version:
    """One operation of the log.

    Args:
        id: The operation; what `undo` takes.
        at_ms: When, in milliseconds since 1970.
        block: Which block.
        op: What it did.
        line: The line added or removed.
        old_line: What a replace took the place of.
        source: Who made it.
        call_id: In which call; None outside of one.
        because: The words of the turn that taught it; of an import, file and line.
        overruled_by: The operation that stood against it; None: it took effect.
        undoes: The operation it takes back.
        undone_by: The operation that took it back.
        position: The line it is about, the same for all its operations.
        model: Which model said so, of a memory step.
    """

    id: int
    at_ms: int
    block: Block
    op: Op
    line: str
    old_line: str | None
    source: Source
    call_id: str | None
    because: str | None
    overruled_by: int | None
    undoes: int | None
    undone_by: int | None
    position: int
    model: str | None = None


@dataclass(frozen=True)
class Blamed:
    """A present line and what taught it.

    Args:
        id: The operation that made it what it is; as `voicectl memory show` lists it.
        block: Its block.
        line: Its text.
        source: Who taught it.
        at_ms: When it was taught, in milliseconds since 1970.
        call_id: In which call; None outside of one.
        call_ms: When that call began.
        sentence: The words that taught it; of an import, file and line.
        restored_by: The undo that brought it back; None: it was never away.
        model: Which model said so, of a memory step.
    """

    id: int
    block: Block
    line: str
    source: Source
    at_ms: int
    call_id: str | None
    call_ms: int | None
    sentence: str | None
    restored_by: int | None
    model: str | None = None


def history(store: Store, customer: str) -> list[Version]:
    """Every operation on what we know of a customer, oldest first; overruled and undone ones marked.

    Raises:
        CustomerUnknown: There is no such customer.
        StoreUnavailable: The store did not answer.
    """
    with store.read() as connection:
        return _history(connection, key_of(connection, customer))


def _history(connection: Connection, key: str) -> list[Version]:
    said = (turns.c.call_id == profile_ops.c.call_id) & (turns.c.item_id == profile_ops.c.item_id)
    rows = connection.execute(
        select(profile_ops, turns.c.text.label("said"))
        .outerjoin(turns, said)
        .where(profile_ops.c.customer == key)
        .order_by(profile_ops.c.id)
    ).all()
    undone = {int(r.undoes): int(r.id) for r in rows if r.undoes is not None}
    return [_version(r, undone.get(int(r.id))) for r in rows]


def _version(row: Row[Any], undone_by: int | None) -> Version:
    return Version(
        id=int(row.id),
        at_ms=int(row.at_ms),
        block=Block(row.block),
        op=Op(row.op),
        line=row.line,
        old_line=row.old_line,
        source=Source(row.source),
        call_id=row.call_id,
        because=row.said if row.call_id is not None else row.item_id,
        overruled_by=None if row.overruled_by is None else int(row.overruled_by),
        undoes=None if row.undoes is None else int(row.undoes),
        undone_by=undone_by,
        position=int(row.position if row.position is not None else row.id),
        model=row.model,
    )


def blame(store: Store, customer: str, line: str | None = None) -> list[Blamed]:
    """The present lines, each with the call and the sentence that taught it.

    Args:
        store: The store.
        customer: Customer key.
        line: Only the line with this id, or those with these words; None: all.

    Raises:
        CustomerUnknown: There is no such customer.
        OperationUnknown: There is no such line.
        StoreUnavailable: The store did not answer.
    """
    with store.read() as connection:
        key = key_of(connection, customer)
        present = read_lines(connection, key)
        if line is not None:
            present = [x for x in present if line == str(x.op_id)] or [
                x for x in present if line.casefold() in x.text.casefold()
            ]
            if not present:
                raise OperationUnknown(key, line)
        versions = {v.id: v for v in _history(connection, key)}
        rows = connection.execute(select(calls.c.id, calls.c.started_ms).where(calls.c.customer == key))
        began = {str(r.id): int(r.started_ms) for r in rows}
    found: list[Blamed] = []
    for here in present:
        last = versions[here.op_id]
        taught = _taught(last, list(versions.values()))
        found.append(
            Blamed(
                id=here.op_id,
                block=here.block,
                line=here.text,
                source=taught.source,
                at_ms=taught.at_ms,
                call_id=taught.call_id,
                call_ms=began.get(taught.call_id or ""),
                sentence=taught.because,
                restored_by=None if taught is last else last.id,
                model=taught.model,
            )
        )
    return found


def _taught(last: Version, versions: list[Version]) -> Version:
    """The operation that first said so: an undo only brings back what another one had taught."""
    if last.undoes is None:
        return last
    made = (v for v in versions if v.position == last.position and v.line == last.line and v.undoes is None)
    return next((v for v in made if v.op != Op.REMOVE and v.overruled_by is None), last)


def undo(store: Store, customer: str, op_id: int) -> str:
    """Take one operation back; durable on return. Its line is not learnt again from the same call.

    Returns:
        What is there now in words, e.g. `removed: likes teal`.

    Raises:
        CustomerUnknown: There is no such customer.
        OperationUnknown: The customer has no such operation.
        Refused: A later operation touched the line, the operation had no effect, or there is no room for the line.
        StoreUnavailable: Nothing was changed.
    """
    with store.write() as connection:
        key = key_of(connection, customer)
        store.lock(connection, "profile", key)
        versions = _history(connection, key)
        chosen = next((v for v in versions if v.id == op_id), None)
        if chosen is None:
            raise OperationUnknown(key, str(op_id))
        _refuse(chosen, versions)
        generation = connection.execute(select(profile_ops.c.generation).where(profile_ops.c.id == op_id)).scalar_one()
        entry = Entry(key, int(generation), chosen.block, Origin(Source.OPERATOR))
        return _take_back(connection, entry, chosen)


def _refuse(chosen: Version, versions: list[Version]) -> None:
    what = f"undo {chosen.id}"
    if chosen.overruled_by is not None:
        raise Refused(what, f"it had no effect: operation {chosen.overruled_by} stood against it")
    other = taken_back([(v.id, v.undoes) for v in versions if v.undoes is not None])
    after = (v for v in versions if v.id > chosen.id and v.position == chosen.position and v.overruled_by is None)
    # An operation and its undo, both later, left the line as it was; the undo of something earlier did not.
    later = [v for v in after if v.block == chosen.block and other.get(v.id, 0) <= chosen.id]
    if later:
        last = later[-1]
        raise Refused(
            what,
            f"operation {last.id} ({last.op} by {last.source}) touched the line later",
            f"Undo that one first, the last one first: {last.id}",
        )


def _take_back(connection: Connection, entry: Entry, chosen: Version) -> str:
    if chosen.op == Op.ADD:
        remove_in(connection, entry, chosen.position, chosen.line, undoes=chosen.id)
        return f"removed: {chosen.line}"
    text = chosen.old_line if chosen.op == Op.REPLACE and chosen.old_line is not None else chosen.line
    present = present_rows(connection, entry.customer, entry.block)
    subject = subject_of(text)
    for row in present:
        same = row.line.casefold() == text.casefold() or (subject is not None and subject_of(row.line) == subject)
        if same and int(row.position) != chosen.position:
            raise Refused(f"undo {chosen.id}", f"line {row.op_id} says otherwise by now: {row.line}")
    if chosen.op == Op.REPLACE:
        check_room(present, entry.block, text, chosen.line)
        replace_in(connection, entry, chosen.position, chosen.line, text, undoes=chosen.id)
        return f"again: {text}"
    check_room(present, entry.block, text)
    made = log_op(connection, entry, Op.ADD, text, position=chosen.position, undoes=chosen.id)
    place = {"customer": entry.customer, "block": entry.block, "position": chosen.position}
    connection.execute(insert(profile_lines).values(**place, line=text, op_id=made))
    return f"again: {text}"
