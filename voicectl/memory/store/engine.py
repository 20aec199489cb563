"""Opening the store: SQLite in VOICE_HOME, or PostgreSQL by URL, at the schema this program knows.

A foreign database or one of a newer version is refused, never altered. Every database error leaves here as a
StoreUnavailable that names the database, and a PostgreSQL that does not answer is given up after a time: a job must not
hang with its store. Not here: the tables (schema.py), leases (leases.py), PostgreSQL's connections (postgres.py).
"""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, inspect, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolExhausted
from sqlalchemy.pool import QueuePool

from voicectl.memory.config import MemorySettings
from voicectl.memory.errors import SettingError, StoreForeign, StoreUnavailable

VERSION_TABLE = "voicectl_schema"
LEASE_TABLE = "leases"  # on PostgreSQL it lies beside the others, and whoever opens the leases may come first
MIGRATIONS = Path(__file__).with_name("migrations")
VERSIONS = sorted(p.name.split("_")[0] for p in MIGRATIONS.glob("versions/[0-9]*.py"))
HEAD = VERSIONS[-1]
ANSWER_S = 30.0
UPGRADE_KEY = 7204651


@dataclass(frozen=True)
class WriteSignals:
    """Points of every write at which a test may kill the process; nothing happens by default."""

    before_commit: Callable[[], None] = lambda: None
    after_commit: Callable[[], None] = lambda: None


class Store:
    """One open database. Threads may share it; processes open their own.

    Args:
        url: Where it is.
        busy_ms: How long a statement waits for another writer's lock, in milliseconds.
        answer_s: After how many seconds without an answer PostgreSQL is given up; None waits for ever.

    Attributes:
        signals: For tests.
    """

    def __init__(self, url: URL, *, busy_ms: int = 2000, answer_s: float | None = ANSWER_S) -> None:
        self.url = url
        self.where = url.render_as_string(hide_password=True)
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self.engine = _sqlite(url, busy_ms) if self.is_sqlite else _postgresql(url, busy_ms, answer_s)
        self.signals = WriteSignals()
        driver: Any = self.engine.dialect.dbapi
        self._faults: tuple[type[Exception], ...] = (DBAPIError, PoolExhausted, driver.Error)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading.

        Raises:
            StoreUnavailable: The database did not answer.
        """
        try:
            with self.engine.connect() as connection:
                yield connection
        except self._faults as e:
            raise self._unavailable(e) from e

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction, durable when the block is left; rolled back on any exception.

        Raises:
            StoreUnavailable: The database did not take it; nothing was changed. Only where PostgreSQL fell silent in
                the very commit it may have been taken: what is written again must be harmless (our keys make it so).
        """
        try:
            with self.engine.connect() as connection:
                connection = connection.execution_options(voicectl_write=True)
                with connection.begin():
                    yield connection
                    self.signals.before_commit()
            self.signals.after_commit()
        except self._faults as e:
            raise self._unavailable(e) from e

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        return StoreUnavailable(self.where, str(getattr(error, "orig", None) or error))

    def lock(self, connection: Connection, *names: str) -> None:
        """Be the only one who writes under a name until the transaction ends.

        SQLite has one writer anyway; on PostgreSQL it takes an advisory lock, because a row that is not there yet
        cannot be locked.
        """
        if not self.is_sqlite:
            key = func.hashtextextended("\x1f".join(names), UPGRADE_KEY)
            connection.execute(select(func.pg_advisory_xact_lock(key)))

    def impatient(self, busy_ms: int, answer_s: float = 1.0) -> Store:
        """The same database through connections of their own that wait less.

        Args:
            busy_ms: For a lock, in milliseconds.
            answer_s: For PostgreSQL's answer, in seconds.
        """
        return Store(self.url, busy_ms=busy_ms, answer_s=answer_s)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _postgresql(url: URL, busy_ms: int, answer_s: float | None) -> Engine:
    try:
        from voicectl.memory.store import postgres
    except ImportError as e:
        remedy = "Run: ./restart_voice_system.sh, which installs it."
        raise SettingError("DATABASE_URL", "postgresql://…", "usable with the extra `postgres`", remedy) from e
    return postgres.engine(url, busy_ms, answer_s)


def _sqlite(url: URL, busy_ms: int) -> Engine:
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
    return open_at(store_url(settings))


def open_at(url: URL) -> Store:
    """As `open_store`, by URL: a file's name may have characters that a URL in a setting gives another meaning."""
    store = Store(url)
    try:
        if not is_current(store):
            _upgrade(store)
    except BaseException:
        store.close()
        raise
    keep_private(store)
    return store


def keep_private(store: Store) -> None:
    """Who customers are and what they said is not for other users of the machine: a file is its owner's alone."""
    if store.is_sqlite and store.url.database:
        path = Path(store.url.database)
        if path.exists() and stat.S_IMODE(path.stat().st_mode) != 0o600:
            path.chmod(0o600)


def _revision(store: Store) -> str | None:
    """The schema's revision; None for an empty database.

    Raises:
        StoreForeign: Somebody else's tables, or a revision we do not know.
    """
    with store.read() as connection:
        names = set(inspect(connection).get_table_names())
        if not store.is_sqlite:
            names.discard(LEASE_TABLE)
        if not names:
            return None
        if VERSION_TABLE not in names:
            raise StoreForeign(store.where, f"holds tables that are not ours ({', '.join(sorted(names)[:3])}, …)")
        found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608
    if found is not None and found not in VERSIONS:
        raise StoreForeign(store.where, f"is at schema {found}, newer than this program's {HEAD}")
    return None if found is None else str(found)


def refuse_foreign(store: Store) -> None:
    """Touch nothing of somebody else's.

    Raises:
        StoreForeign: The database holds tables that are not ours, or a newer schema.
    """
    _revision(store)


def is_current(store: Store) -> bool:
    """Whether the database has the schema that this program knows.

    Raises:
        StoreForeign: It holds tables that are not ours, or a newer schema.
        StoreUnavailable: It did not answer.
    """
    return _revision(store) == HEAD


_UPGRADING = threading.Lock()  # alembic's context is per process, not per thread


def _upgrade(opened: Store) -> None:
    """Bring the schema to HEAD, one process at a time, in one transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    # Connections of its own: a migration may take minutes, and another process may be at it.
    store = Store(opened.url, busy_ms=60_000, answer_s=None)
    try:
        with _UPGRADING, store.write() as connection:
            if not store.is_sqlite:
                connection.execute(select(func.pg_advisory_xact_lock(UPGRADE_KEY)))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        store.close()
