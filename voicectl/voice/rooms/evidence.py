"""What a run-out lease proves: that its owner is gone, but only to who could write all the while; else the store stood.

An observer stamps a lease of its own as often as owners renew theirs. Reads prove nothing: SQLite answers them while a
writer holds the lock for seconds and every owner waits. Not here: what is done about a dead owner (reconciler.py).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from voicectl.memory.errors import FencedOut
from voicectl.memory.store.leases import Grant, Leases, LeaseState
from voicectl.voice.rooms.registry import RENEW_S, TTL_S

STAMP_S = RENEW_S
STAMP_TTL_S = 30.0
# So long a write counts, also while the next one is under way. When the store stops at some moment, an owner's last
# renewal was up to 1 s earlier plus what a write takes, and runs out 2 s later less that: 0.5 s are left for it.
FRESH_S = STAMP_S + 0.5


class Evidence:
    """One observer's own writes.

    Args:
        leases: Where owners renew theirs.
        name: Who observes, for people.
        clock: Seconds that only grow.
    """

    def __init__(self, leases: Leases, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._leases, self._clock = leases, clock
        self._name = f"observer:{name}-{secrets.token_hex(3)}"
        self._grant: Grant | None = None
        self._stamped: float | None = None  # when a write last succeeded
        self._since: float | None = None  # since when every one did, in time

    def stamp(self) -> None:
        """Write, when it is due. Blocks as long as an owner's renewal would.

        Raises:
            StoreUnavailable: The write failed: nothing is proven until TTL_S of writes have succeeded again.
        """
        if self._stamped is not None and self._clock() - self._stamped < STAMP_S:
            return
        try:
            self._stamp()
        except BaseException:
            self._stamped = None
            raise

    def _stamp(self) -> None:
        before = self._stamped
        self._write()
        now = self._clock()
        if before is None or now - before > 2 * STAMP_S:
            self._since = now
        self._stamped = now

    def _write(self) -> None:
        try:
            if self._grant is not None:
                self._grant = self._leases.renew(self._grant, STAMP_TTL_S)
                return
        except FencedOut:  # the row was deleted or edited by hand
            self._grant = None
        self._grant = self._leases.claim(self._name, self._name, STAMP_TTL_S, LeaseState.HELD)

    @property
    def proves(self) -> bool:
        """Whether a lease that has run out by now is the owner's doing."""
        stamped, since, now = self._stamped, self._since, self._clock()  # once each: the writes are made in a thread
        return stamped is not None and since is not None and now - stamped <= FRESH_S and now - since >= TTL_S

    def close(self) -> None:
        """Give the observer's own lease back.

        Raises:
            StoreUnavailable: It runs out by itself.
        """
        if self._grant is not None:
            self._leases.release(self._grant)
            self._grant = None
