"""Turns that the store would not take: one file a call, one JSON object a line, fsynced, replayed under the same keys.

Several may work on one file at once (the job that writes it, its successor, the syncer): what was replayed is cut away
only as far as it was read. Not here: when a turn goes here (recorder.py).
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sqlalchemy import select

from voicectl.memory.calls import Call, end_replaced, insert_late, is_forgotten, now_ms
from voicectl.memory.errors import StoreUnavailable
from voicectl.memory.identity import clean
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import calls, turns
from voicectl.memory.turns import Role, Turn, row_id, write_turn

log = logging.getLogger(__name__)

OPENING = "call"  # the key of a journal's first line, when it says which call it is


@dataclass(frozen=True)
class Entry:
    """A turn in a journal."""

    fence: int  # of the job that wrote it
    turn: Turn


class Journal:
    """Turns of one call that the store would not take.

    Args:
        path: The file; it exists only while it holds turns.
        fence: Of the job that appends.
        opening: The call, when the store does not know it: it becomes the first line, so that the turns find it.
    """

    def __init__(self, path: Path, fence: int = 0, opening: Call | None = None) -> None:
        self._path = path
        self._fence = fence
        self._opening = opening

    def opened(self, fence: int) -> None:
        """The store knows the call by now, and this is our fence of it."""
        self._fence, self._opening = fence, None

    @property
    def waiting(self) -> bool:
        """Whether there are turns to replay."""
        return self._path.exists()

    def append(self, new: list[Turn]) -> None:
        """Add turns; durable on return.

        Raises:
            OSError: The disk did not take them.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lines = "".join(json.dumps({"fence": self._fence, **asdict(turn)}) + "\n" for turn in new).encode()
        with self._locked(os.O_CREAT) as fd:
            size = os.fstat(fd).st_size
            if size and os.pread(fd, 1, size - 1) != b"\n":
                lines = b"\n" + lines  # a line that a crash cut short must not swallow the next one
            if not size and self._opening is not None:
                lines = json.dumps({OPENING: asdict(self._opening)}).encode() + b"\n" + lines
            os.lseek(fd, 0, os.SEEK_END)
            _write(fd, lines)
            os.fsync(fd)
        if not size:
            self._sync_folder()

    def read(self) -> list[Turn]:
        """The turns in order. A last line cut short by a crash was never durable and is left out."""
        return [entry.turn for entry in self.entries()[0]]

    def entries(self) -> tuple[list[Entry], bytes]:
        """The turns in order with who wrote them, and the bytes that held them, for `clear`."""
        try:
            raw = self._path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return [], b""
        found: list[Entry] = []
        for line in raw.split(b"\n")[:-1]:
            try:
                values = json.loads(line)
                if OPENING in values:
                    continue
                fence = int(values.pop("fence", 0))
                found.append(Entry(fence, Turn(**{**values, "role": Role(values["role"])})))
            except (ValueError, TypeError, KeyError):
                if line:
                    log.warning("a line of a journal is not whole", extra={"journal": self._path.name})
        return found, raw

    def opening(self) -> Call | None:
        """The call that these turns began while the store was away; None when the store knew it."""
        try:
            with self._path.open("rb") as f:
                begun = Call(**json.loads(f.readline())[OPENING])
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
            return None
        words = (begun.id, begun.customer, begun.room, begun.desk)
        whole = all(isinstance(w, str) and w == clean(w) for w in words) and isinstance(begun.began_ms, int)
        return begun if whole and begun.id == self._path.stem else None  # a copy is not another call

    def clear(self, replayed: bytes) -> None:
        """Forget what was read as these bytes: the store has it. What was added since stays."""
        if not replayed:
            return
        try:
            with self._locked(0) as fd:
                there = os.pread(fd, os.fstat(fd).st_size, 0)
                if not there.startswith(replayed):
                    return  # somebody else replayed it and a new one was begun
                if len(there) == len(replayed):
                    self._path.unlink()
                    return
                draft = self._path.with_suffix(f".{os.getpid()}.draft")
                with draft.open("wb") as f:
                    f.write(there[len(replayed) :])
                    f.flush()
                    os.fsync(f.fileno())
                draft.replace(self._path)
        except FileNotFoundError:
            return

    def set_aside(self) -> None:
        """Rename the file, so that nobody reads it as a journal again; a person may look at it."""
        try:
            with self._locked(0):
                self._path.rename(self._path.with_suffix(f".{now_ms()}.broken"))
        except OSError as e:
            log.error("a journal cannot be moved aside", extra={"journal": self._path.name, "why": str(e)})

    @contextmanager
    def _locked(self, flags: int) -> Iterator[int]:
        """The file, locked; never one that was replaced while we waited for the lock."""
        while True:
            fd = os.open(self._path, os.O_RDWR | flags, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                if self._is(fd):
                    yield fd
                    return
            finally:
                os.close(fd)

    def _is(self, fd: int) -> bool:
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (os.fstat(fd).st_dev, os.fstat(fd).st_ino)

    def _sync_folder(self) -> None:
        """Make the new name itself survive a power cut."""
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def replay_left_journals(store: Store, journal_dir: Path, *, idle_s: float = 0) -> int:
    """Write the journals of calls whose job is gone; returns how many turns were written.

    Safe beside a job that still uses its journal. A journal that cannot be replayed does not keep the others from it:
    it is moved aside as `CALL.MILLISECONDS.broken`, and the log says so.

    Args:
        store: Where they belong.
        journal_dir: Where they lie.
        idle_s: Leave those alone to which something was added in the last so many seconds: their jobs live.

    Raises:
        StoreUnavailable: The store does not answer; the journals stay.
    """
    written, refused = 0, 0
    for path in [p for p in sorted(journal_dir.glob("*.jsonl")) if not idle_s or _idle_s(p) >= idle_s]:
        try:
            written += replay_journal(store, path)
            refused = 0
        except StoreUnavailable:
            refused += 1  # one may be what is in it; a second one after it is the store
            if refused == 2:
                raise
    return written


def _idle_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def replay_journal(store: Store, path: Path) -> int:
    """Write one call's journal; returns how many turns were written.

    A turn is written under the fence of the job that said it: of a call that another job has by now, or that has ended,
    it goes to the refused ones.

    Raises:
        StoreUnavailable: The store does not answer; the journal stays.
    """
    journal = Journal(path)
    try:
        return _replay(store, journal, path.stem)
    except StoreUnavailable:
        raise
    except OSError as e:  # of the disk, not of what is in the file: it may be readable later
        log.error("a journal cannot be read or cut", extra={"journal": path.name, "why": str(e)})
        return 0
    except Exception:  # whatever is in it: a worker that starts, and the other journals, must not stop at it
        log.exception("a journal cannot be replayed and is moved aside", extra={"journal": path.name})
        journal.set_aside()
        return 0


def _replay(store: Store, journal: Journal, call_id: str) -> int:
    found, raw = journal.entries()
    written = 0
    with store.write() as connection:
        row = connection.execute(select(calls).where(calls.c.id == call_id)).first()
        if row is not None:
            held = Call(row.id, row.customer, row.generation, row.room, row.desk, int(row.fence))
        else:
            begun = journal.opening()
            late = insert_late(connection, begun) if begun is not None else None
            if late is None:
                if begun is not None or is_forgotten(connection, call_id):
                    journal.clear(raw)
                else:
                    log.warning("a journal belongs to no call", extra={"call": call_id})
                return 0
            held = late
            # Its job may have brought turns into a call that another had begun in this room, and died before the cut.
            there = select(turns.c.item_id).join(calls, calls.c.id == turns.c.call_id).where(calls.c.room == late.room)
            stored = set(connection.execute(there).scalars())
            found = [entry for entry in found if row_id(entry.turn.item_id) not in stored]
        for entry in found:
            written += write_turn(connection, replace(held, fence=entry.fence or held.fence), entry.turn)
        if row is None:
            end_replaced(connection, held)
    journal.clear(raw)
    return written
