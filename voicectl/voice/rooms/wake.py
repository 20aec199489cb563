"""What makes a reconciler look now and not at its next poll: leases, and whoever has news.

    wake = Wake(leases)
    await wake.wait(0.5)    # at most; sooner when there is a reason to look

A reason is a lease of a room or a worker that was taken, released, edited, deleted or has run out, whoever did it in
whatever process; or `poke`: a webhook, a job that ended. Renewals are none. A wake says nothing but "look": who looks
reads for itself, and a wake that was missed is made up for by the next poll.
Not here: how a change of leases is seen (memory/store/lease_watch.py), what is done then (reconciler.py).
"""

from __future__ import annotations

import asyncio
import time

from voicectl.memory.errors import StoreUnavailable
from voicectl.memory.store.lease_watch import LeaseWatch
from voicectl.memory.store.leases import Leases

LOOK_S = 0.1
GAP_S = 0.1  # between two wakes: the webhooks of a burst of joins are one reason to look, not forty
ROOM_NAMES, WORKER_NAMES = "room:", "worker:"


class Wake:
    """For one reconciler, in its event loop.

    Args:
        leases: Where rooms and workers are kept.
    """

    def __init__(self, leases: Leases) -> None:
        self._watch = LeaseWatch(leases, (ROOM_NAMES, WORKER_NAMES))
        self._poked = asyncio.Event()
        self._woke = float("-inf")

    def poke(self) -> None:
        """Wake whoever waits, or the next who does; called in the event loop. Many pokes are one wake."""
        self._poked.set()

    async def wait(self, at_most_s: float) -> None:
        """Return when there is a reason to look, else after `at_most_s` seconds.

        A store that does not answer is no reason; while it is asked this may last a second longer (its patience).
        """
        end = time.monotonic() + at_most_s
        blind = False
        while not self._poked.is_set():
            if not blind and self._watch.stirred():
                try:
                    if await asyncio.to_thread(self._watch.look):
                        break
                except StoreUnavailable:
                    blind = True  # whoever polls will say so
            left = end - time.monotonic()
            if left <= 0:
                return
            await self._pause(left if blind else min(LOOK_S, left, max(self._watch.due_s, 0)))
        if (gap := self._woke + GAP_S - time.monotonic()) > 0:
            await asyncio.sleep(gap)
        self._poked.clear()
        self._woke = time.monotonic()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._poked.wait()
        except TimeoutError:
            pass

    def close(self) -> None:
        """Stop watching."""
        self._watch.close()
