"""The installation as its users have it: up, the tour on the real local model, restart in a call, down. No key set."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from tests.support.installation import CACHE, free_port
from tests.support.waiting import wait_until
from voicectl.cli.system.ports import owner
from voicectl.memory.config import MemorySettings, load
from voicectl.memory.store.leases import open_leases
from voicectl.voice.rooms.registry import live_calls

pytestmark = [pytest.mark.live, pytest.mark.alone, pytest.mark.timeout(420)]


class User:
    """Somebody at a shell with an installation of their own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("VOICE_", "MEMORY_", "LIVEKIT_", "OPENAI_"))}
        self.environment = {
            **kept,
            "VOICE_HOME": str(home),
            "VOICE_ENV_FILE": str(home.parent / "none.env"),
            "VOICE_HTTP_PORT": str(self.port),
            "VOICE_RTC_UDP_PORT": str(free_port(socket.SOCK_DGRAM)),
            "MEMORY_BACKEND": "embedded",
        }

    async def voicectl(self, *words: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "voicectl.cli.main", *words),
            env=self.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()

    async def status(self) -> dict[str, dict[str, object]]:
        _, out, _ = await self.voicectl("status", "--json")
        return {p["name"]: p for p in json.loads(out)["processes"]}

    def on_a_call(self) -> bool:
        leases = open_leases(load(MemorySettings, home=self.home))
        try:
            return bool(live_calls(leases))
        finally:
            leases.close()

    def processes(self) -> list[int]:
        """Whoever has this VOICE_HOME in its environment."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("VOICE_HOME") == str(self.home):
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found


@pytest.fixture
async def user(tmp_path: Path) -> AsyncIterator[User]:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    for name in ("models", "bin", "cache"):
        (home / name).symlink_to(CACHE / "home" / name)
    made = User(home)
    yield made
    await made.voicectl("down")


async def test_up_the_tour_a_restart_in_a_call_and_down(user: User) -> None:
    code, _, said = await user.voicectl("up", "--no-letta")
    assert code == 0, said
    assert "ready after" in said

    code, out, said = await user.voicectl("demo", "--json")
    assert code == 0, said + out
    steps = {s["step"]: s for s in json.loads(out)["steps"]}
    assert all(s["ok"] for s in steps.values()), steps
    assert "green" in steps["the fact is used"]["heard"].lower()
    assert (user.home / "demo" / "second-call.wav").stat().st_size > 100_000

    before = await user.status()
    calling = asyncio.create_task(user.voicectl("call", "--json", "Hello there.", "--as", "user:restart"))
    await wait_until(lambda: "" if user.on_a_call() else "no call is on", 30)
    code, _, said = await user.voicectl("restart", "--no-letta")
    assert code == 0, said
    code, out, said = await calling
    assert code == 0, said
    assert json.loads(out)["turns"][-1]["heard"].strip(), "the call that was on is finished, not cut"
    after = await user.status()
    assert after["worker"]["pid"] != before["worker"]["pid"]
    assert after["livekit"]["pid"] == before["livekit"]["pid"], "a restart leaves LiveKit alone"

    code, out, _ = await user.voicectl("memory", "show", "user:restart", "--json")
    assert code == 0
    assert json.loads(out)["calls"] == 1

    code, _, said = await user.voicectl("down")
    assert code == 0, said
    assert user.processes() == []
    assert owner(user.port) is None
