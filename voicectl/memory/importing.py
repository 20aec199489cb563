"""Taking facts over from a file: CSV with a header, or JSON Lines, of customer, line and perhaps block.

    plan = read_file(path)
    checked = check(store, plan)          # what would happen; nothing is changed
    done = apply(store, plan, checked)

Each line is an operation of its own with the source `import`, file and line number. A customer's rows are one
transaction, short enough for the calls that go on; the same file again changes nothing. Not here: the command
(cli/commands/memory_files.py).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from sqlalchemy import Connection

from voicectl.memory.errors import MemoryFault, Refused, SettingError
from voicectl.memory.identity import normalise
from voicectl.memory.lines import Block, Origin, Source, tidy
from voicectl.memory.profile import present_rows, put_in
from voicectl.memory.store.engine import Store

FIELDS = ("customer", "line", "block")
MAX_NAME = 60  # of the file, in the log


@dataclass(frozen=True)
class Row:
    """A row that can be taken.

    Args:
        number: Its line in the file, from 1.
        customer: Customer key.
        line: The fact.
        block: Which block.
    """

    number: int
    customer: str
    line: str
    block: Block


@dataclass(frozen=True)
class Bad:
    """A row that cannot.

    Args:
        number: Its line in the file, from 1.
        why: The reason.
    """

    number: int
    why: str


@dataclass
class Plan:
    """What a file says."""

    name: str
    rows: list[Row] = field(default_factory=list)
    bad: list[Bad] = field(default_factory=list)


@dataclass
class Outcome:
    """What happened, or would.

    Args:
        added: Lines that are new.
        replaced: Lines that took the place of another about the same.
        unchanged: Lines that were there already.
        customers: How many customers they are of.
        bad: Rows that cannot be taken, in the order of the file.
    """

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    customers: int = 0
    bad: list[Bad] = field(default_factory=list)


class _OnlyChecked(Exception):
    pass


def read_file(path: Path) -> Plan:
    """Read a file; every row that cannot be taken is listed with its reason.

    Raises:
        Refused: The file is neither CSV with a header of ours nor JSON Lines, is not UTF-8, or has no rows.
        OSError: It cannot be read.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise Refused(f"import {path.name}", f"byte {e.start} is not UTF-8", "Save the file as UTF-8.") from e
    plan = Plan(path.name)
    for number, found in _json_lines(text) if text.lstrip().startswith("{") else _csv(text, path.name):
        try:
            plan.rows.append(_row(number, found))
        except MemoryFault as e:
            plan.bad.append(Bad(number, _why(e)))
    if not plan.rows and not plan.bad:
        raise Refused(f"import {path.name}", "there is no row in it")
    return plan


def _csv(text: str, name: str) -> Iterator[tuple[int, object]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    first = 1
    try:
        for cells in reader:
            number, first = first, reader.line_num + 1  # a quoted cell may span lines
            if not any(c.strip() for c in cells):
                continue
            if header is None:
                header = [c.strip().casefold() for c in cells]
                if not {"customer", "line"} <= set(header) <= set(FIELDS):
                    raise Refused(
                        f"import {name}",
                        f"the first line is {','.join(header)[:80]!r}",
                        "A CSV begins with: customer,line or customer,line,block",
                    )
            elif len(cells) != len(header):
                yield number, f"{len(cells)} columns, the header has {len(header)}"
            else:
                yield number, dict(zip(header, cells, strict=True))
    except csv.Error as e:
        yield first, f"not CSV: {e}"


def _json_lines(text: str) -> Iterator[tuple[int, object]]:
    for number, raw in enumerate(text.split("\n"), 1):
        if not raw.strip():
            continue
        try:
            yield number, json.loads(raw)
        except ValueError as e:
            yield number, f"not JSON: {e}"


def _row(number: int, found: object) -> Row:
    if isinstance(found, str):
        raise Refused("row", found)
    if not isinstance(found, dict):
        raise Refused("row", "not an object with customer and line")
    values: dict[str, str] = {}
    for name, value in found.items():
        if name not in FIELDS:
            raise Refused("row", f"an unknown field {name!r}; there are {', '.join(FIELDS)}")
        if value is not None and not isinstance(value, str):
            raise Refused("row", f"{name} is not a text")
        values[name] = (value or "").strip()
    for name in ("customer", "line"):
        if not values.get(name):
            raise Refused("row", f"{name} is missing")
    block = values.get("block") or Block.PROFILE.value
    if block not in set(Block):
        raise Refused("row", f"there is no block {block!r}; there are {', '.join(b.value for b in Block)}")
    return Row(number, normalise(values["customer"]), tidy(values["line"]), Block(block))


def _why(fault: MemoryFault) -> str:
    if isinstance(fault, Refused):
        return fault.why
    if isinstance(fault, SettingError):
        return f"{fault.name} {fault.value!r} is not {fault.expected}"
    return str(fault)


def check(store: Store, plan: Plan) -> Outcome:
    """What an import would do, found out by doing it and taking it back. Nothing is changed.

    Raises:
        StoreUnavailable: The store did not answer.
    """
    return _run(store, plan, skip=set(), keep=False)


def apply(store: Store, plan: Plan, checked: Outcome) -> Outcome:
    """Import what the check found good, customer by customer; rows that became bad since are listed.

    Raises:
        StoreUnavailable: The customers before are done; the same import again does the rest.
    """
    return _run(store, plan, skip={b.number for b in checked.bad}, keep=True)


def _run(store: Store, plan: Plan, *, skip: set[int], keep: bool) -> Outcome:
    outcome = Outcome(bad=[] if keep else list(plan.bad))
    by_customer: dict[str, list[Row]] = {}
    for row in plan.rows:
        if row.number not in skip:
            by_customer.setdefault(row.customer, []).append(row)
    for customer, rows in by_customer.items():
        try:
            with store.write() as connection:
                store.lock(connection, "profile", customer)
                for row in rows:
                    _take(connection, plan.name, row, outcome)
                if not keep:
                    _take_back()
        except _OnlyChecked:
            continue
    outcome.customers = len(by_customer)
    outcome.bad.sort(key=lambda b: b.number)
    return outcome


def _take_back() -> NoReturn:
    raise _OnlyChecked


def _take(connection: Connection, name: str, row: Row, outcome: Outcome) -> None:
    origin = Origin(Source.IMPORT, item_id=f"{name[:MAX_NAME]}:{row.number}")
    before = {int(r.position): int(r.op_id) for r in present_rows(connection, row.customer, row.block)}
    try:
        made = put_in(connection, row.customer, row.line, origin, row.block)
    except Refused as e:
        outcome.bad.append(Bad(row.number, e.why))
        return
    if made in before.values():
        outcome.unchanged += 1
    elif made in {int(r.position) for r in present_rows(connection, row.customer, row.block)}:
        outcome.added += 1
    else:
        outcome.replaced += 1
