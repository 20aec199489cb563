"""What is known of the customer during one call: in the prompt before the first word, and kept current.

Read from the store, never from Letta, and never on the reply path: a change is in the prompt of the next turn.
Not here: the store's side (memory/recall.py, profile.py), what the page is shown (page_link.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from livekit.agents.beta import Instructions

from voicectl.memory import names, profile, recall
from voicectl.memory.calls import Call
from voicectl.memory.errors import MemoryFault, StoreUnavailable
from voicectl.memory.store.engine import Store
from voicectl.voice.config import VoiceSettings

log = logging.getLogger(__name__)

NOTHING = "Nothing is known about the caller yet."
# The small model reads 40-90 tokens a second (local_llm.md 3): more would be heard as silence before the first answer.
LOCAL_BUDGET_TOKENS = 160


class Knowledge:
    """What is known now, and the prompts that say it.

    Args:
        store: Where memory is.
        call: The call.
        settings: For the budget.
        known: What `recall.read` gave when the call began.
    """

    def __init__(self, store: Store, call: Call, settings: VoiceSettings, known: recall.Recalled) -> None:
        self.now = known
        self._store = store
        self._call = call
        budget = settings.recall_budget_tokens
        self._budget = min(budget, LOCAL_BUDGET_TOKENS) if settings.llm_is_local() else budget
        self._prompts: list[Instructions] = []
        self._watchers: list[Callable[[list[profile.Line]], Awaitable[None]]] = []
        self._one_at_a_time = asyncio.Lock()
        self._next: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None

    def instructions(self, static: str) -> Instructions:
        """A prompt with what is known behind it, which follows what is learnt."""
        made = Instructions(static, dynamic=self.text())
        self._prompts.append(made)
        return made

    def text(self) -> str:
        """What is known, as the model reads it."""
        return recall.render(self.now, self._budget).text or NOTHING

    def on_change(self, watcher: Callable[[list[profile.Line]], Awaitable[None]]) -> None:
        """Call `watcher` with the present lines after each `refresh`."""
        self._watchers.append(watcher)

    async def refresh(self) -> None:
        """Read again what is known; a store that does not answer changes nothing.

        One read at a time, and who asks while it lasts shares the next one: a store that hangs must not take a thread
        for each turn, because the threads that resolve addresses for the next reply are the same few.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._read_in_turn(), name=f"read-memory-{self._call.id}")
        await asyncio.shield(self._next)

    async def _read_in_turn(self) -> None:
        async with self._one_at_a_time:
            self._reading, self._next = self._next, None  # from here on a change may come too late for this read
            await self._read()

    async def _read(self) -> None:
        try:
            self.now = await asyncio.to_thread(recall.read, self._store, self._call.customer, but_call=self._call.id)
        except StoreUnavailable as e:
            log.warning("memory was not read again", extra={"why": e.reason})
            return
        text = self.text()
        for prompt in self._prompts:
            prompt.dynamic = (
                text  # in place: no model call, no history entry, a preemptive reply stays (livekit.md 0.5)
            )
        for watcher in self._watchers:
            await watcher(self.now.lines)

    async def learn_name(self, said: str, item_id: str) -> None:
        """Keep the name that the customer announces in these words, if any."""
        name = names.name_in(said)
        if name is None:
            return
        origin = profile.Origin(profile.Source.RULE, self._call.id, item_id)
        try:
            await asyncio.to_thread(profile.put, self._store, self._call.customer, f"name: {name}", origin)
        except MemoryFault as e:
            log.warning("a name was not learnt", extra={"why": str(e)})
        await self.refresh()
