"""Whether the backend is worth asking: a circuit breaker, with the clock of its Backoff.

Closed: everybody may ask. Open: nobody, until the back-off is over. Then a probe; after it one request at a time, until
one has succeeded. Not here: what the probe is (syncer.py), waits of one customer (backoff.py).
"""

from __future__ import annotations

import threading
from enum import StrEnum

from voicectl.memory.sync.backoff import Backoff


class BreakerState(StrEnum):
    """What the breaker lets through."""

    CLOSED = "closed"  # all. LIMIT soft failures in a row, or one hard → OPEN
    OPEN = "open"  # nothing. Back-off over and probe answered → HALF_OPEN; probe failed → OPEN, longer
    HALF_OPEN = "half open"  # one at a time. Success → CLOSED; failures as in CLOSED → OPEN, longer


class Breaker:
    """One for a backend; threads may share it. A new one is open and due, so that a probe comes first.

    Args:
        backoff: When to probe.
        limit: Soft failures in a row that open it.
    """

    def __init__(self, backoff: Backoff, limit: int = 3) -> None:
        self._backoff, self._limit = backoff, limit
        self._lock = threading.Lock()
        self._failures = 0
        self.state = BreakerState.OPEN

    @property
    def probe_due(self) -> bool:
        """Whether it is time to find out if the backend is back."""
        return self.state == BreakerState.OPEN and self._backoff.due

    def room(self, most: int, under_way: int) -> int:
        """How many more requests may begin, of at most `most` at a time."""
        if self.state == BreakerState.OPEN:
            return 0
        return max(0, (1 if self.state == BreakerState.HALF_OPEN else most) - under_way)

    def probed(self, *, answered: bool) -> None:
        """The probe has ended."""
        with self._lock:
            if answered:
                self.state = BreakerState.HALF_OPEN
                self._failures = 0
            else:
                self._open()

    def succeeded(self) -> None:
        """A request did what it should."""
        with self._lock:
            self._failures = 0
            if self.state == BreakerState.HALF_OPEN:
                self.state = BreakerState.CLOSED
                self._backoff.succeeded()

    def failed(self, *, hard: bool) -> bool:
        """A request did not.

        Args:
            hard: Nobody answered; else it may be the fault of one request.

        Returns:
            Whether this opened it.
        """
        with self._lock:
            self._failures += 1
            if self.state == BreakerState.OPEN:
                return False  # a request of before
            if hard or self._failures >= self._limit:  # one bad request may be one customer's, on trial too
                self._open()
                return True
            return False

    def _open(self) -> None:
        self.state = BreakerState.OPEN
        self._backoff.failed()
