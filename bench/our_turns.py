"""Our arm of reply_path.py: the plain session with recorder, listener and knowledge on it, as MemoryCall has them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from bench.plain_turns import PlainTurns
from voicectl.memory import calls, recall
from voicectl.memory.config import load
from voicectl.memory.recorder import Recorder, Signals, Turn
from voicectl.memory.store.engine import Store, open_store
from voicectl.memory.store.schema import turns
from voicectl.voice.config import VoiceSettings
from voicectl.voice.knowledge import Knowledge
from voicectl.voice.listening import Listener

CUSTOMER = "user:bench"


class OurTurns(PlainTurns):
    """A session with our part on it.

    Args:
        home: The VOICE_HOME.
        store: Where the call is kept; None opens that of the home.
        customer: Who is on the line; one call a customer.
        signals: Points at which the recorder may be held.

    Attributes:
        ours_ms: What each event cost on the reply path, in milliseconds: from the framework's event until our
            listener was done with it.
    """

    def __init__(
        self, home: Path, store: Store | None = None, signals: Signals | None = None, *, customer: str = CUSTOMER
    ) -> None:
        settings = load(VoiceSettings, home=home)
        self.store = store or open_store(settings)
        self.call = calls.open_call(self.store, customer=customer, room=f"bench-{customer}", desk="assistant", fence=1)
        self.knowledge = Knowledge(
            self.store, self.call, settings, recall.read(self.store, customer, but_call=self.call.id)
        )
        super().__init__(self.knowledge.instructions("You are helpful."))
        self.recorder = Recorder(self.store, self.call, journal_dir=home / "journal", signals=signals)
        self.tasks: set[asyncio.Task[None]] = set()
        self.ours_ms: list[float] = []
        self.handed_over: list[str] = []
        self._add = self.recorder.add
        self.recorder.add = self._counted  # type: ignore[method-assign]
        self.session.on("conversation_item_added", self._began)  # runs first: listeners run in order
        self.listener = Listener(self.session, self.recorder, self._said)
        self.session.on("conversation_item_added", self._ended)
        self.session.on("agent_state_changed", self._state)
        self._began_at = 0.0

    def _began(self, _: object) -> None:
        self._began_at = time.perf_counter()

    def _ended(self, _: object) -> None:
        self.ours_ms.append((time.perf_counter() - self._began_at) * 1000)

    def _counted(self, turn: Turn) -> None:
        self.handed_over.append(turn.item_id)
        self._add(turn)

    def _said(self, item_id: str, text: str) -> None:
        self._later(self.knowledge.learn_name(text, item_id))

    def _state(self, event: Any) -> None:
        if event.new_state == "speaking":
            self._later(self.knowledge.refresh())

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def settled(self) -> None:
        """What a turn leaves to be done behind it is done: its cost must not fall on the other arm's turn."""
        await asyncio.to_thread(self.recorder.flush, 10)
        await asyncio.gather(*self.tasks)

    def recorded(self) -> list[str]:
        """Item ids in the store, in order."""
        with self.store.read() as connection:
            statement = select(turns.c.item_id).where(turns.c.call_id == self.call.id).order_by(turns.c.seq)
            return [str(x) for x in connection.execute(statement).scalars()]

    def rows(self) -> int:
        """How many turns the store has."""
        with self.store.read() as connection:
            statement = select(func.count()).select_from(turns).where(turns.c.call_id == self.call.id)
            return int(connection.execute(statement).scalar_one())

    async def close(self) -> None:
        """Everything durable, then the end."""
        await super().close()
        await asyncio.gather(*self.tasks)
        await asyncio.to_thread(self.recorder.close, 10)
