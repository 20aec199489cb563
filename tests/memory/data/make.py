"""Make the stored databases of a schema version: `python -m tests.memory.data.make 0004`.

Run once, when a version is new; the files are then kept as they are, because what a later program opens is what an
earlier one wrote. The rows are of every table, small, and made through SQL alone: later code must not shape them.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import BigInteger, Column, Integer, MetaData, text
from sqlalchemy.engine import make_url
from sqlalchemy.schema import Table

from tests.support.postgres import Cluster
from voicectl.memory.store.engine import MIGRATIONS, VERSION_TABLE, Store
from voicectl.memory.store.schema import TURN_INDEX

HERE = Path(__file__).parent


def upgrade(store: Store, version: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with store.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, version)


def fill(store: Store) -> None:
    """Two customers with two calls each; in every other table a row that belongs to them."""
    metadata = MetaData()
    with store.write() as connection:
        metadata.reflect(connection)
        kept_level = (VERSION_TABLE, TURN_INDEX)  # the index of words follows the turns by itself
        tables = [t for t in metadata.sorted_tables if not t.name.startswith(kept_level)]
        for table in tables:
            for number in (1, 2):
                row = {c.name: value(table, c.name, number) for c in table.columns if wanted(c)}
                columns = ", ".join(f'"{n}"' for n in row)
                places = ", ".join(f":{n}" for n in row)
                connection.execute(text(f'INSERT INTO "{table.name}" ({columns}) VALUES ({places})'), row)
        if not store.is_sqlite:
            for table in tables:
                if "id" in table.columns and isinstance(table.c.id.type, BigInteger | Integer):
                    connection.execute(text(f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), 2)"))


def wanted(column: Column[object]) -> bool:
    return column.name == "id" or (column.server_default is None and not column.nullable)


KNOWN: dict[str, object] = {
    "generation": 1,
    "state": "ended",
    "role": "user",
    "block": "profile",
    "op": "add",
    "source": "tool",
    "mode": "null",
    "desk": "assistant",
}


def value(table: Table, name: str, number: int) -> object:
    if name in ("customer", "key") and table.name != "tool_effects":
        return f"user:{number}"
    if name == "call_id" or (table.name, name) == ("calls", "id"):
        return f"c{number}"
    if name in KNOWN:
        return KNOWN[name]
    if isinstance(table.c[name].type, BigInteger | Integer):
        return number
    return f"{name} {number} of {table.name}"[: getattr(table.c[name].type, "length", None)]


def main(version: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.sqlite"
        store = Store(make_url(f"sqlite:///{path}"))
        upgrade(store, version)
        fill(store)
        store.close()
        plain = sqlite3.connect(path)
        plain.execute("PRAGMA journal_mode=DELETE")
        plain.execute("PRAGMA page_size=512")
        plain.execute("VACUUM")
        plain.close()
        (HERE / f"store-{version}.sqlite").write_bytes(path.read_bytes())
        with Cluster(Path(folder) / "cluster") as cluster:
            store = Store(make_url(cluster.create("made")))
            upgrade(store, version)
            fill(store)
            store.close()
            kept = [line for line in cluster.dump("made").splitlines() if not line.startswith(("\\", "--")) and line]
            (HERE / f"store-{version}.postgresql.sql").write_text("\n".join(kept) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
