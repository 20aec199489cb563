"""Bringing what is missing onto this disk: the LiveKit server, the models and the page, at the same time.

Promise: a step that fails ends the others soon and leaves nothing half-installed; everything resumes or starts afresh
the next time. Not here: whether the machine can take it (preflight.py).
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from voicectl.cli.errors import CliFault, Failed, NotFound, Refused
from voicectl.cli.system import livekit_server, page
from voicectl.cli.system.home import Home
from voicectl.cli.system.progress import Progress
from voicectl.cli.system.strays import belonging, end
from voicectl.memory.config import checkout
from voicectl.voice import models

Job = Callable[[], None]


def page_is_missing() -> bool:
    """Whether the page must be built: we are a checkout, and it is not built from the present sources."""
    return (checkout() / "page" / "package.json").exists() and not page.ready()


def jobs(
    home: Home, progress: Progress, *, build_livekit: bool, names: Sequence[str], build_page: bool
) -> dict[str, Job]:
    """What there is to do, by step name.

    Args:
        home: The installation.
        progress: Told what each step does.
        build_livekit: Whether the LiveKit server must be built.
        names: Models that are not ready.
        build_page: Whether the page must be built.
    """
    todo: dict[str, Job] = {}
    if build_livekit:
        todo["livekit-server"] = lambda: _livekit(home, progress)
    if names:
        todo["models"] = lambda: pull_models(home.root, names, progress)
    if build_page:
        todo["page"] = lambda: _page(home, progress)
    return todo


def _livekit(home: Home, progress: Progress) -> None:
    livekit_server.build(home, lambda done, total, doing: progress.step("livekit-server", done, total, doing))
    progress.done("livekit-server", "built")


def pull_models(home: Path, names: Sequence[str], progress: Progress) -> None:
    """Fetch models with progress.

    Raises:
        Refused: The disk is too full or the processor too old.
        Failed: No source gave them.
        NotFound: The catalogue has no such name.
    """
    current: list[str] = []  # models are pulled one after the other

    def step(s: models.Step) -> None:
        if current and current[-1] != s.model:
            progress.done(current[-1])
        if s.model not in current:
            current.append(s.model)
        progress.step(s.model, s.done, s.total, "fetching")

    try:
        models.pull(names, home, step)
        for name in current[-1:]:
            progress.done(name)
    except (models.DiskShort, models.CpuTooOld) as e:
        raise Refused(str(e)) from e
    except models.UnknownModel as e:
        raise NotFound(str(e)) from e
    except models.ModelFault as e:
        raise Failed(str(e)) from e


def _page(home: Home, progress: Progress) -> None:
    page.build(home.root, lambda done, total, doing: progress.step("page", done, total, doing))
    progress.done("page", "built")


def _raise(name: str, error: Exception | None) -> None:
    if isinstance(error, CliFault):
        raise error
    if error is not None:
        raise Failed(f"installing {name}: {error}") from error


def run(todo: dict[str, Job], home: Home, patience_s: float = 30.0) -> None:
    """Do everything at once; return when all is done.

    Args:
        todo: What to do, by step name.
        home: The installation.
        patience_s: How long the others may take to clean up after one failed, in seconds.

    Raises:
        CliFault: The first step that failed; the others were ended.
    """
    ended: queue.SimpleQueue[tuple[str, Exception | None]] = queue.SimpleQueue()

    def work(name: str, job: Job) -> None:
        try:
            job()
        except Exception as e:  # noqa: BLE001  (handed to the thread that waits, which raises it)
            ended.put((name, e))
        else:
            ended.put((name, None))

    # Daemon threads: a person who presses Ctrl-C does not wait for a download. Steps resume, so nothing is lost.
    threads = {n: threading.Thread(target=work, args=(n, job), name=n, daemon=True) for n, job in todo.items()}
    for thread in threads.values():
        thread.start()
    try:
        for _ in threads:
            name, error = ended.get()
            _raise(name, error)
    except BaseException:
        _wind_up(home, [threads[n] for n in threads.keys() & {"livekit-server", "page"}], patience_s)
        raise


def _wind_up(home: Home, builders: Sequence[threading.Thread], patience_s: float) -> None:
    """End what the builders run until they are done, as one may be between two programs; they remove a gigabyte."""
    deadline = time.monotonic() + patience_s
    while (left := [t for t in builders if t.is_alive()]) and time.monotonic() < deadline:
        end([f for f in belonging(home) if f.part in (livekit_server.BUILDING, page.BUILDING)])
        left[0].join(0.2)
