"""A Letta and its syncer that go wrong on request: hung, failing, gone, stopped.

The server is the tests' stub; the syncer is the real one in a process of its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.support.letta_stub import LettaStub

ROOT = Path(__file__).resolve().parents[1]
# SIGUSR1: the next write stops the process inside its transaction, with the store's write lock in its hand.
SYNCER = """
import logging, os, signal
from contextlib import contextmanager
from voicectl.memory import syncer
from voicectl.memory.config import MemorySettings, load
from voicectl.memory.store.engine import Store

logging.basicConfig(level=logging.WARNING)
armed = []
signal.signal(signal.SIGUSR1, lambda *_: armed.append(1))
whole = Store.write

@contextmanager
def write(self):
    with whole(self) as connection:
        yield connection
        if armed and "memory.db" in self.where:
            armed.clear()
            os.kill(os.getpid(), signal.SIGSTOP)

Store.write = write
syncer.run(load(MemorySettings))
"""


class MoodyLetta(LettaStub):
    """Letta with a mood: "ok", "hung" (takes a request and never answers), "500"."""

    def __init__(self) -> None:
        super().__init__()
        self.mood = "ok"
        self.asked = 0

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        self.asked += 1
        if self.mood == "hung":
            self.silence.wait(600)
        if self.mood in ("hung", "500"):
            return 500, {"detail": "broken"}
        return super().answer(method, path, query, body)


class Syncer:
    """The real syncer."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    @property
    def stopped(self) -> bool:
        """Whether the kernel says that it is stopped."""
        return bool(psutil.Process(self.process.pid).status() == psutil.STATUS_STOPPED)

    def stop(self) -> None:
        """Stop it wherever it is."""
        self.process.send_signal(signal.SIGSTOP)

    def stop_in_a_write(self) -> None:
        """Stop it inside its next write to the store; needs turns to mirror."""
        self.process.send_signal(signal.SIGUSR1)

    def go_on(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def syncer(home: Path, letta_url: str, password: str = "bench") -> Iterator[Syncer]:
    """Run the syncer of a home against a Letta."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("VOICE_", "MEMORY_", "LETTA_"))}
    environment |= {
        "VOICE_HOME": str(home),
        "VOICE_ENV_FILE": str(home / "none.env"),
        "LETTA_BASE_URL": letta_url,
        "LETTA_API_KEY": password,
    }
    with (home / "syncer.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-c", SYNCER], env=environment, cwd=ROOT, stdout=log, stderr=log)
    try:
        yield Syncer(process)
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait(20)


def until(missing: Any, timeout_s: float = 30.0) -> None:
    """Wait for a condition that is false until `missing()` is empty."""
    deadline = time.monotonic() + timeout_s
    while lack := missing():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {timeout_s} s: {lack}")
        time.sleep(0.01)
