"""Progress of several steps at once, one line an event, on stderr and in logs/up.log with seconds and bytes.

Promise: a step that runs says something at least every EVERY_S seconds while it reports; safe from several threads.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

EVERY_S = 5.0
MB = 1_000_000


class Progress:
    """Collects what steps report.

    Args:
        say: Receives each line.
        log: File the lines are added to with a time; None for none.
        clock: Seconds, only differences count.
    """

    def __init__(
        self, say: Callable[[str], None], log: Path | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say, self._log, self._clock = say, log, clock
        self._lock = threading.Lock()
        self._begun: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._bytes: dict[str, int] = {}
        self._start = clock()

    def step(self, name: str, done: int = 0, total: int = 0, doing: str = "") -> None:
        """A step reports.

        Args:
            name: The step.
            done: Bytes so far, 0 when it does not count bytes.
            total: Bytes in all, 0 when not known.
            doing: What it is at, in a word or two.
        """
        with self._lock:
            now = self._clock()
            first = name not in self._begun
            begun = self._begun.setdefault(name, now)
            self._bytes[name] = max(done, self._bytes.get(name, 0))
            if not first and now - self._last[name] < EVERY_S:
                return
            self._last[name] = now
            amount = f"  {done / MB:.0f} of {total / MB:.0f} MB" if total else f"  {done / MB:.0f} MB" if done else ""
            self._write(f"  {name:<20}{doing or 'working':<28}{now - begun:5.1f} s{amount}")

    def done(self, name: str, result: str = "ready") -> None:
        """A step is finished."""
        with self._lock:
            now = self._clock()
            seconds = now - self._begun.setdefault(name, now)
            amount = f"  {self._bytes[name] / MB:.1f} MB" if self._bytes.get(name) else ""
            self._write(f"  {name:<20}{result:<28}{seconds:5.1f} s{amount}")

    def total(self, result: str) -> None:
        """Everything is finished."""
        with self._lock:
            seconds = self._clock() - self._start
            amount = sum(self._bytes.values())
            self._write(f"  {result} after {seconds:.1f} s" + (f", {amount / MB:.0f} MB fetched" if amount else ""))

    def _write(self, line: str) -> None:
        self._say(line)
        if self._log is None:
            return
        # A full disk must be told by the step that needs it, not by the note that it was told.
        with contextlib.suppress(OSError), self._log.open("a") as f:
            f.write(f"{datetime.now().astimezone().isoformat(timespec='seconds')}{line}\n")
