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

import secrets
from pathlib import Path
from types import TracebackType
from typing import Self

from voicectl.memory import names, profile, recall
from voicectl.memory.calls import Call, finish, now_ms, open_call
from voicectl.memory.config import MemorySettings, load
from voicectl.memory.errors import Refused, SettingError, StoreUnavailable
from voicectl.memory.identity import normalise
from voicectl.memory.profile import Line, Origin, Source
from voicectl.memory.recall import Rendered
from voicectl.memory.recorder import Recorder, Role, Turn
from voicectl.memory.search import Exchange, search
from voicectl.memory.store.engine import open_store

BUDGET_TOKENS = 1000
DURABLE_S = 10.0


class Memory:
    """Everything that is known of every customer. Threads may share it; from asyncio call it by `to_thread`.

    Args:
        where: Path of a SQLite file, made when it is not there, or a `postgresql://` URL.

    Raises:
        StoreForeign: It holds tables that are not ours, or a newer schema.
        StoreUnavailable: It cannot be opened.
    """

    def __init__(self, where: str | Path) -> None:
        path = None if "://" in str(where) else Path(where).absolute()
        home = Path.cwd() if path is None else path.parent
        home.mkdir(parents=True, exist_ok=True)
        url = str(where) if path is None else f"sqlite:///{path}"
        self._journal_dir = home / "journal"
        self.store = open_store(load(MemorySettings, home=home, database_url=url))

    def close(self) -> None:
        """Close the connections."""
        self.store.close()

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
        return recall.render(recall.read(self.store, normalise(customer)), budget_tokens)

    def facts(self, customer: str) -> list[Line]:
        """The lines of a customer's profile, each with its source.

        Raises:
            StoreUnavailable: The store did not answer.
        """
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
        profile.put(self.store, normalise(customer), fact, Origin(Source.OPERATOR))

    def call(self, customer: str, *, desk: str = "") -> OwnCall:
        """A new call of a customer. Use it as `with memory.call(…) as call`.

        Args:
            customer: Who it is.
            desk: What they talk to; kept with the call.

        Raises:
            StoreUnavailable: Nothing was begun.
        """
        room = f"alone-{secrets.token_hex(8)}"
        begun = open_call(self.store, customer=normalise(customer), room=room, desk=desk, fence=1)
        return OwnCall(self, begun, Recorder(self.store, begun, journal_dir=self._journal_dir))


class OwnCall:
    """A call that your code holds: hand its turns over, and close it.

    Attributes:
        call: Its record.
    """

    def __init__(self, memory: Memory, call: Call, recorder: Recorder) -> None:
        self.call = call
        self._memory, self._recorder = memory, recorder
        self._last_item: str | None = None
        self._names: list[tuple[str, Origin]] = []

    def said(self, role: str, text: str) -> None:
        """Record a finished turn. Does not wait for the store; a name that the customer announces is learnt.

        Args:
            role: `user` or `assistant`.
            text: What was said.

        Raises:
            SettingError: Another role.
        """
        if role not in (Role.USER, Role.ASSISTANT):
            raise SettingError("role", role, "user or assistant")
        item = f"own-{secrets.token_hex(8)}"
        self._recorder.add(Turn(item, Role(role), text, now_ms()))
        if role == Role.USER:
            self._last_item = item
            name = names.name_in(text)
            if name is not None:
                self._names.append((f"name: {name}", Origin(Source.RULE, self.call.id, item)))
                self._learn_names()

    def remember(self, fact: str) -> None:
        """Keep a fact that this call taught; durable on return.

        Raises:
            Refused: Empty, too long, the profile is full, or a person took it back in this very call.
            StoreUnavailable: Nothing was written.
        """
        origin = Origin(Source.TOOL, self.call.id, self._last_item)
        profile.put(self._memory.store, self.call.customer, fact, origin)

    def close(self) -> None:
        """Make every turn durable and end the call.

        Raises:
            StoreUnavailable: The store does not answer; the turns are safe in the journal beside it, and a syncer or
                the next call writes them.
        """
        self._learn_names()
        self._recorder.close(DURABLE_S)
        finish(self._memory.store, self.call, "closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _learn_names(self) -> None:
        while self._names:
            line, origin = self._names[0]
            try:
                profile.put(self._memory.store, self.call.customer, line, origin)
            except StoreUnavailable:
                return  # once more when the call is closed
            except Refused:
                pass  # a person said otherwise in this very call, or the profile is full
            del self._names[0]
