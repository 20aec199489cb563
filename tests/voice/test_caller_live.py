"""A real LiveKit server between the synthetic caller and an agent with the local ear and the local voice."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
from livekit import api, rtc
from livekit.agents import Agent, AgentSession, room_io

from tests.support.installation import CACHE, free_port
from tests.support.waiting import wait_until
from voicectl.memory.config import load
from voicectl.voice import engines, models
from voicectl.voice.caller import Caller, NothingHeard
from voicectl.voice.config import VoiceSettings
from voicectl.voice.proxies import spare_loopback
from voicectl.voice.speech import Ear, read_wav

pytestmark = pytest.mark.live

KEY, SECRET = "testkey", "0123456789abcdef0123456789abcdef01"
GREETING = "Welcome to the museum. How can I help you today?"
CONFIG = """
port: {port}
bind_addresses: ["127.0.0.1"]
rtc:
  udp_port: {udp}
  tcp_port: 0
  use_external_ip: false
  node_ip: 127.0.0.1
  enable_loopback_candidate: true
  interfaces: {{includes: [lo]}}
  stun_servers: ["127.0.0.1:3478"]
keys: {{{key}: "{secret}"}}
logging: {{level: error}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    binary = CACHE / "home" / "bin" / "livekit-server"
    config = tmp_path_factory.mktemp("livekit") / "livekit.yaml"
    port, udp = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)
    config.write_text(CONFIG.format(port=port, udp=udp, key=KEY, secret=SECRET))
    process = subprocess.Popen([str(binary), "--config", str(config)])

    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever proxy the shell has

    def silent() -> str:
        try:
            direct.open(f"http://127.0.0.1:{port}/", timeout=1).close()
        except OSError as e:
            return str(e)
        return ""

    asyncio.run(wait_until(silent, 20))
    yield f"ws://127.0.0.1:{port}"
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def ear() -> Ear:
    return Ear(CACHE / "home")


@pytest.fixture(scope="module")
def preloaded() -> engines.Loaded:
    return engines.preload(load(VoiceSettings, home=CACHE / "home"))


def token(room: str, identity: str, kind: str = "standard") -> str:
    minted = api.AccessToken(KEY, SECRET).with_identity(identity).with_kind(kind)  # type: ignore[arg-type]
    return minted.with_grants(api.VideoGrants(room_join=True, room=room)).to_jwt()


class Desk:
    """An agent that greets with a fixed line and keeps what it hears; no language model."""

    def __init__(self, session: AgentSession[None]) -> None:
        self.session, self.heard = session, list[str]()
        session.on("user_input_transcribed", lambda e: self.heard.append(e.transcript) if e.is_final else None)

    def lacks(self, words: str) -> str:
        return "" if words in " ".join(self.heard).lower() else f"the agent heard {self.heard}"


@pytest.fixture
async def desk(server: str, preloaded: engines.Loaded, request: pytest.FixtureRequest) -> AsyncIterator[Desk]:
    settings = load(VoiceSettings, home=CACHE / "home", openai_base_url="http://127.0.0.1:9/v1")
    made = engines.build(settings, keyterms=lambda: ["Rahim Chowdhury"], preloaded=preloaded)
    session: AgentSession[None] = AgentSession(
        stt=made.stt,
        tts=made.tts,
        vad=made.vad,
        turn_handling=engines.turn_handling(settings),
        conn_options=engines.connect_options(settings),
    )
    spare_loopback(server)
    room = rtc.Room()
    await room.connect(server, token(request.node.name, "agent-1", "agent"))
    await session.start(
        Agent(instructions=""), room=room, room_options=room_io.RoomOptions(), record=False, session_host=False
    )
    yield Desk(session)
    await session.aclose()
    await room.disconnect()
    await made.aclose()


async def test_caller_and_agent_understand_each_other_through_a_real_server(
    server: str, desk: Desk, ear: Ear, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    async with Caller(server, token(request.node.name, "rahim"), home=CACHE / "home", ear=ear) as caller:
        assert caller.agents() == ["agent-1"]

        desk.session.say(GREETING)
        said, greeting = await caller.hear()
        assert "museum" in said.lower()
        assert 2 < greeting.duration_s < 6

        await caller.say("My name is Rahim Chowdhury, and I live in Dhaka.")
        await wait_until(lambda: desk.lacks("rahim"), 20)  # a keyterm: the small ear alone writes it otherwise

        desk.session.say("You said something about a city.")
        answer = await caller.listen()
        assert answer.first_audible_s > 0
        assert "city" in (await caller.transcribe(answer)).lower()

        caller.save(tmp_path / "call.wav")
    assert caller.disconnect_reason == "CLIENT_INITIATED"
    mixed = read_wav(tmp_path / "call.wav")
    text = await caller.transcribe(mixed)
    assert "museum" in text.lower()
    assert "name is" in text.lower()
    assert "city" in text.lower()
    assert any("museum" in t.text for t in caller.transcripts)


async def test_listening_to_a_silent_room_ends_with_an_error_that_says_who_was_there(
    server: str, ear: Ear, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A dead proxy in the shell must not keep a caller from a server on this machine.
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")

    async with Caller(server, token(request.node.name, "alone"), home=CACHE / "home", ear=ear) as caller:
        with pytest.raises(NothingHeard, match="nobody else"):
            await caller.listen(start_s=0.5)


async def test_call_ended_by_the_other_side_is_known_with_its_reason(
    server: str, ear: Ear, request: pytest.FixtureRequest
) -> None:
    async with Caller(server, token(request.node.name, "guest"), home=CACHE / "home", ear=ear) as caller:
        async with api.LiveKitAPI(server.replace("ws", "http"), KEY, SECRET) as admin:
            await admin.room.delete_room(api.DeleteRoomRequest(room=request.node.name))

        assert await caller.wait_over() == "ROOM_DELETED"
        with pytest.raises(ConnectionError, match="ROOM_DELETED"):
            await caller.say(np.zeros(2400, np.int16))


def test_models_for_these_tests_are_here() -> None:
    names = (models.EAR, models.VOICE, models.CALLER_VOICE, models.CALLER_EAR)
    missing = [n for n in names if not models.ready(n, CACHE / "home")]
    assert not missing, f"run: voicectl models pull {' '.join(missing)}"
