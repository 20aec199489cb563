"""The example of somebody else's agent: started as its users would, it remembers through our memory alone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from livekit import api

from tests.support.installation import Installation
from tests.support.llm_stub import LLMStub, Reply, by_keyword
from tests.support.waiting import wait_until
from voicectl.voice.caller import Caller
from voicectl.voice.rooms.admin import RoomAdmin, room_admin
from voicectl.voice.speech import Ear, Voice

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "plain_agent.py"


@pytest.fixture
def plain_agent(installation: Installation, tmp_path: Path) -> Iterator[Path]:
    log = tmp_path / "plain.log"
    key, secret = installation.settings.key_secret()
    environment = {**installation.environment, "LIVEKIT_URL": installation.livekit_url}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "livekit.agents", "start", str(EXAMPLE)],
            env={**environment, "LIVEKIT_API_KEY": key, "LIVEKIT_API_SECRET": secret},
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    yield log
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)


def token(installation: Installation, customer: str, room: str) -> str:
    """What the deploying company's own token service would mint."""
    grants = api.VideoGrants(room_join=True, room=room)
    made = api.AccessToken(*installation.settings.key_secret()).with_identity(f"guest-{room}").with_grants(grants)
    dispatch = api.RoomAgentDispatch(agent_name="front-desk")
    made = made.with_attributes({"voice.customer": customer})
    return made.with_room_config(api.RoomConfiguration(agents=[dispatch])).to_jwt()


async def reached(installation: Installation) -> None:
    """Until the server, which learns a new agent's name with delay, hands dispatches to it."""
    async with room_admin(installation.settings) as admin:
        for _ in range(10):
            await admin.dispatch("front-desk-canary", "front-desk", {})
            try:
                await wait_until(lambda: _joined(admin), 2)
            except AssertionError:
                continue
            return
    raise AssertionError("no dispatch reached the plain agent")


def _registered(log: Path) -> str:
    text = log.read_text()
    return "" if "registered worker" in text else f"not registered: {text}"


async def _joined(admin: RoomAdmin) -> str:
    return "" if await admin.participants("front-desk-canary") else "nobody joined"


async def test_somebody_elses_agent_remembers_its_caller_and_has_its_room_to_itself(
    installation: Installation, plain_agent: Path, script: LLMStub, ear: Ear, voice: Voice, customer: str
) -> None:
    script.script = by_keyword(
        {"Result:": Reply("Noted."), "window": Reply(tool="remember", arguments={"fact": "wants a room with a window"})}
    )
    await wait_until(lambda: _registered(plain_agent), 60)
    await reached(installation)

    url = installation.livekit_url
    async with Caller(url, token(installation, customer, f"{customer}-1"), voice=voice, ear=ear) as caller:
        await caller.hear(start_s=30)
        await caller.say("Hello. My name is Daniel.")  # a name that every ear knows
        await caller.hear()
        await caller.say("I want a room with a window.")
        await caller.hear()
    script.requests.clear()
    async with Caller(url, token(installation, customer, f"{customer}-2"), voice=voice, ear=ear) as caller:
        greeting, _ = await caller.hear(start_s=30)
        async with room_admin(installation.settings) as admin:
            await admin.dispatch(caller.room.name, "front-desk", {})
        await asyncio.sleep(0.5)  # the second offer has been answered by now; it is refused within milliseconds
        await caller.say("Is there anything else?")
        await caller.hear()
        agents = caller.agents()

    assert "daniel" in greeting.lower()
    prompt = json.dumps(script.requests[-1]["messages"])
    assert "small hotel" in prompt
    assert "wants a room with a window" in prompt
    assert len(agents) == 1
