"""Opening the store: created once, never somebody else's, never a newer one."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from voicectl.memory.config import MemorySettings, load
from voicectl.memory.errors import SettingError, StoreForeign, StoreUnavailable
from voicectl.memory.store.engine import VERSION_TABLE, Store, open_store
from voicectl.memory.store.schema import metadata

pytestmark = pytest.mark.unit


def test_the_migrations_make_the_tables_of_the_schema(store: Store) -> None:
    with store.read() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, metadata) == []


def test_a_database_with_foreign_tables_is_refused_and_left_alone(tmp_path: Path) -> None:
    database = tmp_path / "other.db"
    sqlite3.connect(database).execute("create table invoices (id integer)").connection.close()

    with pytest.raises(StoreForeign, match="invoices"):
        open_store(load(MemorySettings, home=tmp_path, database_url=f"sqlite:///{database}"))

    names = sqlite3.connect(database).execute("select name from sqlite_master").fetchall()
    assert names == [("invoices",)]


def test_a_database_of_a_newer_version_is_refused(store: Store, settings: MemorySettings) -> None:
    with store.write() as connection:
        connection.exec_driver_sql(f"update {VERSION_TABLE} set version_num = '9999'")

    with pytest.raises(StoreForeign, match="9999, newer"):
        open_store(settings)


def test_a_database_that_cannot_be_reached_says_where(tmp_path: Path) -> None:
    missing = tmp_path / "no" / "such" / "folder.db"

    with pytest.raises(StoreUnavailable, match=r"folder\.db"):
        open_store(load(MemorySettings, home=tmp_path, database_url=f"sqlite:///{missing}"))


def test_a_database_url_that_is_none_is_refused_without_showing_it(tmp_path: Path) -> None:
    with pytest.raises(SettingError) as refused:
        open_store(load(MemorySettings, home=tmp_path, database_url="mysql://me:secret@host/db"))

    assert "secret" not in str(refused.value)


def test_nobody_else_on_the_machine_can_read_the_store(store: Store, settings: MemorySettings) -> None:
    open_store(settings).close()

    assert stat.S_IMODE((settings.home / "memory.db").stat().st_mode) == 0o600
