"""A PostgreSQL of the tests' own: the server that Letta's installation brings, in a folder of its own, on loopback.

One cluster serves a test session, a database serves a test. It can be killed, frozen and started again like any server.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import subprocess
from pathlib import Path
from types import TracebackType

import psycopg
from sqlalchemy.engine import URL

from tests.support.installation import CACHE, free_port
from tests.support.waiting import wait_for
from voicectl.cli.system import letta_install
from voicectl.cli.system.letta_processes import drop_dead_lock

USER = "voicectl"


def program(name: str) -> str:
    """A program of PostgreSQL, installed once into the tests' cache by the code users run."""
    shared = letta_install.files(CACHE)
    shared.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (shared.root / "install.lock").open("w") as lock:  # of several test processes one installs
        fcntl.flock(lock, fcntl.LOCK_EX)
        letta_install.install(shared, print)
    return str(shared.postgres_program(name))


class Cluster:
    """A running server with no database of ours yet.

    Args:
        root: A folder that is there for it alone; made.
        fsync: True where durability or its price is what is looked at.
    """

    def __init__(self, root: Path, *, fsync: bool = False) -> None:
        self._root = root
        self._data = root / "data"
        self._fsync = fsync
        self._port = free_port()
        self._password = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Cluster:
        self._root.mkdir(parents=True, mode=0o700)
        secret = self._root / "password"
        secret.write_text(self._password)
        command = [program("initdb"), "-D", str(self._data), "-U", USER, "--auth=scram-sha-256", "--no-sync"]
        command += [f"--pwfile={secret}", "--encoding=UTF8", "--locale=C"]
        subprocess.run(letta_install.as_postgres(command), check=True, stdout=subprocess.DEVNULL)
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start it; returns when it answers."""
        drop_dead_lock(self._data)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self._port),
            "unix_socket_directories": "",
            "fsync": "on" if self._fsync else "off",
            "max_connections": "200",
            "shared_buffers": "256MB",
        }
        flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self._root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                letta_install.as_postgres([program("postgres"), "-D", str(self._data), *flags]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(self._missing, 60)

    def _missing(self) -> str:
        assert self._process is not None
        assert self._process.poll() is None, (self._root / "log").read_text()[-2000:]
        try:
            psycopg.connect(self._conninfo("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError as e:
            return str(e)
        return ""

    def kill(self) -> None:
        """As a power cut would end it: no goodbye, to none of its processes."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(30)

    def freeze(self) -> None:
        """Its processes stand still; connections stay open and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """They go on where they were."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        # Each server process is a session of its own, so the group of the first is not all of them.
        import psutil

        assert self._process is not None
        first = psutil.Process(self._process.pid)
        for process in [first, *first.children(recursive=True)]:
            process.send_signal(number)

    def create(self, name: str, template: str = "template0") -> str:
        """Make a database; returns its URL."""
        self.run(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def drop(self, name: str) -> None:
        """Remove a database, whoever is connected."""
        self.run(f'DROP DATABASE "{name}" WITH (FORCE)')

    def run(self, statement: str) -> None:
        """One statement outside a transaction."""
        with psycopg.connect(self._conninfo("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    def url(self, name: str) -> str:
        """A database as DATABASE_URL names it."""
        made = URL.create("postgresql", USER, self._password, "127.0.0.1", self._port, name)
        return made.render_as_string(hide_password=False)

    def load(self, name: str, dump: Path) -> None:
        """Run a file of SQL as pg_dump writes it."""
        command = [program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", self.url(name), "-f", str(dump)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def dump(self, name: str) -> str:
        """A database as SQL."""
        command = [program("pg_dump"), "--inserts", "--no-owner", "--no-privileges", "-d", self.url(name)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def _conninfo(self, name: str) -> str:
        return f"host=127.0.0.1 port={self._port} user={USER} password={self._password} dbname={name}"
