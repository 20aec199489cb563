"""The real LiveKit server with our configuration, beside a foreign one that was started for development."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cli.system.rig import Rig, free_port
from tests.support.installation import CACHE
from voicectl.cli.system import choices, lifecycle, livekit_server, ports, probes
from voicectl.cli.system.choices import Situation, choose
from voicectl.cli.system.home import Home
from voicectl.cli.system.processes import table
from voicectl.memory.config import load
from voicectl.voice.config import VoiceSettings

pytestmark = pytest.mark.live

SERVER = CACHE / "home" / "bin" / "livekit-server"


@pytest.fixture
def foreign() -> Iterator[int]:
    """Somebody's `livekit-server --dev`, which knows devkey only."""
    port, udp = free_port(), free_port()
    command = [SERVER, "--dev", "--bind", "127.0.0.1", "--port", str(port), "--udp-port", str(udp)]
    environment = {k: v for k, v in os.environ.items() if k != "VOICE_HOME"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 20
        while probes.ask(f"http://127.0.0.1:{port}/").status != 200:
            assert time.monotonic() < deadline, "the foreign server does not answer"
            time.sleep(0.02)
        yield port
        assert process.poll() is None, "the foreign server must survive"
        process.kill()


def test_beside_a_foreign_server_ours_takes_another_port_and_only_loopback(
    home: Home, foreign: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choices, "LIVEKIT_PORT", free_port())
    wanted = {"livekit_url": f"ws://127.0.0.1:{foreign}", "rtc_udp_port": free_port(), "worker_port": 1, "http_port": 2}
    wanted |= {"openai_api_key": "sk-1", "livekit_api_key": "APIours", "livekit_api_secret": "s" * 40}
    choice = choose(load(VoiceSettings, **wanted), Situation({}, lambda pid: False, frozenset()), {})
    settings = load(VoiceSettings, **{**wanted, "livekit_url": choice.state["livekit_url"]})
    livekit_server.write_config(settings, home)

    rig = Rig(home)
    rig.start(*(p for p in table(settings, home, SERVER) if p.name == "livekit"))

    assert f"port {foreign} is held by pid" in choice.notes[0]
    assert probes.livekit_accepts(settings.livekit_url, "APIours", "s" * 40).status == 200
    assert probes.livekit_accepts(f"ws://127.0.0.1:{foreign}", "APIours", "s" * 40).status == 401
    assert probes.livekit_accepts(settings.livekit_url, "devkey", "secret").status == 401
    sockets = psutil.Process(rig.pid("livekit")).net_connections("inet")
    listening = {c.laddr.ip for c in sockets if c.status in (psutil.CONN_LISTEN, psutil.CONN_NONE)}
    assert listening == {"127.0.0.1"}
    begun = time.monotonic()
    lifecycle.stop_all(home, lambda _: None)
    assert time.monotonic() - begun < 15, "one that waits for its rooms takes longer"
    assert ports.owner(int(settings.livekit_url.rsplit(":", 1)[1])) is None


def test_the_pinned_version_is_what_the_server_says(tmp_path: Path) -> None:
    assert livekit_server.version_of(SERVER) == livekit_server.VERSION
