"""Memory by itself: one SQLite file (or PostgreSQL), no server, no page, no Letta.

    with Memory("memory.db") as memory:
        with memory.call("user:ada") as call:
            call.said("user", "Hello, my name is Ada and I keep bees.")
            call.remember("keeps bees")
        print(memory.known("user:ada").text)

The same store that an installation uses: a syncer pointed at it mirrors these calls into Letta too.
Not here: a LiveKit agent's call (voice/call.py), which records, greets and guards by itself.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import URL, func, select

from voicectl.memory import names, own_calls, profile, recall
from voicectl.memory.calls import Call, CallState, abandon, finish, now_ms, open_call
from voicectl.memory.config import MemorySettings, load
from voicectl.memory.errors import CallOver, Refused, SettingError, StoreUnavailable
from voicectl.memory.identity import clean, normalise, refuse_no_text
from voicectl.memory.journal import Journal, replay_journal, replay_left_journals
from voicectl.memory.profile import Line, Origin, Source
from voicectl.memory.recall import Rendered
from voicectl.memory.recorder import Recorder, Role, Turn
from voicectl.memory.search import Exchange, search
from voicectl.memory.store.engine import Store, open_at, store_url
from voicectl.memory.store.schema import calls, refused_turns

log = logging.getLogger(__name__)

BUDGET_TOKENS = 1000
DURABLE_S = 10.0
NAME_PATIENCE_MS = 250  # for a lock, in a thread of its own; what does not succeed is done when the call is closed


class Memory:
    """Everything that is known of every customer. Threads may share it; from asyncio call it by `to_thread`.

    What cannot be a customer is a SettingError in every method, and what is no str where text must be a TypeError.

    Turns that an earlier program could not bring into the store are written now, or when the next call begins. They lie
    in the folder `journal` beside the file; with a URL, in the working directory.

    Args:
        where: Path of a SQLite file, made when it is not there, or a `postgresql://` URL.

    Raises:
        StoreForeign: It holds tables that are not ours, or a newer schema.
        StoreUnavailable: It cannot be opened.
    """

    def __init__(self, where: str | Path) -> None:
        if "://" in str(where):
            home = Path.cwd()
            url = store_url(load(MemorySettings, home=home, database_url=str(where)))
        else:
            home = Path(where).absolute().parent
            home.mkdir(parents=True, exist_ok=True)
            url = URL.create("sqlite", database=str(Path(where).absolute()))
        self._journal_dir = home / "journal"
        self._store = open_at(url)
        self._quick = self._store.impatient(NAME_PATIENCE_MS)
        self._learner = ThreadPoolExecutor(1, "names")
        self._learning: set[Future[None]] = set()
        self._closed = False
        with contextlib.suppress(StoreUnavailable):  # it can be read, and the next call tries again
            replay_left_journals(self._store, self._journal_dir)
            own_calls.end_dead(self._store)

    @property
    def store(self) -> Store:
        """The open database.

        Raises:
            StoreUnavailable: This memory was closed.
        """
        if self._closed:
            raise StoreUnavailable(self._store.where, "this Memory was closed")
        return self._store

    def close(self) -> None:
        """Close the connections; nothing can be read or written by this object afterwards. Close its calls first."""
        self._closed = True
        self._learner.shutdown()
        self._quick.close()
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def known(self, customer: str, *, budget_tokens: int = BUDGET_TOKENS) -> Rendered:
        """What is known of a customer, as text for a prompt: facts, notes, the last words of earlier calls.

        Args:
            customer: `user:42`, a phone number with its country code, or a bare name.
            budget_tokens: How long the text may be; what does not fit is left out, counted and said to be.

        Raises:
            SettingError: This cannot be a customer.
            StoreUnavailable: The store did not answer.
        """
        self._wait_for_names()
        return recall.render(recall.read(self.store, normalise(customer)), budget_tokens)

    def facts(self, customer: str) -> list[Line]:
        """The lines of a customer's profile, each with its source.

        Raises:
            StoreUnavailable: The store did not answer.
        """
        self._wait_for_names()
        return recall.read(self.store, normalise(customer)).lines

    def search(self, customer: str, words: str, *, limit: int = 5) -> list[Exchange]:
        """Exchanges of earlier calls that have these words, best first.

        Raises:
            StoreUnavailable: The store did not answer.
        """
        return search(self.store, normalise(customer), words, limit=limit)

    def remember(self, customer: str, fact: str) -> None:
        """Keep a fact as your own word: it stands against what a model learns. Durable on return.

        Raises:
            Refused: Empty, too long, or the profile is full.
            StoreUnavailable: Nothing was written.
        """
        refuse_no_text("fact", fact)
        profile.put(self.store, normalise(customer), fact, Origin(Source.OPERATOR))

    def call(self, customer: str, *, desk: str = "") -> OwnCall:
        """A new call of a customer. Use it as `with memory.call(…) as call`.

        Calls that a program began this way and left open are ended as abandoned when that program has ended; those of
        this customer also when nothing was said in them for an hour. What their journals hold is written first.

        Args:
            customer: Who it is.
            desk: What they talk to; its first 100 characters are kept with the call.

        Raises:
            StoreUnavailable: Nothing was begun.
        """
        key = normalise(customer)
        refuse_no_text("desk", desk)
        replay_left_journals(self.store, self._journal_dir)
        own_calls.end_dead(self.store)
        self._end_left_calls(key)
        begun = open_call(
            self.store,
            customer=key,
            room=f"{own_calls.OWN_ROOMS}{secrets.token_hex(8)}",
            desk=clean(desk)[:100],
            fence=1,
        )
        with contextlib.suppress(StoreUnavailable):  # it has begun; who held it can then not be proven
            own_calls.note(self.store, begun, self._journal_dir)
        return OwnCall(self, begun, self._journal_dir)

    def _end_left_calls(self, key: str) -> None:
        left = select(calls.c.room).where(
            calls.c.customer == key, calls.c.state != CallState.ENDED, own_calls.silent(now_ms())
        )
        with self.store.read() as connection:
            rooms = list(connection.execute(left).scalars())
        for room in rooms:
            if abandon(self.store, room, 0):
                log.warning("a call that its program left open was abandoned", extra={"room": room})

    def _learn(self, call: OwnCall) -> None:
        """Let a call's names be learnt in a thread, for whoever speaks must not wait for the store."""
        learning = self._learner.submit(call._learn_names, self._quick)
        self._learning.add(learning)
        learning.add_done_callback(self._learning.discard)

    def _wait_for_names(self) -> None:
        """What was said to this very object is known to it; the wait ends with the patience of `_quick`."""
        wait(tuple(self._learning))


class OwnCall:
    """A call that your code holds: hand its turns over, and close it.

    A call in which nothing was said for an hour may be ended by the customer's next one; `close` then says so.

    Attributes:
        call: Its record.
    """

    def __init__(self, memory: Memory, call: Call, journal_dir: Path) -> None:
        self.call = call
        self._memory = memory
        self._recorder = Recorder(memory.store, call, journal_dir=journal_dir)
        self._journal = journal_dir / f"{call.id}.jsonl"
        self._last_item: str | None = None
        self._names: deque[tuple[str, Origin]] = deque()
        self._closing = self._closed = False

    def said(self, role: str, text: str) -> None:
        """Record a finished turn. Does not wait for the store; a name that the customer announces is learnt.

        Args:
            role: `user` or `assistant`.
            text: What was said.

        Raises:
            SettingError: Another role, no text, or an empty one.
            CallOver: The call was closed.
            StoreUnavailable: The memory was closed.
        """
        self._refuse_closed()
        if role not in (Role.USER, Role.ASSISTANT):
            raise SettingError("role", repr(role)[:40], "user or assistant", 'As in: call.said("user", "Hello.")')
        if not isinstance(text, str) or not text.strip():
            raise SettingError("text", repr(text)[:40], "words, as a str", 'As in: call.said("user", "Hello.")')
        item = f"own-{secrets.token_hex(8)}"
        self._recorder.add(Turn(item, Role(role), text, now_ms()))
        if role == Role.USER:
            self._last_item = item
            name = names.name_in(text)
            if name is not None:
                self._names.append((f"name: {name}", Origin(Source.RULE, self.call.id, item)))
                self._memory._learn(self)

    def remember(self, fact: str) -> None:
        """Keep a fact that this call taught; durable on return.

        Raises:
            Refused: Empty, too long, the profile is full, or a person took it back in this very call.
            CallOver: The call was closed.
            StoreUnavailable: Nothing was written.
        """
        self._refuse_closed()
        refuse_no_text("fact", fact)
        origin = Origin(Source.TOOL, self.call.id, self._last_item)
        profile.put(self._memory.store, self.call.customer, fact, origin)

    def close(self) -> None:
        """Bring every turn into the store and end the call. Again after it succeeded: nothing happens.

        Raises:
            StoreUnavailable: The store does not answer. The call stays open and its turns are safe in the journal; they
                are written when `close` is called again, when the next call begins, when a `Memory` is opened here, or
                when the installation starts whose store this is. Names that wait are learnt only in the first case.
            CallOver: It was ended by others before all was said, and turns were refused; they are kept apart.
        """
        if self._closed:
            return
        self._closing = True
        stopped = self._recorder.close(DURABLE_S)
        store = self._memory.store
        if not stopped or self._recorder.pending:
            raise StoreUnavailable(store.where, f"{self._recorder.pending} turns are neither in it nor in the journal")
        replay_journal(store, self._journal)
        if Journal(self._journal).waiting:
            raise StoreUnavailable(store.where, f"turns of the call are still in {self._journal}")
        self._memory._wait_for_names()
        self._learn_names(store)
        if self._names:
            raise StoreUnavailable(store.where, "a name was not written")
        finish(store, self.call, "closed")
        self._closed = True
        refused = max(self._recorder.figures.refused, self._refused_turns(store))
        if refused:
            raise CallOver(self.call.id, f"over, {refused} of its turns were refused")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _learn_names(self, store: Store) -> None:
        """Write the names that wait, by this store; those that it does not take wait on."""
        while self._names:
            line, origin = self._names[0]
            try:
                profile.put(store, self.call.customer, line, origin)
            except StoreUnavailable:
                return
            except Refused:
                pass  # a person said otherwise in this very call, or the profile is full
            self._names.popleft()

    def _refuse_closed(self) -> None:
        if self._closing:
            raise CallOver(self.call.id, "closed")
        _ = self._memory.store

    def _refused_turns(self, store: Store) -> int:
        mine = select(func.count()).select_from(refused_turns).where(refused_turns.c.call_id == self.call.id)
        with store.read() as connection:
            return int(connection.execute(mine).scalar_one())
