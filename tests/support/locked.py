"""SQLite files that a foreign process locks for a while, as a backup, a shell or a disk that stands still does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCKER = """
import sqlite3, sys
held = [sqlite3.connect(path, isolation_level=None, timeout=10) for path in sys.argv[1:]]
for one in held:
    one.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.readline()
for one in held:
    one.execute("ROLLBACK")
"""


@contextmanager
def locked(*files: Path) -> Iterator[None]:
    """SQLite files that nobody else can write while this lasts: a foreign process holds them."""
    argv = [sys.executable, "-c", LOCKER, *map(str, files)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "locked\n":
            raise RuntimeError(f"{files} could not be locked")
        yield
        process.communicate("\n")
    if process.returncode:
        raise RuntimeError("the lock was not held to the end")
