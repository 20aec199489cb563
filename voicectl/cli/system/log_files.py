"""The logs of an installation: one file a process in VOICE_HOME/logs, rotated by supervisord, read here.

Promise: reads from the end, whatever the size; following goes on over a rotation.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from voicectl.cli.system.home import Home

BLOCK = 65_536


def tail(log: Path, lines: int) -> list[str]:
    """The last lines of a log, across one rotation; empty when there is none."""
    if lines <= 0:
        return []
    found = _tail_of(log, lines)
    rotated = log.with_name(log.name + ".1")
    if len(found) < lines and rotated.exists():
        found = _tail_of(rotated, lines - len(found)) + found
    return found


def _tail_of(log: Path, lines: int) -> list[str]:
    try:
        with log.open("rb") as f:
            at = f.seek(0, os.SEEK_END)
            data = b""
            while at > 0 and data.count(b"\n") <= lines:
                step = min(BLOCK, at)
                at = f.seek(at - step)
                data = f.read(step) + data
    except FileNotFoundError:
        return []
    return data.decode("utf-8", "replace").splitlines()[-lines:]


class Follower:
    """Reads what is added to a log from now on, over rotations.

    Args:
        log: The file; it may not exist yet.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._inode: int | None = log.stat().st_ino if log.exists() else None
        self._position = log.stat().st_size if log.exists() else 0
        self._rest = b""

    def new(self) -> list[str]:
        """Whole lines added since the last call."""
        try:
            info = self._log.stat()
        except FileNotFoundError:
            return []  # between the two steps of a rotation
        data = self._rest
        if self._inode is not None and info.st_ino != self._inode:
            data += self._read(self._log.with_name(self._log.name + ".1"), self._inode)
            self._position = 0
        self._inode = info.st_ino
        data += self._read(self._log, info.st_ino)
        *whole, self._rest = data.split(b"\n")
        return [line.decode("utf-8", "replace") for line in whole]

    def _read(self, path: Path, inode: int) -> bytes:
        """What is behind our position in the file that has this inode, wherever it is called now."""
        try:
            with path.open("rb") as f:
                if os.fstat(f.fileno()).st_ino != inode:
                    return b""
                f.seek(self._position)
                data = f.read()
                self._position += len(data)
                return data
        except FileNotFoundError:
            return b""


def names(home: Home) -> list[str]:
    """Which logs there are."""
    return sorted(p.stem for p in home.logs.glob("*.log"))


def follow(logs: Mapping[str, Path], wait: Callable[[float], None] = time.sleep) -> Iterator[tuple[str, str]]:
    """Lines of several logs as they are added, for ever: the log's name and the line."""
    followers = {name: Follower(path) for name, path in logs.items()}
    while True:
        new = [(name, line) for name, follower in followers.items() for line in follower.new()]
        yield from new
        if not new:
            wait(0.2)
