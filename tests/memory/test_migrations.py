"""Stores as every earlier version left them are opened by this one, with all that is in them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, Table, select

from tests.support.postgres import Cluster
from voicectl.memory import calls, profile, recall
from voicectl.memory.config import MemorySettings, load
from voicectl.memory.recorder import Role, Turn, write_turn
from voicectl.memory.search import search
from voicectl.memory.store.engine import VERSION_TABLE, VERSIONS, Store, open_store, store_url
from voicectl.memory.store.schema import TURN_INDEX, metadata

pytestmark = pytest.mark.unit
DATA = Path(__file__).parent / "data"


@pytest.fixture(params=["sqlite", "postgresql"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MemorySettings]:
    """Settings of a store that `old` fills with the database of an earlier version."""
    if request.param == "sqlite":
        home = tmp_path / "home"
        home.mkdir()
        yield load(MemorySettings, home=home)
        return
    cluster: Cluster = request.getfixturevalue("cluster")
    name = f"old_{uuid4().hex[:12]}"
    yield load(MemorySettings, home=tmp_path / "home", database_url=cluster.create(name))
    cluster.drop(name)


def old(settings: MemorySettings, version: str) -> dict[str, list[dict[str, object]]]:
    """Put the database of a version where these settings look; returns its rows."""
    if settings.database_url is None:
        shutil.copy(DATA / f"store-{version}.sqlite", settings.home / "memory.db")
    else:
        with psycopg.connect(settings.database_url.get_secret_value(), autocommit=True) as connection:
            connection.execute((DATA / f"store-{version}.postgresql.sql").read_bytes())
    store = Store(store_url(settings))
    found = rows(store)
    store.close()
    return found


def rows(store: Store) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = {}
    with store.read() as connection:
        there = MetaData()
        there.reflect(connection)
        for table in there.sorted_tables:
            if table.name != VERSION_TABLE and not table.name.startswith(TURN_INDEX):
                found[table.name] = [dict(r._mapping) for r in connection.execute(select(table).order_by(*key(table)))]
    return found


def key(table: Table) -> list[object]:
    return list(table.primary_key.columns)


def not_of_search(_: object, name: str | None, kind: str, reflected: bool, present: object) -> bool:
    """What finds words is each database's own, and no table of ours: what it does is tested by what it finds."""
    return present is not None or not reflected or not str(name).startswith((TURN_INDEX, "ix_turns_words", "words"))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_store_of_every_version_is_brought_up_with_all_its_rows(stored: MemorySettings, version: str) -> None:
    before = old(stored, version)
    assert all(len(found) == 2 for found in before.values()), "the stored database must have rows in every table"

    store = open_store(stored)

    after = rows(store)
    for table, was in before.items():
        kept = [{n: v for n, v in row.items() if n in was[0]} for row in after[table]]
        assert kept == was
    with store.read() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "include_object": not_of_search}
        )
        assert compare_metadata(context, metadata) == []
    store.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_store_that_was_brought_up_is_used_like_a_new_one(stored: MemorySettings, version: str) -> None:
    old(stored, version)
    store = open_store(stored)

    call = calls.open_call(store, customer="user:1", room="new", desk="assistant", fence=1)
    with store.write() as connection:
        assert write_turn(connection, call, Turn("item_new", Role.USER, "hello again", 5))
    profile.put(store, "user:1", "likes teal", profile.Origin(profile.Source.TOOL))

    found = search(store, "user:1", "hello turns")
    assert [e.said for e in found] == ["hello again", "text 1 of turns"]
    known = recall.read(store, "user:1")
    assert [line.text for line in known.lines] == ["line 1 of profile_lines", "likes teal"]
    assert [said.text for said in known.tail] == ["text 1 of turns", "hello again"]
    store.close()


def test_every_version_has_its_stored_databases() -> None:
    wanted = [f"store-{version}.{kind}" for version in VERSIONS for kind in ("sqlite", "postgresql.sql")]

    assert [name for name in wanted if not (DATA / name).exists()] == [], "python -m tests.memory.data.make VERSION"
