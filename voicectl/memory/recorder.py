"""Recording without waiting: finished turns go to a writer thread, which makes them durable.

`add` returns at once. The thread commits in order; when the store refuses or does not answer in time, it appends to a
journal of the call (fsynced) and replays it under the same keys as soon as the store answers. A process that dies
leaves the journal to the call's successor, else to `replay_left_journals`. A call that begins while the store is away
has all its turns in the journal until `opened`. Each write is conditional on the call's fence: a refused turn goes to a
visible list, and the writer learns that it is fenced out.
Not here: a turn and its row (turns.py), the file (journal.py), which events of LiveKit become turns (voice/).
"""

from __future__ import annotations

import dataclasses
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from voicectl.memory.calls import Call
from voicectl.memory.errors import StoreUnavailable
from voicectl.memory.journal import Entry, Journal, replay_left_journals
from voicectl.memory.store.engine import Store
from voicectl.memory.turns import Role, Turn, write_turn

__all__ = [
    "Figures",
    "Journal",
    "Recorder",
    "Role",
    "Signals",
    "Turn",
    "replay_left_journals",
    "write_turn",
]

log = logging.getLogger(__name__)

# 25 ms for the store's lock leaves room for the journal's fsync inside the 50 ms that protocols 4 promises.
PATIENCE_MS = 25
LATE_MS = 50
RETRY_S = 0.25
SETTLE_S = 2.0  # how long a closing recorder waits for a store that refuses
INHERIT_S = 1.0  # how long a successor waits for its predecessor's journal before it reads the history


@dataclass(frozen=True)
class Signals:
    """Points at which a test may stop or kill the writer; nothing happens by default."""

    before_commit: Callable[[], None] = lambda: None  # rows written, not committed
    after_commit: Callable[[], None] = lambda: None  # the store has the turns; a journal of them is still there
    after_clear: Callable[[], None] = lambda: None  # and now it is gone
    before_journal: Callable[[], None] = lambda: None  # the store refused
    after_journal: Callable[[], None] = lambda: None  # durable in the journal only


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
Waiting = tuple[Turn, float]


class Recorder:
    """Writes the turns of one call. One instance per call and process.

    What a predecessor left in the call's journal is in the store when a successor's recorder is made, if the store
    answers within a second.

    Args:
        store: Where turns are kept.
        call: The call, with the fence that may write it.
        journal_dir: Folder for the journal of a call whose store does not answer.
        on_fenced_out: Called from a thread, once, when another job has taken the call.
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
        self._folder = journal_dir
        self._journal = Journal(journal_dir / f"{call.id}.jsonl", call.fence, None if call.stored else call)
        self._before: Journal | None = None  # of the call in which one that began without the store went up
        self._on_fenced_out = on_fenced_out
        self._signals = signals or Signals()
        self._queue: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._pending = 0
        self._durable = threading.Condition()
        self._fenced_out = False
        self._attempt: threading.Thread | None = None
        self._refusing = not call.stored  # the last attempt failed: turns go to the journal first
        self._inheriting = call.continued  # until the first commit a journal's turns are the predecessor's last words
        self.figures = Figures()
        if self._inheriting and self._journal.waiting:
            self._try([], INHERIT_S)
        elif call.stored and not self._store.is_sqlite:
            self._try([], 0)  # connecting takes longer than a turn may wait, so it is done before the first
        self._thread = threading.Thread(target=self._run, name=f"recorder-{call.id}", daemon=True)
        self._thread.start()

    def opened(self, call: Call) -> None:
        """The store has a call that began without it: what waits in the journal goes there now."""
        if call.id == self._call.id:
            self._journal.opened(call.fence)
        else:  # another job began it, and what it left comes first
            self._before, self._inheriting = Journal(self._folder / f"{call.id}.jsonl", call.fence), True
        self._call = call

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
        waiting: list[Waiting] = []
        closing = False
        while not closing:
            again = bool(waiting) or self._left or self._trying
            try:
                item = self._queue.get(timeout=RETRY_S if again else None)
                while True:
                    if item is _CLOSE:
                        closing = True
                    else:
                        waiting.append(item)  # type: ignore[arg-type]
                    item = self._queue.get_nowait()
            except queue.Empty:
                pass  # all that was handed over so far is in `waiting`
            waiting = self._make_durable(waiting)
        if waiting:
            log.error("turns are lost: neither store nor journal took them", extra={"count": len(waiting)})
        self._settle()

    def _settle(self) -> None:
        """Empty the journal before the call is ended, which would refuse its turns; as long as that is worth it."""
        deadline = time.monotonic() + (SETTLE_S if self._call.stored else 0)
        while (self._left or self._trying) and time.monotonic() < deadline:
            if self._attempt is not None and self._trying:
                self._attempt.join(SETTLE_S / 20)
            else:
                self._try([], SETTLE_S / 20)
                if self._refusing:
                    time.sleep(PATIENCE_MS / 1000)

    @property
    def _left(self) -> bool:
        """Whether turns wait in a journal."""
        return self._journal.waiting or self._before is not None

    @property
    def _trying(self) -> bool:
        """Whether an earlier attempt is still out: the store said nothing within our patience."""
        return self._attempt is not None and self._attempt.is_alive()

    def _make_durable(self, waiting: list[Waiting]) -> list[Waiting]:
        """Turns into the store, else into the journal; returns those that neither took."""
        new = [turn for turn, _ in waiting]
        wanted = bool(new) or self._left
        if wanted and not self._refusing and not self._trying and self._try(new, PATIENCE_MS / 1000):
            self._are_durable(waiting)
            return []
        if new:
            try:
                self._signals.before_journal()
                self._journal.append(new)
            except OSError as e:
                log.error("the journal took no turns either", extra={"count": len(new), "why": str(e)})
                self._refusing = False  # the store is the better hope now
                return waiting
            self._signals.after_journal()
            self.figures.journalled += len(new)
            self._are_durable(waiting)
        if self._refusing and not self._trying and self._left:
            self._try([], PATIENCE_MS / 1000)
        return []

    def _are_durable(self, waiting: list[Waiting]) -> None:
        done = time.perf_counter()
        for _, begun in waiting:
            self.figures.last_ms = (done - begun) * 1000
            self.figures.worst_ms = max(self.figures.worst_ms, self.figures.last_ms)
            self.figures.late += self.figures.last_ms > LATE_MS
        with self._durable:
            self._pending -= len(waiting)
            self._durable.notify_all()

    def _try(self, new: list[Turn], patience_s: float) -> bool:
        """Write the journal's turns and new ones. False: refused, or still on its way when patience ended.

        One attempt at a time, so that the order holds. SQLite's ends by its own timeout; PostgreSQL may stand still
        longer than a turn may wait, so its attempt has a thread of its own.
        """
        taken = threading.Event()
        if not self._call.stored:
            return False  # its turns would be refused as nobody's
        if self._store.is_sqlite:
            self._write(new, taken)
            return taken.is_set()
        self._attempt = threading.Thread(
            target=self._write, args=(new, taken), name=f"attempt-{self._call.id}", daemon=True
        )
        self._attempt.start()
        self._attempt.join(patience_s)
        return taken.is_set()

    def _write(self, new: list[Turn], taken: threading.Event) -> None:
        try:
            before, raw_before = self._before.entries() if self._before is not None else ([], b"")
            left, raw = self._journal.entries()
            left = [*before, *left]
            refused: list[Turn] = []
            with self._store.write() as connection:
                for entry in [*left, *(Entry(self._call.fence, turn) for turn in new)]:
                    if not write_turn(connection, self._as_said(entry), entry.turn):
                        refused.append(entry.turn)
                self._signals.before_commit()
            self._signals.after_commit()
        except StoreUnavailable as e:
            if not self._refusing:
                log.warning("turns go to the journal", extra={"call": self._call.id, "why": e.reason})
            self._refusing = True
            return
        except Exception:  # a fault of ours must not end the thread: the turns are safe in the journal
            log.exception("turns could not be written", extra={"call": self._call.id})
            self._refusing = True
            return
        taken.set()
        self._refusing = self._inheriting = False
        self._journal.clear(raw)
        if self._before is not None and not self._journal.waiting:
            self._before.clear(raw_before)
            self._journal, self._before = self._before, None
        self._signals.after_clear()
        self.figures.recorded += len(left) + len(new) - len(refused)
        self._refused(refused)

    def _as_said(self, entry: Entry) -> Call:
        """The call as the job that said this turn had it.

        A predecessor's last words, found at the start, count as ours; what it says later has the older fence.
        """
        if self._inheriting or entry.fence in (0, self._call.fence):
            return self._call
        return dataclasses.replace(self._call, fence=entry.fence)

    def _refused(self, refused: list[Turn]) -> None:
        if not refused:
            return
        self.figures.refused += len(refused)
        log.warning("turns were refused", extra={"count": len(refused), "call": self._call.id})
        if not self._fenced_out:
            self._fenced_out = True
            self._on_fenced_out()
