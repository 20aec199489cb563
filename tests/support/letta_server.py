"""A real Letta server for tests: installed once into a cache folder, by the code users run; a new database each run.

The folder is VOICE_TEST_CACHE, else ~/.cache/voicectl-tests. The database is made and migrated once, by the same code,
before any server has used it; each run begins with a copy of it. The server can be killed and started again like any.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from voicectl.cli.system import letta_install
from voicectl.cli.system.letta_install import Files
from voicectl.cli.system.letta_processes import Access, LettaServer


def cache() -> Path:
    """Where tests keep what takes long to fetch."""
    return Path(os.environ.get("VOICE_TEST_CACHE") or Path.home() / ".cache" / "voicectl-tests")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class RealLetta:
    """The server of a test session."""

    def __init__(self, at: Files, home: Path, postgres_password: str) -> None:
        self.access = Access(free_port(), secrets.token_urlsafe(16), free_port(), postgres_password)
        self.log: list[str] = []
        self.at = at
        self.processes = LettaServer(at, self.access, home, self.log.append, fsync=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.access.port}"

    def up(self) -> None:
        begun = time.monotonic()
        self.processes.start_database()
        self.processes.migrate()
        self.processes.start()
        print(f"Letta {letta_install.VERSION} answers after {time.monotonic() - begun:.1f} s")

    def kill(self) -> None:
        """As a crash would: no goodbye."""
        assert self.processes.server is not None
        self.processes.server.kill()
        self.processes.server.wait()

    def start(self) -> None:
        self.processes.start()

    def lose_everything(self) -> None:
        """As with a new disk: killed with its database, and started on an empty one, under the same address."""
        for process in (self.processes.server, self.processes.database):
            assert process is not None
            process.kill()
            process.wait()
        shutil.rmtree(self.at.data)
        shutil.copytree(_migrated(letta_install.files(cache())).data, self.at.data)
        self.up()

    def rows(self, agent_id: str) -> list[tuple[str, str, str, str]]:
        """What Letta's database holds of an agent's conversations: role, marker, text, conversation."""
        return [
            (role, marker, text, conversation)
            for role, marker, text, conversation in self.processes.sql(
                "select role, coalesce(sender_id, ''), content->0->>'text', conversation_id from messages "
                f"where agent_id = '{agent_id}' and conversation_id is not null and role <> 'system' "
                "and not is_deleted order by sequence_id"
            )
        ]

    def number(self, statement: str) -> int:
        return int(self.processes.sql(statement)[0][0])


def prepare() -> tuple[Files, Files]:
    """Letta's packages, and an installation with a migrated database; fetched and made where they are missing."""
    shared = letta_install.files(cache())
    shared.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (shared.root / "install.lock").open("w") as lock:  # of several test processes one installs
        fcntl.flock(lock, fcntl.LOCK_EX)
        letta_install.install(shared, print)
        return shared, _migrated(shared)


@contextmanager
def real_letta(tmp: Path, *, up: bool = True) -> Iterator[RealLetta]:
    """A server with an empty database, in a folder of its own beside the shared installation; not `up`: not started."""
    shared, migrated = prepare()
    at = _beside(shared, tmp)
    shutil.copytree(migrated.data, at.data)
    for step in ("database", "schema"):
        at.finish(step)
    letta = RealLetta(at, tmp, _password(migrated).read_text())
    try:
        if up:
            letta.up()
        yield letta
    finally:
        letta.processes.stop()


def _beside(shared: Files, home: Path) -> Files:
    """An installation with a database and a HOME of its own that uses the shared packages."""
    at = letta_install.files(home)
    at.home.mkdir(parents=True, mode=0o700)
    at.venv.symlink_to(shared.venv)
    at.migrations.symlink_to(shared.migrations)
    for step in ("packages", "migrations"):
        at.finish(step)
    return at


def _password(migrated: Files) -> Path:
    return migrated.root / "postgres-password"


def _migrated(shared: Files) -> Files:
    """A database that has Letta's schema and no row of ours, stopped; made once for a version."""
    whole = shared.root / f"migrated-{letta_install.VERSION}"
    if not whole.exists():
        draft = shared.root / "migrated.new"
        shutil.rmtree(draft, ignore_errors=True)
        at = _beside(shared, draft)
        access = Access(free_port(), "unused", free_port(), secrets.token_urlsafe(16))
        _password(at).write_text(access.postgres_password)
        processes = LettaServer(at, access, draft, lambda _: None, fsync=False)
        try:
            processes.start_database()
            processes.migrate()
        finally:
            processes.stop()
        draft.rename(whole)
    return letta_install.files(whole)
