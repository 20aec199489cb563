"""A customer who calls ten times in a row: each call is answered aloud by a job of its own, and nothing is left."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

import pytest

from tests.live.conftest import Call
from tests.support.installation import Installation
from tests.support.llm_stub import LLMStub, Reply, by_keyword
from tests.support.waiting import wait_until
from voicectl.voice.caller import Caller, alike
from voicectl.voice.events import Attribute
from voicectl.voice.rooms.admin import RoomAdmin, is_human, room_admin

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]
SAID = "Here is your pizza."
# LiveKit notices a dead client after 20 s, then the call waits 20 s for it (livekit-server.md 10).
FORGOTTEN_S = 20 + 20 + 10.0
ASKING = (3, 10)  # in these calls the customer waits for an answer; the others end at the first sound of the agent


async def test_ten_calls_in_a_row_are_answered_and_leave_nothing(
    installation: Installation, script: LLMStub, place_call: Call, customer: str
) -> None:
    script.script = by_keyword({"pizza": Reply(SAID)})
    async with room_admin(installation.settings) as admin:
        speakers = [await killed_call(installation, admin, customer)]
        for number in range(2, 11):  # each right after the one before: only the agent is waited for
            async with place_call(customer) as caller:
                speakers.append(await speaker(caller))
                if number in ASKING:
                    await caller.listen()
                    await caller.say("I would like a pizza.")
                    answer, _ = await caller.hear()
                    assert alike(answer, SAID), answer

        assert len({job for _, job in speakers}) == 10, speakers
        await wait_until(lambda: still_there(admin, {room for room, _ in speakers}), FORGOTTEN_S)


async def speaker(caller: Caller) -> tuple[str, str]:
    """The room, and who is heard in it, once it is heard."""

    def silent() -> str:
        assert caller.disconnect_reason is None
        return "" if caller.heard.utterance(caller.joined_at, 60, time.monotonic()) else "no voice is heard"

    await wait_until(silent, 60)
    (agent,) = caller.agents()
    return caller.room.name, agent


async def killed_call(installation: Installation, admin: RoomAdmin, customer: str) -> tuple[str, str]:
    """A call whose client is killed while the agent greets it: the room, and the agent in it."""
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "voicectl.cli.main", "call", "--as", customer, "Hello."),
        env=installation.environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    found: list[tuple[str, str]] = []

    async def unanswered() -> str:
        for room in [r.name for r in await admin.rooms()]:
            people = await admin.participants(room)
            mine = any(p.attributes.get(Attribute.CUSTOMER) == customer for p in people)
            speaking = [p for p in people if not is_human(p) and p.attributes.get("lk.agent.state") == "speaking"]
            if mine and speaking:
                found.append((room, speaking[0].identity))
                return ""
        return "nobody greets the client"

    try:
        await wait_until(unanswered, 60)
    finally:
        os.killpg(client.pid, signal.SIGKILL)
        await client.wait()
    return found[0]


async def still_there(admin: RoomAdmin, rooms: set[str]) -> str:
    there = rooms & {r.name for r in await admin.rooms()}
    return f"still there: {there}" if there else ""
