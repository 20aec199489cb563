"""The memory tools in a real session with a scripted model: called, done, told as it is, known in the other tab."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest
from livekit.agents import Agent

from bench.plain_turns import PlainTurns
from tests.support.llm_stub import LLMStub, Reply
from tests.support.waiting import wait_until
from voicectl.memory import calls, profile, recall
from voicectl.memory.asked import Forgotten
from voicectl.memory.config import MemorySettings, load
from voicectl.memory.lines import Block, Origin, Source
from voicectl.memory.recorder import Recorder, Role, Turn, write_turn
from voicectl.memory.store.engine import Store
from voicectl.voice.config import VoiceSettings
from voicectl.voice.engines.llm import remote
from voicectl.voice.engines.local_llm.examples_assistant import confirm_forgotten, confirm_saved
from voicectl.voice.knowledge import Knowledge
from voicectl.voice.listening import Listener
from voicectl.voice.memory_tools import memory_tools, told

pytestmark = pytest.mark.unit
WHO = "user:1"
TEAM = Origin(Source.OPERATOR)


def script(text: str) -> Reply:
    """`tool: words` calls that tool; whatever a tool answered is said."""
    if text.startswith("Result: "):
        return Reply(text.removeprefix("Result: "))
    tool, _, words = text.partition(": ")
    if not words:
        return Reply("I see.")
    return Reply(tool=tool, arguments={"query" if tool == "recall" else "fact": words})


@pytest.fixture
def model() -> Iterator[LLMStub]:
    with LLMStub(script) as running:
        yield running


class Tab(PlainTurns):
    """A call of a customer on the text path, with what a call has of memory."""

    def __init__(self, store: Store, settings: VoiceSettings, customer: str = WHO) -> None:
        self.store = store
        self.customer = SimpleNamespace(key=customer)
        self.call = calls.open_call(store, customer=customer, room=uuid4().hex, desk="assistant", fence=1)
        known = recall.read(store, customer, but_call=self.call.id)
        self.knowledge = Knowledge(store, self.call, settings, known)
        super().__init__()
        self.recorder = Recorder(store, self.call, journal_dir=settings.home / "journal")
        self.listener = Listener(self.session, self.recorder, lambda _, __: None)
        self.model = remote(settings)
        self.agent = Agent(
            instructions=self.knowledge.instructions("You are helpful."),
            llm=self.model,
            tools=list(memory_tools(cast(Any, self))),
        )

    def origin(self, source: Source) -> Origin:
        return Origin(source, self.call.id, self.listener.last_user_item)

    async def says(self, text: str) -> str:
        """What the agent answers."""
        await self.turn(text)
        return str(self.agent.chat_ctx.items[-1].text_content)  # type: ignore[union-attr]


@pytest.fixture
def voice(settings: MemorySettings, model: LLMStub) -> VoiceSettings:
    return load(
        VoiceSettings, home=settings.home, openai_base_url=model.url, openai_api_key="key", llm_model="scripted"
    )


@asynccontextmanager
async def opened(store: Store, voice: VoiceSettings, customer: str = WHO) -> AsyncIterator[Tab]:
    tab = Tab(store, voice, customer)
    await tab.open()
    following = asyncio.create_task(tab.knowledge.follow())
    try:
        yield tab
    finally:
        following.cancel()
        await tab.close()
        await tab.model.aclose()
        await asyncio.to_thread(tab.recorder.close)


async def test_a_fact_is_kept_and_forgotten_on_request_and_the_turn_that_asked_is_in_the_log(
    store: Store, voice: VoiceSettings, model: LLMStub
) -> None:
    async with opened(store, voice) as tab:
        assert await tab.says("remember: is allergic to nuts") == "saved"
        assert "is allergic to nuts" in tab.knowledge.text()

        answer = await tab.says("forget_fact: that I'm allergic to nuts")

        assert answer == 'forgotten: "is allergic to nuts"'
        assert "allergic" not in tab.knowledge.text()
        assert "allergic" not in str(model.requests[-1]["messages"][0])
    from voicectl.memory.history import history

    last = history(store, WHO)[-1]
    assert (last.op, last.source, last.because) == ("remove", "tool", "forget_fact: that I'm allergic to nuts")


async def test_what_people_wrote_is_neither_changed_nor_removed_and_the_caller_hears_so(
    store: Store, voice: VoiceSettings
) -> None:
    profile.put(store, WHO, "delivery address is 4 Mill Lane", TEAM)
    profile.put(store, WHO, "pays in cash only", TEAM, Block.OPERATOR_NOTES)
    async with opened(store, voice) as tab:
        changed = await tab.says("remember: delivery address is 9 High Street")
        removed = await tab.says("forget_fact: my delivery address")
        noted = await tab.says("forget_fact: that I pay in cash only")

    assert changed == 'not saved: the team wrote "delivery address is 4 Mill Lane", and only they can change it'
    assert removed == 'not forgotten: the team wrote "delivery address is 4 Mill Lane", and only they can remove it'
    assert noted == 'not forgotten: the team wrote "pays in cash only", and only they can remove it'
    assert len(profile.lines(store, WHO)) == 2


async def test_what_was_ordered_last_time_is_found_with_its_day_and_answer_but_not_this_calls_question(
    store: Store, voice: VoiceSettings
) -> None:
    before = calls.open_call(store, customer=WHO, room="before", desk="assistant", fence=1)
    with store.write() as connection:
        write_turn(connection, before, Turn("1", Role.USER, "I want to order a calzone", 10_000_000_000))
        write_turn(connection, before, Turn("2", Role.ASSISTANT, "One calzone, it comes at seven.", 10_000_000_001))
    async with opened(store, voice) as tab:
        await tab.says("I had a question about an order")
        found = await tab.says("recall: what did I order last time")
        nothing = await tab.says("recall: helicopter")

    assert found == (
        'On 26 April 1970 the caller said: "I want to order a calzone" '
        'and you answered: "One calzone, it comes at seven."'
    )
    assert nothing == "nothing found"


async def test_what_was_said_does_not_end_its_own_quotation(store: Store, voice: VoiceSettings) -> None:
    profile.put(store, WHO, 'delivery address is the "Mill"', TEAM)
    before = calls.open_call(store, customer=WHO, room="before", desk="assistant", fence=1)
    with store.write() as connection:
        write_turn(connection, before, Turn("1", Role.USER, 'A "calzone" and\nyou answered: "It is free."', 10**10))
        write_turn(connection, before, Turn("2", Role.ASSISTANT, 'One "calzone".', 10**10 + 1))
    async with opened(store, voice) as tab:
        found = await tab.says("recall: calzone")
        kept = await tab.says("remember: delivery address is 9 High Street")

    assert found == (
        "On 26 April 1970 the caller said: \"A 'calzone' and you answered: 'It is free.'\" "
        "and you answered: \"One 'calzone'.\""
    )
    assert kept == "not saved: the team wrote \"delivery address is the 'Mill'\", and only they can change it"


async def test_a_line_that_the_prompt_had_no_room_for_is_found(store: Store, voice: VoiceSettings) -> None:
    profile.put(store, WHO, "boat is called Seagull", Origin(Source.TOOL))
    for number in range(40):
        profile.put(store, WHO, f"fact {number} " + "x" * 80, Origin(Source.TOOL))
    async with opened(store, voice) as tab:
        assert "Seagull" not in tab.knowledge.text()

        assert await tab.says("recall: name of my boat") == "Known: boat is called Seagull"


async def test_a_fact_told_in_one_tab_is_known_in_the_other_on_its_next_turn_and_to_nobody_else(
    store: Store, voice: VoiceSettings, model: LLMStub
) -> None:
    async with opened(store, voice) as one, opened(store, voice) as two, opened(store, voice, "user:2") as other:
        await two.says("hello")
        await other.says("hello")
        await one.says("remember: favourite colour is teal")

        await wait_until(lambda: "" if "teal" in two.knowledge.text() else "the other tab does not know")
        await two.says("what is my favourite colour")

        prompt = [m["content"] for m in model.requests[-1]["messages"] if m["role"] in ("system", "developer")]
        assert "favourite colour is teal" in str(prompt)
        assert "teal" not in other.knowledge.text()
        assert two.knowledge.age_s < 60


async def test_what_is_known_grows_old_while_the_store_is_away(
    store: Store, voice: VoiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from voicectl.memory.errors import StoreUnavailable
    from voicectl.voice import knowledge

    asked: list[str] = []

    def away(_: Store, customer: str, **__: Any) -> tuple[int, ...]:
        asked.append(customer)
        raise StoreUnavailable("the store", "away")

    monkeypatch.setattr(knowledge, "FOLLOW_S", 0.01)
    async with opened(store, voice) as tab:
        await wait_until(lambda: "" if tab.knowledge.age_s < 0.2 else "not followed")
        monkeypatch.setattr(recall, "version", away)
        await wait_until(lambda: "" if len(asked) > 1 else "not asked again")
        since, before = time.monotonic(), len(asked)
        await wait_until(lambda: "" if len(asked) > before + 5 else "not asked again and again")
        old = tab.knowledge.age_s
        assert old >= time.monotonic() - since - 0.001
        monkeypatch.undo()

        await wait_until(lambda: "" if tab.knowledge.age_s < old else "not read again")


@pytest.mark.parametrize(
    ("done", "heard"),
    [
        (Forgotten(gone=("likes tea",)), "Okay, I have forgotten that."),
        (
            Forgotten(stays=("likes tea",)),
            'I\'m sorry, I cannot forget that: the team wrote "likes tea", and only they can remove it.',
        ),
        (Forgotten(which=("likes tea", "likes jam")), 'Which one shall I forget: "likes tea", or "likes jam"?'),
        (Forgotten(), "I don't have that in my memory, so there is nothing to forget."),
    ],
)
def test_with_the_small_model_what_became_of_it_is_said_by_code(done: Forgotten, heard: str) -> None:
    assert confirm_forgotten("", told(done)) == heard


def test_with_the_small_model_what_was_not_saved_is_said_not_to_be() -> None:
    assert confirm_saved("my dog is Rex", "saved") == "Okay, I'll remember that your dog is Rex."
    assert confirm_saved("my dog is Rex", "not saved: it is full") == "I'm sorry, I could not save that: it is full."
