"""A pytest fixture that calls your LiveKit agent and hears it. Loaded by pytest wherever this package is installed.

    async def test_the_front_desk_offers_a_room(call_agent):
        async with call_agent("front-desk") as caller:
            await caller.hear()
            await caller.say("Do you have a room with a window?")
            answer, heard = await caller.hear()
        assert "window" in answer.lower()
        assert heard.first_audible_s < 3

LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET say where; VOICE_HOME where the caller's voice and ear are kept.
Bring your own plugin for async tests (pytest-asyncio, anyio). Not here: the call itself (calling.py).
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:  # this module is imported by every run of pytest, LiveKit only by those that call
    from voicectl.voice.caller import Caller

WANTED = ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET")


class CallAgent(Protocol):
    """What the fixture `call_agent` is: `place_call` with server, voice and ear filled in."""

    def __call__(self, agent: str, **given: Any) -> Caller:
        """A caller of this agent; see `voicectl.voice.calling.place_call`."""


@pytest.fixture(scope="session")
def call_agent() -> CallAgent:
    """Calls an agent of the server that the environment names; voice and ear are loaded once a session."""
    missing = [name for name in WANTED if not os.environ.get(name)]
    if missing:
        pytest.fail(f"call_agent needs {', '.join(missing)} in the environment", pytrace=False)
    from voicectl.voice.calling import HOME, place_call, speech_at

    voice, ear = speech_at(Path(os.environ.get("VOICE_HOME") or HOME))
    url, key, secret = (os.environ[name] for name in WANTED)
    return functools.partial(place_call, url=url, api_key=key, api_secret=secret, voice=voice, ear=ear)
