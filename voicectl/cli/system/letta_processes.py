"""Letta and its PostgreSQL as two child processes, with nothing of the shell around them.

Promise: both listen on loopback and ask for a password; Letta's environment is made from nothing; no password reaches
what they write, although Letta prints its own. Not here: when they run (letta_server.py), what is fetched
(letta_install.py).
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from voicectl.cli.errors import Failed
from voicectl.cli.system import letta_install, probes
from voicectl.cli.system.environment import PROXIES, no_proxy
from voicectl.cli.system.letta_install import Files
from voicectl.cli.system.strays import MARK

DATABASE_S, SERVER_S, MIGRATE_S = 30.0, 240.0, 600.0
STOP_S = 10.0


@dataclass(frozen=True)
class Access:
    """Where the two listen and how they are entered.

    Args:
        port: Letta's.
        key: Letta's password.
        postgres_port: PostgreSQL's.
        postgres_password: That of its user `letta`.
    """

    port: int
    key: str
    postgres_port: int
    postgres_password: str

    @property
    def database(self) -> str:
        """The database's URL."""
        return f"postgresql://letta:{self.postgres_password}@127.0.0.1:{self.postgres_port}/letta"

    def __repr__(self) -> str:
        return f"Access(port={self.port}, postgres_port={self.postgres_port})"


class LettaServer:
    """PostgreSQL and Letta as child processes.

    Args:
        at: Where they are installed.
        access: Where they listen.
        home: VOICE_HOME; by it strays are recognised as ours.
        write: Receives each line of their logs, without passwords.
        shell: The environment to take certificates and proxies from.
        fsync: False risks the database with the machine's power, for tests.
    """

    def __init__(
        self,
        at: Files,
        access: Access,
        home: Path,
        write: Callable[[str], None],
        *,
        shell: Mapping[str, str] = os.environ,
        fsync: bool = True,
    ) -> None:
        self._at, self._access, self._write = at, access, write
        self._fsync = fsync
        passed = {n: v for n, v in shell.items() if n in PROXIES or n.startswith("SSL_CERT_")}
        # From nothing: a provider's key in Letta's environment makes it call that provider at every start.
        self.environment = {
            **passed,
            **no_proxy(shell),
            "HOME": str(at.home),
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "VOICE_HOME": str(home),
            MARK: "letta",
        }
        self.database: subprocess.Popen[str] | None = None
        self.server: subprocess.Popen[str] | None = None

    def start_database(self) -> None:
        """Start PostgreSQL and make Letta's database in it when there is none.

        Raises:
            Failed: It does not answer.
        """
        letta_install.init_database(self._at, self._access.postgres_password)
        drop_dead_lock(self._at.data)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self._access.postgres_port),
            "unix_socket_directories": "",  # their paths could be too long, and loopback asks for a password
            "shared_buffers": "64MB",
            "fsync": "on" if self._fsync else "off",
            "log_min_messages": "warning",
            "log_min_error_statement": "panic",  # statements hold what customers said
        }
        flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = [str(self._at.postgres_program("postgres")), "-D", str(self._at.data), *flags]
        self.database = self._start(letta_install.as_postgres(command), self.environment, self._at.root)
        ready = [str(self._at.postgres_program("pg_isready")), "-q", "-h", "127.0.0.1"]
        self._until(
            lambda: self._call([*ready, "-p", str(self._access.postgres_port)]) == 0,
            self.database,
            DATABASE_S,
            "PostgreSQL",
        )
        exists = self.sql("select 1 from pg_database where datname = 'letta'", database="postgres")
        if not exists:
            self.sql("create database letta", database="postgres")
        self.sql("create extension if not exists vector")

    def sql(self, statement: str, *, database: str = "letta") -> list[list[str]]:
        """Run a statement by psql. Returns rows of text.

        Raises:
            Failed: It was refused.
        """
        command = [str(self._at.postgres_program("psql")), "-h", "127.0.0.1", "-p", str(self._access.postgres_port)]
        command += ["-U", "letta", "-d", database, "-AtX", "-F", "\x1f", "-R", "\x1e", "-v", "ON_ERROR_STOP=1"]
        env = {**self.environment, "PGPASSWORD": self._access.postgres_password}
        done = subprocess.run([*command, "-c", statement], env=env, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failed(f"Letta's database: {done.stderr.strip()[:300]}")
        said = done.stdout.removesuffix("\n")
        return [row.split("\x1f") for row in said.split("\x1e")] if said else []

    def migrate(self) -> None:
        """Bring the database to Letta's schema; 6 to 30 s the first time, nothing afterwards.

        Raises:
            Failed: It could not.
        """
        if self._at.done("schema"):
            return
        # No sslmode here: the driver of the migrations refuses the argument that the server requires.
        done = subprocess.run(
            [str(self._at.venv / "bin" / "alembic"), "upgrade", "head"],
            cwd=self._at.migrations,
            env={**self.environment, "LETTA_PG_URI": self._access.database},
            capture_output=True,
            text=True,
            timeout=MIGRATE_S,
            check=False,
        )
        if done.returncode != 0:
            raise Failed(f"migrating Letta's database: {self._masked(done.stderr.strip()[-400:])}")
        self._at.finish("schema")

    def start(self) -> None:
        """Start Letta; returns when it answers.

        Raises:
            Failed: It does not.
        """
        env = {
            **self.environment,
            # sslmode: otherwise the pooled server insists on TLS.
            "LETTA_PG_URI": f"{self._access.database}?sslmode=disable",
            "LETTA_DISABLE_SQLALCHEMY_POOLING": "false",  # with one connection a session it stalls for 60 s
            "LETTA_TRACK_PROVIDER_TRACE": "false",  # keeps whole prompts, without a way to delete them
            "LETTA_DISABLE_TRACING": "true",
            "LETTA_SERVER_SECURE": "true",
            "LETTA_SERVER_PASSWORD": self._access.key,
        }
        letta = [str(self._at.venv / "bin" / "letta"), "server", "--host", "127.0.0.1"]
        self.server = self._start([*letta, "--port", str(self._access.port)], env, self._at.home)
        url = f"http://127.0.0.1:{self._access.port}/v1/health/"
        self._until(lambda: probes.ask(url).status == 200, self.server, SERVER_S, "Letta")

    def ended(self) -> str:
        """Which of the two is gone; "" while both run."""
        for name, process in (("Letta", self.server), ("PostgreSQL", self.database)):
            if process is not None and process.poll() is not None:
                return f"{name} ended with status {process.returncode}"
        return ""

    def stop(self) -> None:
        """End both: Letta first, then PostgreSQL, which throws out who is still connected."""
        _end(self.server, signal.SIGTERM)
        _end(self.database, signal.SIGINT)

    def _start(self, command: list[str], env: Mapping[str, str], cwd: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["nice", "-n", "19", *command],  # calls come first; it becomes the program, so the pid is the program's
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        assert process.stdout is not None  # noqa: S101  (we asked for the pipe)
        threading.Thread(target=self._copy, args=(process.stdout,), daemon=True).start()
        return process

    def _copy(self, lines: IO[str]) -> None:
        for line in lines:
            self._write(self._masked(line.rstrip("\n")))

    def _masked(self, line: str) -> str:
        return line.replace(self._access.key, "***").replace(self._access.postgres_password, "***")

    def _call(self, command: list[str]) -> int:
        return subprocess.run(command, env=self.environment, capture_output=True, check=False).returncode

    def _until(self, ready: Callable[[], bool], process: subprocess.Popen[str], seconds: float, name: str) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            if process.poll() is not None:
                raise Failed(f"{name} ended at its start with status {process.returncode}", "See: voicectl logs letta")
            if time.monotonic() > deadline:
                raise Failed(f"{name} did not answer within {seconds:.0f} s", "See: voicectl logs letta")
            time.sleep(0.2)


def drop_dead_lock(data: Path) -> None:
    """Remove the lock of a PostgreSQL that was killed, if its process is gone but not reaped.

    In a container whose first process reaps nobody it would look alive for ever, and no other could start.
    """
    lock = data / "postmaster.pid"
    try:
        dead = psutil.Process(int(lock.read_text().split("\n")[0])).status() == psutil.STATUS_ZOMBIE
    except (OSError, ValueError, psutil.Error):
        return  # no lock, or nobody has that pid: PostgreSQL sees that by itself
    if dead:
        lock.unlink()


def _end(process: subprocess.Popen[str] | None, how: signal.Signals) -> None:
    if process is None or process.poll() is not None:
        return
    process.send_signal(how)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
