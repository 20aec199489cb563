"""Waiting for a condition that says what is missing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from inspect import isawaitable


def wait_for(missing: Callable[[], str], timeout_s: float = 5.0) -> None:
    """Return when missing() is empty; after timeout_s seconds fail with its last answer."""
    deadline = time.monotonic() + timeout_s
    while (lack := missing()) != "":
        assert time.monotonic() < deadline, f"after {timeout_s} s: {lack}"
        time.sleep(0.01)


async def wait_until(missing: Callable[[], str | Awaitable[str]], timeout_s: float = 5.0) -> None:
    """As wait_for, in an event loop."""
    deadline = time.monotonic() + timeout_s
    while True:
        lack = missing()
        said = await lack if isawaitable(lack) else lack
        if said == "":
            return
        assert time.monotonic() < deadline, f"after {timeout_s} s: {said}"
        await asyncio.sleep(0.01)
