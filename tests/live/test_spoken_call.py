"""A call through the real server: what is said is heard, answered aloud, recorded and remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import Row, select

from tests.live.conftest import Call
from tests.support.installation import Installation
from tests.support.llm_stub import LLMStub, Reply, by_keyword
from tests.support.waiting import wait_until
from voicectl.memory import profile
from voicectl.memory.store.schema import calls, turns
from voicectl.voice.caller import Caller
from voicectl.voice.speech import RATE

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]


def kept(installation: Installation, customer: str) -> Sequence[Row[Any]]:
    store = installation.store()
    with store.read() as connection:
        found = connection.execute(select(turns).join(calls).where(calls.c.customer == customer)).all()
    store.close()
    return found


def audible_s(caller: Caller) -> float:
    """For how many seconds the agent was audible so far."""
    pcm = abs(caller.heard.pcm().astype(int))
    block = RATE // 50
    return float((pcm[: len(pcm) // block * block].reshape(-1, block).max(axis=1, initial=0) > 500).sum()) / 50


def told(installation: Installation, customer: str) -> str:
    return " ".join(r.text for r in kept(installation, customer) if r.role == "assistant")


def rows(installation: Installation, customer: str) -> list[tuple[str, str]]:
    store = installation.store()
    with store.read() as connection:
        found = connection.execute(
            select(turns.c.role, turns.c.text)
            .join(calls)
            .where(calls.c.customer == customer, turns.c.role.in_(["user", "assistant"]))
            .order_by(calls.c.started_ms, turns.c.seq)
        ).all()
    store.close()
    return [(r.role, r.text) for r in found]


def ended(installation: Installation, customer: str) -> list[tuple[str, str]]:
    store = installation.store()
    with store.read() as connection:
        found = connection.execute(select(calls.c.state, calls.c.reason).where(calls.c.customer == customer)).all()
    store.close()
    return [(r.state, r.reason) for r in found]


async def test_what_is_said_is_answered_aloud_and_recorded(
    installation: Installation, script: LLMStub, place_call: Call, customer: str
) -> None:
    script.script = by_keyword({"opening": Reply("We open at nine in the morning."), "goodbye": Reply(tool="end_call")})

    async with place_call(customer) as caller:
        greeting, _ = await caller.hear()
        await caller.say("What are your opening hours?")
        answer, heard = await caller.hear()
        await caller.hang_up()

    assert "help you" in greeting.lower()
    assert "nine" in answer.lower() or "9" in answer
    assert heard.duration_s > 0.5
    await wait_until(lambda: "" if ended(installation, customer) == [("ended", "customer left")] else "not ended", 15)
    spoken = rows(installation, customer)
    assert [role for role, _ in spoken] == ["assistant", "user", "assistant"]
    assert "opening hours" in spoken[1][1].lower()
    assert spoken[2][1] == "We open at nine in the morning."


async def test_a_customer_who_calls_again_is_greeted_by_name_and_the_fact_is_in_front_of_the_model(
    installation: Installation, script: LLMStub, place_call: Call, customer: str
) -> None:
    script.script = by_keyword(
        {
            "Result:": Reply("I will remember that."),
            "peanut": Reply(tool="remember", arguments={"fact": "is allergic to peanuts"}),
            "goodbye": Reply(tool="end_call"),
        }
    )
    async with place_call(customer) as caller:
        await caller.hear()
        await caller.say("Hello, my name is Daniel, and I am allergic to peanuts.")
        confirmed, _ = await caller.hear()
        await caller.say("Goodbye.")
        closing, _ = await caller.hear()
        over = await caller.wait_over()
    script.requests.clear()

    async with place_call(customer) as caller:
        greeting, _ = await caller.hear()
        await caller.say("What should I not eat?")
        await caller.hear()
        await caller.hang_up()

    assert "remember" in confirmed.lower()
    assert "thank you for calling" in closing.lower(), "the closing line must be heard to its end"
    assert over == "ROOM_DELETED"
    assert "daniel" in greeting.lower()
    assert "welcome back" in greeting.lower()
    prompt = str(script.requests[-1]["messages"])
    assert "is allergic to peanuts" in prompt
    store = installation.store()
    lines = {line.text: line for line in profile.lines(store, customer)}
    store.close()
    assert "my name is daniel" in (lines["name: Daniel"].because or "").lower()
    assert lines["is allergic to peanuts"].source == profile.Source.TOOL
    assert ended(installation, customer)[0] == ("ended", "ended by the agent")


async def test_another_customer_is_told_nothing_of_it(script: LLMStub, place_call: Call, customer: str) -> None:
    script.script = by_keyword(
        {"Result:": Reply("Fine."), "peanut": Reply(tool="remember", arguments={"fact": "hates peanuts"})}
    )
    async with place_call(customer) as caller:
        await caller.hear()
        await caller.say("I hate peanuts.")
        await caller.hear()
    assert "hates peanuts" in str(script.requests), "there is something to be told"
    script.requests.clear()

    async with place_call(f"{customer}-other") as caller:
        greeting, _ = await caller.hear()
        await caller.say("What do you know about me?")
        await caller.hear()

    assert "welcome back" not in greeting.lower()
    assert script.requests
    assert "peanut" not in str(script.requests)


async def test_two_customers_at_once_have_rooms_of_their_own(
    installation: Installation, script: LLMStub, place_call: Call, customer: str
) -> None:
    script.script = by_keyword({"coffee": Reply("You said coffee."), "pizza": Reply("You said pizza.")})

    async with place_call(f"{customer}-a") as one, place_call(f"{customer}-b") as two:
        await asyncio.gather(one.hear(), two.hear())
        await asyncio.gather(one.say("I would like a coffee."), two.say("I would like a pizza."))
        (heard_one, _), (heard_two, _) = await asyncio.gather(one.hear(), two.hear())

    assert one.room.name != two.room.name
    assert "coffee" in heard_one.lower()
    assert "pizza" in heard_two.lower()
    assert [r for r, t in rows(installation, f"{customer}-a") if "pizza" in t.lower()] == []


@pytest.mark.alone  # a bound in seconds: nothing else of ours runs beside it
@pytest.mark.parametrize("behaviour", ["refuse", "no first byte", "stall"])
async def test_when_the_model_fails_the_customer_hears_words_and_the_next_turn_works(
    script: LLMStub, place_call: Call, customer: str, behaviour: str
) -> None:
    broken = Reply("Today the sun is shining over all the land", behaviour=behaviour)
    script.script = by_keyword({"weather": broken, "thank": Reply("You are very welcome.")})

    async with place_call(customer) as caller:
        await caller.hear()
        await caller.say("How is the weather?")
        words, heard = await caller.hear(start_s=6, end_silence_s=2.5)
        await caller.say("Thank you.")
        answer, _ = await caller.hear()

    assert heard.first_audible_s < 4, "3 s, and one for a busy machine; bench/failing_model.py states the 3 s"
    first = {"refuse": "sorry", "no first byte": "moment", "stall": "sun"}[behaviour]
    assert first in words.lower()
    assert "sorry" in words.lower(), "whatever was said first, the customer is told to ask again"
    assert "welcome" in answer.lower()


async def test_a_reply_that_is_interrupted_is_kept_as_far_as_it_was_heard(
    installation: Installation, script: LLMStub, place_call: Call, customer: str
) -> None:
    story = " ".join(f"Then came the day number {n}, and it was very long and very quiet." for n in range(1, 13))
    script.script = by_keyword({"story": Reply(story), "enough": Reply("All right, I stop.")})

    async with place_call(customer) as caller:
        await caller.hear()
        greeting_s = audible_s(caller)
        await caller.say("Please tell me a story.")
        await wait_until(lambda: "" if audible_s(caller) > greeting_s + 3 else "little of the story was heard", 30)
        await caller.say("Thank you, that is enough for today.")
        await wait_until(lambda: "" if "All right, I stop." in told(installation, customer) else "not answered", 30)

    (cut,) = [r for r in kept(installation, customer) if r.interrupted]
    assert cut.role == "assistant"
    assert cut.text.startswith("Then came the day number")
    assert len(cut.text) < len(story) * 0.8, "what was never heard is not kept"


async def test_a_killed_job_is_replaced_and_the_call_goes_on(
    installation: Installation, script: LLMStub, place_call: Call, customer: str
) -> None:
    script.script = by_keyword({"coffee": Reply("Here is your coffee."), "pizza": Reply("Here is your pizza.")})

    async with place_call(customer) as caller:
        await caller.hear()
        await caller.say("I would like a coffee.")
        await caller.hear()
        before = caller.agents()
        script.requests.clear()
        installation.kill_job_of(caller)
        sorry, heard = await caller.hear(start_s=30)
        await wait_until(lambda: "" if caller.agents() and caller.agents() != before else str(caller.agents()), 10)
        await caller.say("I would like a pizza.")
        answer, _ = await caller.hear()

    assert "cut" in sorry.lower()
    assert heard.first_audible_s < 20
    assert "pizza" in answer.lower()
    assert "Here is your coffee." in str(script.requests[-1]["messages"]), "the successor knows what was said before"
    assert len(ended(installation, customer)) == 1, "one call, two jobs"
