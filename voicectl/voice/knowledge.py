"""What is known of the customer and the desk during one call: in the prompt before the first word, and kept current.

Read from the store, never from Letta, and never on the reply path: a change is in the prompt of turns that begin a
second later, whoever made it.
Not here: the store's side (memory/recall.py, profile.py), what the page is shown (page_link.py).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from livekit.agents.beta import Instructions
from tenacity import RetryCallState, retry, retry_if_exception_type, wait_fixed

from voicectl.memory import desk_prompt, names, profile, recall
from voicectl.memory.calls import Call
from voicectl.memory.desk_prompt import House
from voicectl.memory.errors import MemoryFault, StoreUnavailable
from voicectl.memory.store.engine import Store
from voicectl.voice.config import VoiceSettings

log = logging.getLogger(__name__)

NOTHING = "Nothing is known about the caller yet."
# The small model reads 40-90 tokens a second (local_llm.md 3): more would be heard as silence before the first answer.
LOCAL_BUDGET_TOKENS = 160
# What a desk brings is written by its team, and cutting it is worse than a longer prompt.
DESK_BUDGET_TOKENS = 4000
LOCAL_DESK_BUDGET_TOKENS = 400
FOLLOW_S = 0.5  # an edit is used in turns that start a second later (protocols 5)
STALE_S = 5.0
AGAIN_S = 1.0  # a store that stands still is asked again for what it did not take


def _waits(state: RetryCallState) -> None:
    if state.attempt_number == 1:
        log.warning("a name waits for the store", extra={"why": str(state.outcome and state.outcome.exception())})


class Knowledge:
    """What is known now, and the prompts that say it.

    Args:
        store: Where memory is.
        call: The call.
        settings: For the budget.
        known: What `recall.read` gave when the call began.

    Attributes:
        now: What is known of the customer.
        house: What the desk brings into the prompt; `join_call` reads it before the agent is made.
        call: The call; another object once one that began without the store is in it.
    """

    def __init__(self, store: Store, call: Call, settings: VoiceSettings, known: recall.Recalled) -> None:
        self.now = known
        self.house = House()
        self._store = store
        self.call = call
        budget = settings.recall_budget_tokens
        self._budget = min(budget, LOCAL_BUDGET_TOKENS) if settings.llm_is_local() else budget
        self._desk_budget = LOCAL_DESK_BUDGET_TOKENS if settings.llm_is_local() else DESK_BUDGET_TOKENS
        self._prompts: list[Instructions] = []
        self._watchers: list[Callable[[list[profile.Line]], Awaitable[None]]] = []
        self._one_at_a_time = asyncio.Lock()
        self._one_name_at_a_time = asyncio.Lock()
        self._next: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._version: tuple[int | None, ...] | None = None
        self._current_at = time.monotonic()
        self._stale = False

    @property
    def age_s(self) -> float:
        """How old what the job holds may be: seconds since it was last read, or found to be as the store has it."""
        return time.monotonic() - self._current_at

    def instructions(self, static: str) -> Instructions:
        """A prompt with what is known behind it, which follows what is learnt."""
        made = Instructions(static, dynamic=self.text())
        self._prompts.append(made)
        return made

    def text(self) -> str:
        """What the desk brings and what is known of the customer, as the model reads it; each under its own label."""
        desk = desk_prompt.render(self.house, self._desk_budget).text
        known = recall.render(self.now, self._budget).text or NOTHING
        return f"{desk}\n\n{known}" if desk else known

    def on_change(self, watcher: Callable[[list[profile.Line]], Awaitable[None]]) -> None:
        """Call `watcher` with the present lines after each `refresh`."""
        self._watchers.append(watcher)

    async def follow(self) -> None:
        """Read again whenever something changed elsewhere: another tab, an operator, an edit in ADE. Never returns.

        Without it an idle call would answer its next turn with what it knew when it last spoke.
        """
        while True:
            await asyncio.sleep(FOLLOW_S)
            try:
                async with self._one_at_a_time:
                    await self._look()
            except Exception:  # whoever is told of a change may fail; the next one is another matter
                log.exception("what is known was not followed")
            if self._stale != (stale := self.age_s > STALE_S):
                self._stale = stale
                note = log.warning if stale else log.info
                note("what is known is old" if stale else "what is known is new again", extra={"age_s": self.age_s})

    async def _look(self) -> None:
        try:
            version = await asyncio.to_thread(self._versions)
        except StoreUnavailable:
            return  # the age says so
        if version == self._version:
            self._current_at = time.monotonic()
        elif await self._read():
            self._version = version

    def _versions(self) -> tuple[int | None, ...]:
        known = recall.version(self._store, self.call.customer, but_call=self.call.id)
        return (*known, *desk_prompt.version(self._store, self.call.desk))

    async def refresh(self) -> None:
        """Read again what is known; a store that does not answer changes nothing.

        One read at a time, and who asks while it lasts shares the next one: a store that hangs must not take a thread
        for each turn, because the threads that resolve addresses for the next reply are the same few.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._read_in_turn(), name=f"read-memory-{self.call.id}")
        await asyncio.shield(self._next)

    async def _read_in_turn(self) -> None:
        async with self._one_at_a_time:
            self._reading, self._next = self._next, None  # from here on a change may come too late for this read
            await self._read()

    async def _read(self) -> bool:
        begun = time.monotonic()
        try:
            self.now, self.house = await asyncio.to_thread(_both, self._store, self.call)
        except StoreUnavailable as e:
            log.warning("memory was not read again", extra={"why": e.reason})
            return False
        self._current_at = begun
        text = self.text()
        for prompt in self._prompts:
            prompt.dynamic = (
                text  # in place: no model call, no history entry, a preemptive reply stays (livekit.md 0.5)
            )
        for watcher in self._watchers:
            await watcher(self.now.lines)
        return True

    async def learn_name(self, said: str, item_id: str) -> None:
        """Keep the name that the customer announces in these words, if any; as soon as the store takes it."""
        name = names.name_in(said)
        if name is None:
            return
        origin = profile.Origin(profile.Source.RULE, self.call.id, item_id)
        async with self._one_name_at_a_time:  # what is announced later is written later, whatever had to wait
            try:
                await self._put(f"name: {name}", origin)
            except MemoryFault as e:
                log.warning("a name was not learnt", extra={"why": str(e)})
        await self.refresh()

    @retry(retry=retry_if_exception_type(StoreUnavailable), wait=wait_fixed(AGAIN_S), before_sleep=_waits)
    async def _put(self, line: str, origin: profile.Origin) -> None:
        await asyncio.to_thread(profile.put, self._store, self.call.customer, line, origin)


def _both(store: Store, call: Call) -> tuple[recall.Recalled, House]:
    return recall.read(store, call.customer, but_call=call.id), desk_prompt.read(store, call.desk)
