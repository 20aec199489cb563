"""Waiting for a condition that says what is missing.

A limit is for what never comes: it says nothing about speed, and is long enough for a machine that is busy otherwise.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from inspect import isawaitable

PAUSE_S, LONGEST_PAUSE_S = 0.01, 0.5
REST = 2  # times as long as the last look took: a look may start a process, and what is waited for needs the processor


def _pause_s(looked_s: float) -> float:
    return min(max(PAUSE_S, REST * looked_s), LONGEST_PAUSE_S)


def wait_for(missing: Callable[[], str], timeout_s: float = 20.0) -> None:
    """Return when missing() is empty; after timeout_s seconds fail with its last answer."""
    deadline = time.monotonic() + timeout_s
    while True:
        begun = time.monotonic()
        if (lack := missing()) == "":
            return
        now = time.monotonic()
        assert now < deadline, f"after {timeout_s} s: {lack}"
        time.sleep(_pause_s(now - begun))


async def wait_until(missing: Callable[[], str | Awaitable[str]], timeout_s: float = 20.0) -> None:
    """As wait_for, in an event loop."""
    deadline = time.monotonic() + timeout_s
    while True:
        begun = time.monotonic()
        lack = missing()
        said = await lack if isawaitable(lack) else lack
        if said == "":
            return
        now = time.monotonic()
        assert now < deadline, f"after {timeout_s} s: {said}"
        await asyncio.sleep(_pause_s(now - begun))
