"""Call anybody's LiveKit agent as a synthetic customer: speak, hear, transcribe, without any key of a provider.

    async with place_call("front-desk", url="ws://127.0.0.1:7880", api_key="devkey", api_secret="secret") as caller:
        greeting, _ = await caller.hear()
        await caller.say("Do you have a room with a window?")
        answer, heard = await caller.hear()

Needs the extra `test-speech`. Not here: the customer itself (caller.py), the pytest fixture (pytest_plugin.py).
"""

from __future__ import annotations

import secrets
from importlib.util import find_spec
from pathlib import Path

from livekit import api

from voicectl.voice import models
from voicectl.voice.caller import Caller
from voicectl.voice.errors import VoiceFault
from voicectl.voice.speech import Ear, Voice

HOME = Path("~/.cache/voicectl")


class SpeechMissing(VoiceFault):
    """The packages of the caller's voice and ear are not installed."""

    def __init__(self) -> None:
        super().__init__("the caller has no voice: install the extra, pip install 'voicectl[test-speech]'")


def place_call(
    agent: str,
    *,
    url: str,
    api_key: str,
    api_secret: str,
    room: str = "",
    identity: str = "",
    attributes: dict[str, str] | None = None,
    metadata: str = "",
    voice: Voice | None = None,
    ear: Ear | None = None,
) -> Caller:
    """Prepare a caller in a new room into which the agent is dispatched; `async with` joins.

    Args:
        agent: Name the agent is registered under; "" for agents that join every room by themselves.
        url: LiveKit server.
        api_key: Its key.
        api_secret: Its secret.
        room: Name of the room; a new one when not given.
        identity: The caller's identity in it.
        attributes: The caller's, e.g. `{"voice.customer": "user:ada"}`.
        metadata: Given to the agent's job.
        voice: The caller's voice; that of `speech_at()` when not given. On a machine that has none yet this blocks
            while it is fetched (90 MB): in asynchronous code give what `await asyncio.to_thread(speech_at)` returned.
        ear: Its ear, the same way (150 MB).

    Raises:
        SpeechMissing: The extra `test-speech` is not installed.
        ModelFault: Voice or ear could not be fetched.
    """
    room = room or f"test-{secrets.token_hex(6)}"
    token = api.AccessToken(api_key, api_secret).with_identity(identity or f"caller-{secrets.token_hex(4)}")
    token = token.with_grants(api.VideoGrants(room_join=True, room=room)).with_attributes(attributes or {})
    if agent:
        dispatch = api.RoomAgentDispatch(agent_name=agent, metadata=metadata)
        token = token.with_room_config(api.RoomConfiguration(agents=[dispatch]))
    if voice is None or ear is None:
        made_voice, made_ear = speech_at()
        voice, ear = voice or made_voice, ear or made_ear
    return Caller(url, token.to_jwt(), voice=voice, ear=ear)


def speech_at(home: Path = HOME) -> tuple[Voice, Ear]:
    """A voice and an ear. Share them between calls: each loads its model once.

    Blocks while what is not on this disk is fetched (240 MB): from asyncio call it by `to_thread`.

    Args:
        home: Folder for models and for lines spoken before.

    Raises:
        SpeechMissing: The extra `test-speech` is not installed.
        ModelFault: They could not be fetched.
    """
    home = home.expanduser()
    if find_spec("kokoro_onnx") is None or find_spec("faster_whisper") is None:
        raise SpeechMissing
    missing = [name for name in (models.CALLER_VOICE, models.CALLER_EAR) if not models.ready(name, home)]
    if missing:
        models.pull(missing, home)
    return Voice(home), Ear(home)
