"""Opening the store: SQLite in VOICE_HOME, or PostgreSQL by URL, at the schema this program knows.

A foreign database or one of a newer version is refused, never altered. Every database error leaves here as a
StoreUnavailable that names the database. Not here: the tables (schema.py), leases (leases.py).
"""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from voicectl.memory.config import MemorySettings
from voicectl.memory.errors import SettingError, StoreForeign, StoreUnavailable

VERSION_TABLE = "voicectl_schema"
HEAD = "0002"
MIGRATIONS = Path(__file__).with_name("migrations")


class Store:
    """One open database. Threads may share it; processes open their own.

    Args:
        url: Where it is.
        busy_ms: How long a statement waits for another writer's lock, in milliseconds.
    """

    def __init__(self, url: URL, *, busy_ms: int = 2000) -> None:
        self.url = url
        self.where = url.render_as_string(hide_password=True)
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self.engine = _engine(url, busy_ms)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading.

        Raises:
            StoreUnavailable: The database did not answer.
        """
        try:
            with self.engine.connect() as connection:
                yield connection
        except DBAPIError as e:
            raise StoreUnavailable(self.where, str(e.orig)) from e

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction, durable when the block is left; rolled back on any exception.

        Raises:
            StoreUnavailable: The database did not take it; nothing was changed.
        """
        try:
            with self.engine.connect() as connection:
                connection = connection.execution_options(voicectl_write=True)
                with connection.begin():
                    yield connection
        except DBAPIError as e:
            raise StoreUnavailable(self.where, str(e.orig)) from e

    def impatient(self, busy_ms: int) -> Store:
        """The same database through connections that wait `busy_ms` milliseconds for a lock, not longer."""
        return Store(self.url, busy_ms=busy_ms)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _engine(url: URL, busy_ms: int) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,
            pool_size=4,
            connect_args={"connect_timeout": 3, "options": f"-c lock_timeout={busy_ms}"},
        )
    in_file = url.database not in (None, "", ":memory:")
    engine = create_engine(
        url,
        poolclass=QueuePool if in_file else None,
        connect_args={"timeout": busy_ms / 1000, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves: the driver's own would come too late for reads
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # IMMEDIATE: a read that turns into a write cannot wait for a lock in WAL mode, it fails at once.
        writes = connection.get_execution_options().get("voicectl_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def store_url(settings: MemorySettings) -> URL:
    """Where the store of these settings is.

    Raises:
        SettingError: DATABASE_URL is neither SQLite nor PostgreSQL.
    """
    if settings.database_url is None:
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        return URL.create("sqlite", database=str(settings.home / "memory.db"))
    try:
        url = make_url(settings.database_url.get_secret_value())
    except SQLAlchemyError as e:
        raise SettingError("DATABASE_URL", "***", "a database URL, e.g. postgresql://user:password@host/db") from e
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise SettingError("DATABASE_URL", f"{url.get_backend_name()}://…", "sqlite:// or postgresql://")
    return url


def open_store(settings: MemorySettings) -> Store:
    """Open the store, creating or upgrading its schema when needed.

    Raises:
        StoreForeign: It holds tables that are not ours, or a newer schema.
        StoreUnavailable: It cannot be reached, read or written.
    """
    store = Store(store_url(settings))
    try:
        if _revision(store) != HEAD:
            _upgrade(store)
    except BaseException:
        store.close()
        raise
    if store.is_sqlite and store.url.database:
        path = Path(store.url.database)
        if path.exists() and stat.S_IMODE(path.stat().st_mode) != 0o600:
            path.chmod(0o600)  # what customers said is not for other users of the machine
    return store


def _revision(store: Store) -> str | None:
    """The schema's revision; None for an empty database.

    Raises:
        StoreForeign: Somebody else's tables, or a revision we do not know.
    """
    with store.read() as connection:
        names = inspect(connection).get_table_names()
        if not names:
            return None
        if VERSION_TABLE not in names:
            raise StoreForeign(store.where, f"holds tables that are not ours ({', '.join(sorted(names)[:3])}, …)")
        found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608
    if found is not None and not any(MIGRATIONS.glob(f"versions/{found}_*.py")):
        raise StoreForeign(store.where, f"is at schema {found}, newer than this program's {HEAD}")
    return None if found is None else str(found)


_UPGRADING = threading.Lock()  # alembic's context is per process, not per thread


def _upgrade(store: Store) -> None:
    """Bring the schema to HEAD, one process at a time, in one transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with _UPGRADING, store.write() as connection:
        if not store.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(7204651)"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
