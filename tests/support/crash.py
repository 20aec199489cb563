"""Child processes that kill themselves at a point of their work, forked from a server that has imported everything."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any

PRELOAD = [
    "voicectl.memory.recorder",
    "voicectl.memory.effects",
    "voicectl.memory.learning.step",
    "voicectl.memory.backends.letta",
    "sqlalchemy.dialects.postgresql.psycopg",
    "alembic",
]


def die() -> None:
    """End this process as a crash would."""
    os.kill(os.getpid(), signal.SIGKILL)


def killed(work: Callable[..., None], *args: Any, within_s: float = 60) -> None:
    """Run work in a process of its own, which must end by `die`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    child = context.Process(target=work, args=args)
    child.start()
    child.join(within_s)
    assert child.exitcode == -signal.SIGKILL, f"it ended with {child.exitcode}, not by its own hand"
