"""A real installation in a temporary folder: LiveKit's server, our worker and control plane, as users run them.

The language model is a scripted stub on loopback unless a test asks for the local one. Everything that was started is
ended by its process group. Models and LiveKit's server come from the cache that `python -m tests.setup` fills.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.support.waiting import wait_for
from voicectl.memory.config import MemorySettings, load, write_state
from voicectl.memory.store.engine import Store, open_store
from voicectl.memory.store.leases import open_leases
from voicectl.voice.caller import Caller
from voicectl.voice.config import VoiceSettings
from voicectl.voice.events import Attribute
from voicectl.voice.rooms.registry import live_workers

FOREIGN = ("VOICE_", "MEMORY_", "LIVEKIT_", "OPENAI_", "DEEPGRAM_", "CARTESIA_")
CACHE = Path(os.environ.get("VOICE_TEST_CACHE", "~/.cache/voicectl-tests")).expanduser()


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Installation:
    """Everything under one VOICE_HOME. Use as a context manager.

    Args:
        home: The VOICE_HOME.
        llm_url: OpenAI-compatible server for the calls; None for the small local model.
        environment: Further settings of all its processes.
        beside: Another machine's installation, whose LiveKit server this one uses; give both one DATABASE_URL.
        worker: Settings of its worker alone.
    """

    def __init__(
        self,
        home: Path,
        llm_url: str | None,
        environment: dict[str, str] | None = None,
        *,
        beside: Installation | None = None,
        worker: dict[str, str] | None = None,
    ) -> None:
        self.home = home
        self.url = f"http://127.0.0.1:{free_port()}"
        self.livekit_url = beside.livekit_url if beside else f"ws://127.0.0.1:{free_port()}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._beside = beside
        self._of_the_worker = worker or {}
        self._local_llm = llm_url is None
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)},
            "VOICE_HOME": str(home),
            "VOICE_ENV_FILE": str(home / "none.env"),
            **(_scripted(llm_url) if llm_url else {"VOICE_LOCAL": "true"}),
            "MEMORY_BACKEND": "embedded",
            "MEMORY_STEP": "off",  # it would ask the scripted model after calls
            **(environment or {}),
        }

    def __enter__(self) -> Installation:
        self.home.mkdir(parents=True, exist_ok=True)
        for name in ("models", "bin", "cache"):
            (CACHE / "home" / name).mkdir(parents=True, exist_ok=True)
            if not (self.home / name).exists():
                (self.home / name).symlink_to(CACHE / "home" / name)
        mine = f"key-{secrets.token_hex(4)}", secrets.token_hex(20)
        key, secret = self._beside.settings.key_secret() if self._beside else mine
        write_state(
            self.home,
            livekit_api_key=key,
            livekit_api_secret=secret,
            livekit_url=self.livekit_url,
            voice_rtc_udp_port=free_port(socket.SOCK_DGRAM),
            voice_http_port=int(self.url.rsplit(":", 1)[1]),
            voice_local_llm_url=f"http://127.0.0.1:{free_port()}/v1",
            voice_local_llm_key=secrets.token_hex(16),
        )
        try:
            if self._beside is None:
                self.start_livekit()
            self.start("web")
            if self._local_llm:
                self.start("llm")
                llm_root = str(self.settings.local_llm_url).removesuffix("/v1")
                self._wait_http(f"{llm_root}/health", "llm", 60)
            self.start("worker")
            self.wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in ("worker", "web", "syncer", "llm", "livekit"):
            if name in self.processes:
                self.kill(name, signal.SIGKILL)

    @property
    def settings(self) -> VoiceSettings:
        """Its settings, as its processes see them."""
        from voicectl.memory.config import read_state

        return load(VoiceSettings, home=self.home, **_fields(read_state(self.home)), **self._database())

    def store(self) -> Store:
        """Its store, opened beside the running processes."""
        return open_store(load(MemorySettings, home=self.home, **self._database()))

    def _database(self) -> dict[str, str]:
        return {"database_url": self.environment["DATABASE_URL"]} if "DATABASE_URL" in self.environment else {}

    def start_livekit(self) -> None:
        from voicectl.cli.system.livekit_server import config_text, loopback_interface

        config = self.home / "livekit.yaml"
        config.write_text(config_text(self.settings, loopback_interface()))
        self._spawn("livekit", [str(self.home / "bin" / "livekit-server"), "--config", str(config)])
        self._wait_http(self.livekit_url.replace("ws", "http", 1), "livekit", 10)

    def start(self, name: str) -> None:
        """Start worker, web, syncer or llm, as the supervisor would."""
        self._spawn(name, [sys.executable, "-m", "voicectl.cli.main", "run", name])

    def _spawn(self, name: str, argv: list[str]) -> None:
        environment = self.environment | (self._of_the_worker if name == "worker" else {})
        with (self.home / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                argv, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal one of its processes with its children, and wait for it."""
        process = self.processes.pop(name)
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        process.wait(60)

    def wait_ready(self, timeout_s: float = 90) -> None:
        """Until a call would be answered; with several machines, until its own worker would answer one."""
        self._wait_http(f"{self.url}/readyz", "worker", timeout_s)
        if self._beside is not None:
            self.wait_listed(timeout_s)

    def wait_listed(self, timeout_s: float = 90) -> None:
        """Until its own worker says that offers reach it, whatever other workers there are."""
        leases = open_leases(self.settings)

        def missing() -> str:
            listed = [w["pid"] for w in live_workers(leases)]
            mine = self.processes["worker"]
            assert mine.poll() is None, f"worker ended with {mine.returncode}:\n{self.log('worker')[-3000:]}"
            return "" if mine.pid in listed else f"worker {mine.pid} is not among {listed}"

        try:
            wait_for(missing, timeout_s)
        finally:
            leases.close()

    def _wait_http(self, url: str, name: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        said = ""
        while time.monotonic() < deadline:
            for part, process in self.processes.items():
                assert process.poll() is None, f"{part} ended with {process.returncode}:\n{self.log(part)[-3000:]}"
            try:
                answer = httpx.get(url, timeout=2, trust_env=False)
                if answer.status_code == 200:
                    return
                said = answer.text
            except httpx.HTTPError as e:
                said = repr(e)
            time.sleep(0.05)
        raise AssertionError(f"{url} after {timeout_s} s: {said}\n{self.log(name)[-3000:]}")

    def log(self, name: str) -> str:
        """What one of its processes has written."""
        path = self.home / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def kill_job_of(self, caller: Caller) -> None:
        """Kill the process of the agent that this caller talks to, as a crash would."""
        (agent,) = [p for p in caller.room.remote_participants.values() if p.identity in caller.agents()]
        os.kill(int(agent.attributes[Attribute.PID]), signal.SIGKILL)

    def token(self, customer: str, name: str = "", desk: str = "") -> tuple[str, str]:
        """Server address and token, as a page would ask for them."""
        wanted: dict[str, object] = {"participant_identity": customer, "participant_name": name}
        if desk:
            wanted["room_config"] = {"agents": [{"agent_name": desk}]}
        answer = httpx.post(f"{self.url}/api/token", json=wanted, timeout=5, trust_env=False)
        assert answer.status_code == 201, answer.text
        body = answer.json()
        return body["server_url"], body["participant_token"]


def _scripted(url: str) -> dict[str, str]:
    return {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "scripted", "VOICE_LLM_MODEL": "scripted"}


def _fields(state: dict[str, object]) -> dict[str, object]:
    from voicectl.memory.config import env_names

    by_env = {e.lower(): n for n, f in VoiceSettings.model_fields.items() for e in env_names(n, f)}
    return {by_env[k]: v for k, v in state.items() if k in by_env and by_env[k] != "home"}
