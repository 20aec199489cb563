"""Recording without waiting: finished turns go to a writer thread, which makes them durable.

`add` returns at once. The thread commits in order; when the store refuses, it appends to a journal of the call
(fsynced) and replays it under the same keys as soon as the store answers. A process that dies leaves the journal to the
call's successor, else to `replay_left_journals`. Each write is conditional on the call's fence: a refused turn goes to
a visible list, and the writer learns that it is fenced out.
Not here: which events of LiveKit become turns (voice/call.py), Letta (syncer.py).
"""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from sqlalchemy import Connection, insert, select, update

from voicectl.memory.calls import Call, CallState, now_ms
from voicectl.memory.errors import StoreUnavailable
from voicectl.memory.identity import clean
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import calls, refused_turns, turns

log = logging.getLogger(__name__)

# 25 ms for the store's lock leaves room for the journal's fsync inside the 50 ms that protocols 4 promises.
PATIENCE_MS = 25
LATE_MS = 50
RETRY_S = 0.25


class Role(StrEnum):
    """Who a turn belongs to."""

    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"  # a call with its result, one row
    HANDOFF = "handoff"


@dataclass(frozen=True)
class Turn:
    """One finished turn, as heard."""

    item_id: str
    role: Role
    text: str
    at_ms: int
    interrupted: bool = False
    agent: str = ""
    progress: str = ""  # JSON of the call's state after this turn, committed with it; "" leaves it


@dataclass(frozen=True)
class Signals:
    """Points at which a test may stop or kill the writer; nothing happens by default."""

    before_commit: Callable[[], None] = lambda: None
    after_commit: Callable[[], None] = lambda: None
    after_journal: Callable[[], None] = lambda: None


@dataclass
class Figures:
    """What the recorder measured; milliseconds from `add` to durable, of the last turn and the worst."""

    recorded: int = 0
    journalled: int = 0
    refused: int = 0
    last_ms: float = 0.0
    worst_ms: float = 0.0
    late: int = 0  # turns that took longer than LATE_MS


_CLOSE = object()


class Recorder:
    """Writes the turns of one call. One instance per call and process.

    Args:
        store: Where turns are kept.
        call: The call, with the fence that may write it.
        journal_dir: Folder for the journal of a call whose store does not answer.
        on_fenced_out: Called from the writer thread, once, when another job has taken the call.
        signals: For tests.
    """

    def __init__(
        self,
        store: Store,
        call: Call,
        *,
        journal_dir: Path,
        on_fenced_out: Callable[[], None] = lambda: None,
        signals: Signals | None = None,
    ) -> None:
        self._store = store.impatient(PATIENCE_MS)
        self._call = call
        self._journal = Journal(journal_dir / f"{call.id}.jsonl")
        self._on_fenced_out = on_fenced_out
        self._signals = signals or Signals()
        self._queue: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._pending = 0
        self._durable = threading.Condition()
        self._fenced_out = False
        self.figures = Figures()
        self._thread = threading.Thread(target=self._run, name=f"recorder-{call.id}", daemon=True)
        self._thread.start()

    def add(self, turn: Turn) -> None:
        """Hand over a turn. Never blocks, never raises; the turn is durable when `flush` returns True."""
        with self._durable:
            self._pending += 1
        self._queue.put((turn, time.perf_counter()))

    @property
    def pending(self) -> int:
        """Turns that are not durable yet."""
        return self._pending

    def flush(self, timeout_s: float) -> bool:
        """Wait until every turn handed over is durable, in the store or in the journal."""
        with self._durable:
            return self._durable.wait_for(lambda: self._pending == 0, timeout_s)

    def close(self, timeout_s: float = 5.0) -> bool:
        """Make everything durable and stop the thread; False when that took longer than `timeout_s` seconds."""
        self._queue.put(_CLOSE)
        self._thread.join(timeout_s)
        self._store.close()
        return not self._thread.is_alive()

    def _run(self) -> None:
        waiting: list[tuple[Turn, float]] = []
        closing = False
        while not closing:
            try:
                item = self._queue.get(timeout=RETRY_S if self._journal.waiting else None)
                while True:
                    if item is _CLOSE:
                        closing = True
                    else:
                        waiting.append(item)  # type: ignore[arg-type]
                    item = self._queue.get_nowait()
            except queue.Empty:
                pass  # all that was handed over so far is in `waiting`
            self._make_durable(waiting)
            waiting.clear()
        self._make_durable([])

    def _make_durable(self, waiting: list[tuple[Turn, float]]) -> None:
        new = [turn for turn, _ in waiting]
        try:
            left = self._journal.read()
            if left or new:
                self._signals.before_commit()
                with self._store.write() as connection:
                    refused = [t for t in [*left, *new] if not write_turn(connection, self._call, t)]
                self._signals.after_commit()
                self._journal.clear()
                self.figures.recorded += len(left) + len(new) - len(refused)
                self._refused(refused)
        except StoreUnavailable as e:
            if new:
                self._journal.append(new)
                self._signals.after_journal()
                self.figures.journalled += len(new)
                log.warning("turns went to the journal", extra={"count": len(new), "why": e.reason})
        done = time.perf_counter()
        for _, begun in waiting:
            self.figures.last_ms = (done - begun) * 1000
            self.figures.worst_ms = max(self.figures.worst_ms, self.figures.last_ms)
            self.figures.late += self.figures.last_ms > LATE_MS
        with self._durable:
            self._pending -= len(waiting)
            self._durable.notify_all()

    def _refused(self, refused: list[Turn]) -> None:
        if not refused:
            return
        self.figures.refused += len(refused)
        log.warning("turns were refused", extra={"count": len(refused), "call": self._call.id})
        if not self._fenced_out:
            self._fenced_out = True
            self._on_fenced_out()


def write_turn(connection: Connection, call: Call, turn: Turn) -> bool:
    """Write one turn under its own key inside a transaction; a turn that is there already stays as it is.

    Returns:
        False when the call is another's or over; the turn is then among the refused ones.
    """
    same = (turns.c.call_id == call.id) & (turns.c.item_id == turn.item_id)
    if connection.execute(select(turns.c.seq).where(same)).first() is not None:
        return True
    values: dict[str, object] = {"last_seq": calls.c.last_seq + 1}
    if turn.progress:
        values["progress"] = turn.progress
    seq = connection.execute(
        update(calls)
        .where(calls.c.id == call.id, calls.c.fence == call.fence, calls.c.state != CallState.ENDED)
        .values(**values)
        .returning(calls.c.last_seq)
    ).scalar()
    if seq is None:
        why = "the call is another job's, or over"
        row = {"call_id": call.id, "item_id": turn.item_id, "fence": call.fence, "role": turn.role}
        connection.execute(insert(refused_turns).values(**row, text=clean(turn.text), why=why, at_ms=turn.at_ms))
        return False
    connection.execute(
        insert(turns).values(
            call_id=call.id,
            seq=seq,
            item_id=turn.item_id,
            role=turn.role,
            text=clean(turn.text),
            interrupted=int(turn.interrupted),
            agent=turn.agent,
            at_ms=turn.at_ms or now_ms(),
        )
    )
    return True


class Journal:
    """Turns of one call that the store would not take, one JSON object a line, fsynced.

    Args:
        path: The file; it exists only while it holds turns.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def waiting(self) -> bool:
        """Whether there are turns to replay."""
        return self._path.exists()

    def append(self, new: list[Turn]) -> None:
        """Add turns; durable on return."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a") as f:
            for turn in new:
                f.write(json.dumps(asdict(turn)) + "\n")
            f.flush()
            os.fsync(f.fileno())

    def read(self) -> list[Turn]:
        """The turns in order. A last line cut short by a crash was never durable and is left out."""
        try:
            text = self._path.read_text()
        except FileNotFoundError:
            return []
        found: list[Turn] = []
        for line in text.split("\n")[:-1]:
            values = json.loads(line)
            found.append(Turn(**{**values, "role": Role(values["role"])}))
        return found

    def clear(self) -> None:
        """Forget the turns: the store has them."""
        self._path.unlink(missing_ok=True)


def replay_left_journals(store: Store, journal_dir: Path) -> int:
    """Write the journals of calls whose job is gone; returns how many turns were written.

    A job's turns were said before the call ended, so they are taken whatever the call's state is now.

    Raises:
        StoreUnavailable: The store does not answer; the journals stay.
    """
    written = 0
    for path in sorted(journal_dir.glob("*.jsonl")):
        journal = Journal(path)
        with store.write() as connection:
            row = connection.execute(select(calls).where(calls.c.id == path.stem)).first()
            if row is None:
                continue
            call = Call(row.id, row.customer, row.generation, row.room, row.desk, row.fence)
            written += sum(write_turn(connection, call, turn) for turn in journal.read())
        journal.clear()
    return written
