"""Editing a profile as one text, by a person with an editor.

    opened = open_text(store, "user:42")
    save(store, opened, changed_text)

No lease is held while the editor is open: the version at opening is compared at saving, and whoever saves second is
refused. All changes of a save are one transaction of ordinary line operations. Not here: the editor and where a refused
text is kept (cli/system/editor.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from voicectl.memory.admin import key_of
from voicectl.memory.calls import ensure_customer
from voicectl.memory.errors import Refused
from voicectl.memory.lines import Block, Entry, Origin, Source, tidy
from voicectl.memory.profile import check_room, present_rows, put_in, remove_in, replace_in
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import profile_ops
from voicectl.memory.sync.text import Edit, edits

_HEADING = re.compile(r"^\[(?P<block>[^\]]*)\]$")
_HELP = (
    "# One fact a line below its [block]. Lines with # are left out. Save and leave; an unchanged text changes nothing."
)


@dataclass(frozen=True)
class Opened:
    """A profile as it was when somebody opened it.

    Args:
        customer: Customer key.
        version: The last operation of the log then; 0 when there was none.
        text: What to edit.
    """

    customer: str
    version: int
    text: str


def open_text(store: Store, customer: str) -> Opened:
    """A customer's profile as a text, with the version that it shows.

    Raises:
        CustomerUnknown: There is no such customer.
        StoreUnavailable: The store did not answer.
    """
    with store.read() as connection:
        key = key_of(connection, customer)
        parts = [f"# What we know of {key}.", _HELP]
        for block in Block:
            parts += ["", f"[{block}]", *(row.line for row in present_rows(connection, key, block))]
        return Opened(key, _version(connection, key), "\n".join(parts) + "\n")


def _version(connection: Connection, key: str) -> int:
    last = select(func.coalesce(func.max(profile_ops.c.id), 0)).where(profile_ops.c.customer == key)
    return int(connection.execute(last).scalar_one())


def save(store: Store, opened: Opened, text: str) -> int:
    """Make the profile say what the text says, all or nothing; durable on return.

    Args:
        store: The store.
        opened: What `open_text` gave.
        text: The text as it is now.

    Returns:
        How many lines changed.

    Raises:
        Refused: Somebody changed the profile since it was opened, a line is too long, a block too full, or the text
            has lost its headings. Nothing was changed.
        CustomerUnknown: The customer was forgotten meanwhile.
        StoreUnavailable: Nothing was changed.
    """
    wanted, before = parse(text), parse(opened.text)
    with store.write() as connection:
        key = key_of(connection, opened.customer)
        store.lock(connection, "profile", key)
        now = _version(connection, key)
        if now != opened.version:
            raise Refused(
                f"edit {key}",
                f"somebody changed it while you had it open (version {opened.version} then, {now} now)",
                f"See what: voicectl memory history {key}. Then open it again.",
            )
        generation = ensure_customer(connection, key)
        changed = 0
        for block in Block:
            entry = Entry(key, generation, block, Origin(Source.OPERATOR))
            found = edits("\n".join(before[block]), "\n".join(wanted[block]))
            _apply(connection, entry, found)
            changed += len(found)
        return changed


def parse(text: str) -> dict[Block, list[str]]:
    """The lines of each block in an edited text.

    Raises:
        Refused: A line is too long or stands above every heading, or a heading is missing, twice, or none of ours.
    """
    found: dict[Block, list[str]] = {}
    block: Block | None = None
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if heading := _HEADING.match(line):
            block = _block(heading["block"], number, found)
            found[block] = []
        elif block is None:
            raise Refused("edit", f"line {number} stands above the first [block]: {line[:60]}")
        elif line.strip(" -*•"):
            try:
                found[block].append(tidy(line))
            except Refused as e:
                raise Refused("edit", f"line {number}: {e.why}: {line[:60]}…") from e
    if missing := [b for b in Block if b not in found]:
        # Not the same as an empty block: a heading deleted by accident must not empty it.
        raise Refused("edit", f"the heading [{missing[0]}] is missing", "To empty a block, leave its heading.")
    return found


def _block(name: str, number: int, found: dict[Block, list[str]]) -> Block:
    known = ", ".join(b.value for b in Block)
    if name not in set(Block):
        raise Refused("edit", f"line {number}: there is no block [{name}]", f"There are: {known}.")
    block = Block(name)
    if block in found:
        raise Refused("edit", f"line {number}: the heading [{name}] is there twice")
    return block


def _apply(connection: Connection, entry: Entry, found: list[Edit]) -> None:
    # What goes makes room for what comes.
    for edit in sorted(found, key=lambda e: e.new is not None):
        present = present_rows(connection, entry.customer, entry.block)
        old = next((r for r in present if edit.old is not None and r.line.casefold() == edit.old.casefold()), None)
        if edit.new is None:
            if old is not None:
                remove_in(connection, entry, int(old.position), old.line)
        elif old is None or any(r.line.casefold() == edit.new.casefold() and r is not old for r in present):
            put_in(connection, entry.customer, edit.new, entry.origin, entry.block)
        else:
            check_room(present, entry.block, edit.new, old.line)
            replace_in(connection, entry, int(old.position), old.line, edit.new)
