"""What there is of a customer under VOICE_HOME: rows of every table, files, and the bytes that deleting leaves behind.

Every table of the schema is known here by the column that says whose it is; a test refuses one that is not.
Not here: the order in which it goes (forget.py), reading it for the customer (export.py).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import Connection, Select, Table, delete, func, insert, inspect, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.elements import ColumnElement

from voicectl.memory.identity import hashed
from voicectl.memory.journal import Journal
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import (
    calls,
    customers,
    desk_agents,
    desk_blocks,
    desk_policies,
    desk_policy_blocks,
    desks,
    forgotten,
    forgotten_calls,
    metadata,
    room_counts,
    room_log,
    sync_status,
)

JOURNALS = "journal"
KEPT_EDITS = "edits"
RECORDINGS, TOUR = "demo", "user:tour-"  # `voicectl demo` keeps what it heard, and calls as such a customer
MERGED_PAGES = 200  # at a time, while nobody else writes
# Hashes and random ids of who was forgotten; what the team keeps of desks; bare numbers.
NOBODYS = {
    *(forgotten.name, forgotten_calls.name, desks.name, desk_agents.name),
    *(desk_blocks.name, desk_policies.name, desk_policy_blocks.name, room_counts.name),
}


def whose(table: Table, key: str, ids: Select[tuple[str]]) -> ColumnElement[bool]:
    """Which rows of a table are a customer's.

    Args:
        table: A table of the schema.
        key: Customer key.
        ids: Selects the customer's calls.

    Raises:
        LookupError: The table has no column that says whose a row is.
    """
    if table is customers:
        return customers.c.key == key
    if table is calls or "customer" in table.c:
        mine: ColumnElement[bool] = table.c.customer == key
        return mine
    if "call_id" in table.c:
        return table.c.call_id.in_(ids)
    if table is room_log:
        return room_log.c.room.in_(select(calls.c.room).where(calls.c.customer == key))
    if table is sync_status:
        return sync_status.c.name == f"customer:{key}"
    raise LookupError(f"whose are the rows of {table.name}?")


def tables() -> list[Table]:
    """The tables that hold something of customers, those that others refer to first."""
    return [t for t in metadata.sorted_tables if t.name not in NOBODYS]


def erase(connection: Connection, key: str) -> dict[str, int]:
    """Delete all rows of a customer; returns how many, by table. What turns up of the calls later is refused."""
    if _drops_words(connection):
        for name in _full_text(connection):
            connection.exec_driver_sql(f'INSERT INTO "{name}"("{name}", rank) VALUES (\'secure-delete\', 1)')  # noqa: S608
    ids = select(calls.c.id).where(calls.c.customer == key)
    connection.execute(insert(forgotten_calls).from_select(["call_id"], ids))
    counts: dict[str, int] = {}
    # Calls after all that is found by them, customers after all that refers to them.
    others = [t for t in reversed(tables()) if t not in (calls, customers)]
    for table in (*others, calls, customers):
        done = connection.execute(delete(table).where(whose(table, key, ids)))
        if done.rowcount:
            counts[table.name] = done.rowcount
    return counts


def rows(store: Store, key: str) -> dict[str, int]:
    """How many rows there are of a customer, by table; without those of none."""
    ids = select(calls.c.id).where(calls.c.customer == key)
    with store.read() as connection:
        counts = {
            t.name: int(connection.execute(select(func.count()).select_from(t).where(whose(t, key, ids))).scalar_one())
            for t in tables()
        }
    return {name: number for name, number in counts.items() if number}


def delete_files(home: Path, key: str, call_ids: Sequence[str]) -> int:
    """Delete a customer's files: journals of the calls, texts kept from refused edits; of the tour its recordings.

    No other call is recorded.

    Args:
        home: VOICE_HOME.
        key: Customer key.
        call_ids: The customer's calls.

    Returns:
        How many there were.
    """
    found = [p for c in call_ids for p in (home / JOURNALS).glob(f"{c}.*")]
    # Of a call that began while the store was away, only the journal itself says whose it is.
    for path in (home / JOURNALS).glob("*.jsonl"):
        begun = Journal(path).opening()
        if begun is not None and begun.customer == key and path not in found:
            found.append(path)
    found += (home / KEPT_EDITS).glob(f"{hashed(key)}-*")
    if key.startswith(TOUR):
        found += (home / RECORDINGS).glob("*.wav")
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)


def of_edit(home: Path, key: str, mark: str) -> Path:
    """The file in which the text of an edit lies while it is not saved; by its name it is found when forgetting."""
    return home / KEPT_EDITS / f"{hashed(key)}-{mark}.txt"


def truncate(store: Store) -> str:
    """Bring SQLite's write-ahead log into the file and empty it; of PostgreSQL nothing.

    Returns:
        What is left to do; "" when nothing.
    """
    return _outside(store, "PRAGMA wal_checkpoint(TRUNCATE)") if store.is_sqlite else ""


def rewrite(store: Store) -> str:
    """Write the whole database anew, without the bytes of deleted rows.

    SQLite's secure_delete overwrites rows, but not the copies that stay behind in a page when others are moved between
    pages. Meanwhile, about 1 s for 180 MB, writers wait: turns of calls go to their journals. PostgreSQL is vacuumed,
    which leaves old bytes to its own ways.

    Returns:
        What is left to do; "" when nothing.
    """
    if store.is_sqlite:
        return _merge(store) or _outside(store, "VACUUM") or truncate(store)
    with store.read() as connection:
        present = set(inspect(connection).get_table_names())
    try:
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for table in (t for t in tables() if t.name in present):
                connection.exec_driver_sql(f'VACUUM "{table.name}"')
    except DBAPIError as e:
        return f"{store.where} was not vacuumed ({e.orig}): it does so by itself, or run it again"
    return ""


def _outside(store: Store, statement: str) -> str:
    """Run a statement of SQLite that no transaction may hold."""
    raw = store.engine.raw_connection()
    try:
        found = raw.cursor().execute(statement).fetchone()
    except sqlite3.OperationalError as e:
        return f"{store.where} could not be written anew ({e}): run it again"
    finally:
        raw.close()
    return f"the write-ahead log of {store.where} is in use: run it again" if found and found[0] else ""


def _full_text(connection: Connection) -> list[str]:
    if connection.dialect.name != "sqlite":
        return []
    found = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL TABLE%fts5%'")
    return [str(name) for name in found.scalars()]


def _drops_words(connection: Connection) -> bool:
    """Whether an index of words can drop those of deleted rows at once: SQLite from 3.42 on."""
    if connection.dialect.name != "sqlite":
        return False
    version: str = connection.exec_driver_sql("SELECT sqlite_version()").scalar_one()
    return tuple(int(n) for n in version.split(".")[:2]) >= (3, 42)


def _merge(store: Store) -> str:
    """Bring an index of words that keeps those of deleted rows, until its pieces are merged, into one piece.

    In steps of milliseconds: to rebuild it would keep writers waiting for a minute and more at a million turns.

    Returns:
        What is left to do; "" when nothing.
    """
    with store.read() as connection:
        searched = [] if _drops_words(connection) else _full_text(connection)
    raw = store.engine.raw_connection()
    try:
        for name in searched:
            pages, before = -MERGED_PAGES, -2  # below 0: all pieces, whatever their sizes
            while raw.total_changes - before > 1 or pages < 0:
                before = raw.total_changes
                step = f'INSERT INTO "{name}"("{name}", rank) VALUES (\'merge\', {pages})'  # noqa: S608  (our schema)
                raw.cursor().execute(step)
                pages = MERGED_PAGES
    except sqlite3.OperationalError as e:
        return f"words of {store.where} could not be merged ({e}): run it again"
    finally:
        raw.close()
    return ""
