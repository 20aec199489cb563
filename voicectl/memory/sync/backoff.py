"""When to try again: doubling waits with jitter. No clock of its own, so that tests need not wait."""

from __future__ import annotations

import random
import time
from collections.abc import Callable


class Backoff:
    """When to try again after failures: doubling, with jitter, up to a limit; one success forgets them.

    Args:
        first_s: The first wait, in seconds.
        longest_s: The longest.
        clock: Seconds, only differences count.
        chance: A random number from 0 to 1.
    """

    def __init__(
        self,
        first_s: float = 0.5,
        longest_s: float = 30.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self._clock, self._chance = clock, chance
        self._failures = 0
        self._until = 0.0

    @property
    def due(self) -> bool:
        """Whether it is time."""
        return self._clock() >= self._until

    @property
    def failing(self) -> bool:
        """Whether the last try failed."""
        return self._failures > 0

    def failed(self, at_least_s: float = 0.0) -> None:
        """A try failed; the next one is not before some seconds have passed."""
        longest = min(self._longest_s, self._first_s * 2**self._failures)
        self._failures = min(self._failures + 1, 20)
        self._until = self._clock() + max(at_least_s, longest * (0.5 + self._chance() / 2))

    def wait(self, seconds: float) -> None:
        """Neither failure nor success; just not before some seconds have passed."""
        self._until = self._clock() + seconds

    def succeeded(self) -> None:
        """A try succeeded."""
        self._failures = 0
        self._until = 0.0
