"""Runs of pytest that share one start-up: a process that has imported what is not ours forks a child for each run.

    with Nursery() as nursery:
        code, said = nursery.run(folder, ["tests/memory/test_recall.py"])

A child has nothing of ours in memory, so it runs the code that lies in its folder. With `keep=True` it leaves compiled
files there for later runs; without, it leaves nothing, so that a file can be changed and put back in between.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

FOREIGN = (
    *("pytest", "pytest_asyncio.plugin", "pytest_timeout", "anyio.pytest_plugin", "hypothesis", "alembic.command"),
    *("sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql.psycopg", "pydantic_settings", "prometheus_client"),
    *("tenacity", "psutil", "httpx", "fastapi.testclient", "livekit.api", "livekit.agents", "livekit.plugins.openai"),
)
OURS = ("voicectl", "tests", "bench")


class Nursery:
    """The process that forks. Use as a context manager."""

    def __enter__(self) -> Self:
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # a fork takes one thread along
        # By its path and isolated from the folder: `tests` of this checkout must not be importable from it.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).resolve())],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def run(self, folder: Path, words: Sequence[str], *, keep: bool = False) -> tuple[int, str]:
        """Run pytest in a folder; its exit status, and what it wrote. Blocks."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.NamedTemporaryFile("r", prefix="nursery-", errors="replace") as said:
            asked = {"folder": str(folder), "words": list(words), "said": said.name, "keep": keep}
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
            assert answer, f"the nursery ended with {self._process.wait(5)}"
            return int(answer), said.read()


def serve() -> None:
    """Fork a run for each line of stdin, answer each with its exit status."""
    for name in FOREIGN:
        importlib.import_module(name)
    assert not [name for name in sys.modules if name.split(".")[0] in OURS]
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            _run(asked)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(asked: dict[str, object]) -> None:
    """In the child: a run of pytest, and its end. Does not return."""
    import pytest

    out = os.open(str(asked["said"]), os.O_WRONLY | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, target in ((0, nothing), (1, out), (2, out)):
        os.dup2(target, number)
    os.chdir(str(asked["folder"]))
    sys.path.insert(0, str(asked["folder"]))  # before the checkout that is installed here: plugins are imported early
    sys.dont_write_bytecode = not asked["keep"]
    os.environ.pop("PYTEST_CURRENT_TEST", None)
    words = asked["words"]
    assert isinstance(words, list)
    code = pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", *words])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(code))


if __name__ == "__main__":
    serve()
