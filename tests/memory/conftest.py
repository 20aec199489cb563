"""The store tests run on both stores: SQLite in a file, and a real PostgreSQL, a database each test.

Modules directly in this folder get every test with a store twice, unless a test says which; those in folders below keep
SQLite, unless a test says `store_url`. All of them on both: VOICE_TEST_ALL_STORES=1 pytest tests/memory
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.postgres import Cluster
from voicectl.memory.config import MemorySettings, load
from voicectl.memory.store.engine import open_store

HERE = Path(__file__).parent
STORES = ["sqlite", "postgresql"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    here = metafunc.definition.path.parent == HERE or "VOICE_TEST_ALL_STORES" in os.environ
    chosen = any("store_url" in m.args[0] for m in metafunc.definition.iter_markers("parametrize"))
    if here and not chosen and "store_url" in metafunc.fixturenames:
        metafunc.parametrize("store_url", STORES, indirect=True)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A PostgreSQL server, started by the first test that asks."""
    with Cluster(tmp_path_factory.mktemp("postgres") / "cluster") as running:
        yield running


@pytest.fixture(scope="session")
def template(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database at the present schema, to copy from."""
    url = cluster.create("template_of_tests")
    open_store(load(MemorySettings, home=tmp_path_factory.mktemp("template"), database_url=url)).close()
    return "template_of_tests"


@pytest.fixture
def store_url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """What DATABASE_URL is: None for SQLite, else a PostgreSQL database of this test's own."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield None
        return
    running = request.getfixturevalue("cluster")
    name = f"test_{uuid4().hex[:12]}"
    yield running.create(name, request.getfixturevalue("template"))
    running.drop(name)


@pytest.fixture
def settings(tmp_path: Path, store_url: str | None) -> MemorySettings:
    given = {"database_url": store_url} if store_url else {}
    return load(MemorySettings, home=tmp_path / "home", **given)
