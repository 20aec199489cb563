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

from tests.support.installation import Installation
from tests.support.llm_stub import LLMStub, Reply, by_keyword
from tests.support.waiting import wait_until
from voicectl.voice.calling import place_call
from voicectl.voice.rooms.admin import RoomAdmin, room_admin
from voicectl.voice.speech import Ear, Voice

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "plain_agent.py"
TEST = EXAMPLE.with_name("test_front_desk.py")


@pytest.fixture
def plain_agent(installation: Installation, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The example runs beside an installation; yields what its environment is."""
    log = tmp_path / "plain.log"
    key, secret = installation.settings.key_secret()
    environment = {**installation.environment, "LIVEKIT_URL": installation.livekit_url}
    environment |= {"LIVEKIT_API_KEY": key, "LIVEKIT_API_SECRET": secret}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "livekit.agents", "start", str(EXAMPLE)],
            env=environment,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    yield environment
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)
    print(log.read_text())  # shown where the test failed


async def reached(installation: Installation) -> None:
    """Until the server, which learns a new agent's name with delay, hands dispatches to it."""
    async with room_admin(installation.settings) as admin:
        for _ in range(40):
            await admin.dispatch("front-desk-canary", "front-desk", {})
            try:
                await wait_until(lambda: _joined(admin), 2)
            except AssertionError:
                continue
            return
    raise AssertionError("no dispatch reached the plain agent")


async def _joined(admin: RoomAdmin) -> str:
    return "" if await admin.participants("front-desk-canary") else "nobody joined"


async def test_somebody_elses_agent_remembers_its_caller_and_has_its_room_to_itself(
    installation: Installation, plain_agent: dict[str, str], script: LLMStub, ear: Ear, voice: Voice
) -> None:
    script.script = by_keyword(
        {"Result:": Reply("Noted."), "window": Reply(tool="remember", arguments={"fact": "wants a room with a window"})}
    )
    await reached(installation)

    # The example of a test by voice, as its user runs it: with the fixture that comes with the package.
    command = [sys.executable, "-m", "pytest", "-q", "-o", "asyncio_mode=auto", "-p", "no:cacheprovider", str(TEST)]
    given = {**plain_agent, "VOICE_HOME": str(voice.home)}
    tested = await asyncio.to_thread(
        subprocess.run, command, env=given, cwd=TEST.parent, capture_output=True, text=True, check=False
    )
    script.requests.clear()
    key, secret = installation.settings.key_secret()
    guest = {"voice.customer": "user:daniel"}
    async with place_call(
        "front-desk",
        url=installation.livekit_url,
        api_key=key,
        api_secret=secret,
        attributes=guest,
        voice=voice,
        ear=ear,
    ) as caller:
        await caller.hear(start_s=30)
        async with room_admin(installation.settings) as admin:
            await admin.dispatch(caller.room.name, "front-desk", {})
        await asyncio.sleep(0.5)  # the second offer has been answered by now; it is refused within milliseconds
        await caller.say("Is there anything else?")
        await caller.hear()
        agents = caller.agents()

    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "1 passed" in tested.stdout
    prompt = json.dumps(script.requests[-1]["messages"])
    assert "small hotel" in prompt
    assert "wants a room with a window" in prompt
    assert len(agents) == 1
