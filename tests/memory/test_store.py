"""Opening the store: created once, never somebody else's, never a newer one."""

from __future__ import annotations

import multiprocessing
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import func, select

from tests.support.postgres import Cluster
from voicectl.memory import calls
from voicectl.memory.config import MemorySettings, load
from voicectl.memory.errors import SettingError, StoreForeign, StoreUnavailable
from voicectl.memory.store.engine import VERSION_TABLE, Store, open_store, store_url
from voicectl.memory.store.leases import Leases, open_leases
from voicectl.memory.store.schema import customers, metadata

pytestmark = pytest.mark.unit


def of_the_schema(_object: Any, name: str | None, kind: str, *_: Any) -> bool:
    """All but the full text index, which each database makes in its own way and SQLAlchemy cannot describe."""
    return not str(name).startswith("turn_index") and (kind, name) not in (
        ("index", "ix_turns_words"),
        ("column", "words"),
    )


def test_the_migrations_make_the_tables_of_the_schema(store: Store) -> None:
    with store.read() as connection:
        opts = {"version_table": VERSION_TABLE, "include_object": of_the_schema}
        context = MigrationContext.configure(connection, opts=opts)
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
    with store.read() as connection:
        found = connection.exec_driver_sql(f"select version_num from {VERSION_TABLE}").scalar()
    assert found == "9999", "it must be left as it is"


def test_a_database_that_cannot_be_reached_says_where(tmp_path: Path) -> None:
    missing = tmp_path / "no" / "such" / "folder.db"

    with pytest.raises(StoreUnavailable, match=r"folder\.db"):
        open_store(load(MemorySettings, home=tmp_path, database_url=f"sqlite:///{missing}"))


def test_a_database_url_that_is_none_is_refused_without_showing_it(tmp_path: Path) -> None:
    with pytest.raises(SettingError) as refused:
        open_store(load(MemorySettings, home=tmp_path, database_url="mysql://me:secret@host/db"))

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_nobody_else_on_the_machine_can_read_the_store(store: Store, settings: MemorySettings) -> None:
    open_store(settings).close()

    assert stat.S_IMODE((settings.home / "memory.db").stat().st_mode) == 0o600


@pytest.fixture
def empty(cluster: Cluster, tmp_path: Path) -> Iterator[MemorySettings]:
    """A PostgreSQL database with nothing in it."""
    name = f"empty_{uuid4().hex[:12]}"
    yield load(MemorySettings, home=tmp_path / "home", database_url=cluster.create(name))
    cluster.drop(name)


def run(settings: MemorySettings, statement: str) -> None:
    store = Store(store_url(settings))
    with store.write() as connection:
        connection.exec_driver_sql(statement)
    store.close()


def test_a_postgresql_with_foreign_tables_is_refused_by_store_and_leases_and_left_alone(empty: MemorySettings) -> None:
    run(empty, "create table invoices (id integer)")

    with pytest.raises(StoreForeign, match="invoices"):
        open_store(empty)
    with pytest.raises(StoreForeign, match="invoices"):
        open_leases(empty)

    store = Store(store_url(empty))
    with store.read() as connection:
        names = (
            connection.exec_driver_sql("select tablename from pg_tables where schemaname = 'public'").scalars().all()
        )
    store.close()
    assert names == ["invoices"]


def test_whoever_opens_the_leases_first_does_not_make_the_store_foreign(empty: MemorySettings) -> None:
    open_leases(empty).close()

    open_store(empty).close()
    open_leases(empty).close()


def open_both(settings: MemorySettings) -> None:
    open_store(settings).close()
    open_leases(settings).close()


@pytest.mark.process
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_of_many_processes_that_open_a_new_store_at_once_none_fails(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    settings = load(MemorySettings, home=tmp_path / "home")
    if kind == "postgresql":
        settings = request.getfixturevalue("empty")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=open_both, args=(settings,)) for _ in range(4)]

    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    assert [p.exitcode for p in processes] == [0] * 4


def test_two_calls_of_a_new_customer_at_once_are_both_opened(store: Store) -> None:
    together = threading.Barrier(4)
    failed: list[BaseException] = []

    def begin(number: int) -> None:
        together.wait()
        try:
            calls.open_call(store, customer="user:new", room=f"r{number}", desk="assistant", fence=1)
        except BaseException as e:  # noqa: BLE001
            failed.append(e)

    threads = [threading.Thread(target=begin, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    with store.read() as connection:
        assert connection.execute(select(func.count()).select_from(customers)).scalar() == 1


@pytest.mark.process
@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
def test_a_postgresql_that_stands_still_is_given_up_and_used_again_when_it_goes_on(
    store: Store, cluster: Cluster
) -> None:
    impatient = store.impatient(25, answer_s=0.3)
    leases = Leases(store.impatient(25, answer_s=0.3))
    count = select(func.count()).select_from(customers)
    with impatient.read() as connection:
        connection.execute(count)

    cluster.freeze()
    try:
        with pytest.raises(StoreUnavailable, match=r"no answer in|timeout"), impatient.read() as connection:
            connection.execute(count)
        with pytest.raises(StoreUnavailable):
            leases.claim("room:a", "agent", 3)
    finally:
        cluster.thaw()

    with impatient.read() as connection:
        assert connection.execute(count).scalar() == 0
    assert leases.claim("room:b", "agent", 3).fence == 1
    impatient.close()
    leases.close()


def test_an_unreachable_postgresql_says_where_and_keeps_the_password(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable) as refused:
        open_store(load(MemorySettings, home=tmp_path, database_url="postgresql://me:secret@127.0.0.1:1/db"))

    assert "127.0.0.1:1/db" in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_a_read_only_database_is_said_to_be_one(store: Store, settings: MemorySettings) -> None:
    path = settings.home / "memory.db"
    url = f"sqlite:///file:{path}?mode=ro&uri=true"

    opened = open_store(load(MemorySettings, home=settings.home, database_url=url))

    with pytest.raises(StoreUnavailable, match="readonly"):
        calls.open_call(opened, customer="user:1", room="r", desk="assistant", fence=1)
    opened.close()


def test_a_file_that_is_no_database_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "memory.db").write_bytes(b"not a database at all, but long enough to be looked at" * 100)

    with pytest.raises(StoreUnavailable, match="not a database"):
        open_store(load(MemorySettings, home=tmp_path))


def test_the_files_are_their_owners_alone(tmp_path: Path) -> None:
    settings = load(MemorySettings, home=tmp_path)
    open_store(settings).close()
    open_leases(settings).close()

    assert {f.name: stat.S_IMODE(f.stat().st_mode) for f in tmp_path.glob("*.db")} == {
        "memory.db": 0o600,
        "leases.db": 0o600,
    }
