"""What `up` chooses for an installation: LiveKit's address and keys, ports, the local model's address and key.

Promise: what a person set wins and is refused when it cannot work; what was chosen before stays while it works; nothing
here writes. The caller puts Choice.state into state.json. Not here: the page's port, which is exact (ports.require).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from voicectl.cli.errors import NotRunning, Refused
from voicectl.cli.system import ports, probes
from voicectl.cli.system.livekit_server import refuse_short
from voicectl.cli.system.processes import is_loopback
from voicectl.voice.config import VoiceSettings

LIVEKIT_PORT, RTC_PORT, RTC_TCP_PORT = 7880, 7882, 7881
WORKER_PORT, LLM_PORT = 7900, 7960


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Args:
        start_livekit: Whether a LiveKit server of ours runs.
        state: Values for state.json; None removes one.
        notes: Lines for the person: what was found in the way and what was taken instead.
    """

    start_livekit: bool
    state: Mapping[str, str | int | bool | None]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Situation:
    """What a choice depends on besides the settings; replaced in tests.

    Args:
        sources: For each environment name, where its value comes from (memory.config.explain).
        is_ours: Whether a pid belongs to this installation.
        running: Parts of ours that have a process now.
        owner: Who listens on a port.
        free: A free port near a preferred one.
        accepts: What a LiveKit server answers to our key.
    """

    sources: Mapping[str, str]
    is_ours: Callable[[int], bool]
    running: frozenset[str]
    owner: Callable[..., ports.Owner | None] = ports.owner
    free: Callable[..., int] = ports.free
    accepts: Callable[[str, str, str], probes.Answer] = probes.livekit_accepts

    def set_by_person(self, name: str) -> bool:
        """Whether the environment or the dotenv file says this, rather than us."""
        source = self.sources.get(name, "default")
        return source != "default" and not source.endswith("state.json")

    def foreign(self, port: int, *, udp: bool = False) -> ports.Owner | None:
        """Somebody else who holds a port."""
        who = self.owner(port, udp=udp)
        return None if who is None or (who.pid is not None and self.is_ours(who.pid)) else who


def choose(settings: VoiceSettings, now: Situation, environment: Mapping[str, str] = os.environ) -> Choice:
    """Decide on everything an installation needs chosen.

    Raises:
        Refused: What a person set is in conflict with what is on this machine.
        NotRunning: The LiveKit server elsewhere that was set does not answer.
        SettingError: Only one of LiveKit's key and secret is set.
    """
    state: dict[str, str | int | bool | None] = {}
    notes: list[str] = []
    if settings.livekit_api_key is None and settings.livekit_api_secret is None:
        if not is_loopback(settings.livekit_url):
            settings.key_secret()
        key, secret = f"API{secrets.token_hex(6)}", secrets.token_urlsafe(36)
        state |= {"livekit_api_key": key, "livekit_api_secret": secret}
    else:
        key, secret = settings.key_secret()
    start = _livekit(settings, now, key, secret, state, notes)
    if start:
        refuse_short(secret)
        _media(settings, now, state, notes, environment)
    _worker(settings, now, state)
    if settings.llm_is_local():
        _llm(settings, now, state)
    return Choice(start, state, notes)


def _livekit(
    settings: VoiceSettings,
    now: Situation,
    key: str,
    secret: str,
    state: dict[str, str | int | bool | None],
    notes: list[str],
) -> bool:
    url = settings.livekit_url
    if not is_loopback(url):
        answer = now.accepts(url, key, secret)
        if answer.status == 0:
            raise NotRunning(f"LIVEKIT_URL={url} does not answer: {answer.body}.", "Check it: voicectl doctor")
        if answer.status in (401, 403):
            raise Refused(f"{url} refuses LIVEKIT_API_KEY and LIVEKIT_API_SECRET.", "Set the pair of that server.")
        return False
    port = urlsplit(url).port or LIVEKIT_PORT
    who = now.foreign(port)
    if who is None:
        return True
    if now.accepts(url, key, secret).status == 200:
        notes.append(f"using the LiveKit server that already runs at {url}, {who}")
        return False
    if now.set_by_person("LIVEKIT_URL"):
        raise ports.PortTaken(port, who, "LIVEKIT_URL=ws://127.0.0.1")
    other = now.free(LIVEKIT_PORT, taken=(RTC_TCP_PORT, RTC_PORT))
    state["livekit_url"] = f"ws://127.0.0.1:{other}"
    notes.append(f"port {port} is held by {who}, which is not ours; LiveKit takes {other}")
    return True


def _media(
    settings: VoiceSettings,
    now: Situation,
    state: dict[str, str | int | bool | None],
    notes: list[str],
    environment: Mapping[str, str],
) -> None:
    udp = settings.rtc_udp_port
    if (who := now.foreign(udp, udp=True)) is not None:
        if now.set_by_person("VOICE_RTC_UDP_PORT"):
            raise ports.PortTaken(udp, who, "VOICE_RTC_UDP_PORT")
        state["voice_rtc_udp_port"] = other = now.free(RTC_PORT, udp=True)
        notes.append(f"udp port {udp} is held by {who}; media takes {other}")
    if now.sources.get("VOICE_RTC_TCP_PORT", "default") == "default" and (why := forwards_tcp_only(environment)):
        state["voice_rtc_tcp_port"] = other = now.free(RTC_TCP_PORT)
        notes.append(
            f"{why}: a forwarded localhost carries no UDP, so media may also use TCP port {other}. It listens on all "
            "interfaces; VOICE_RTC_TCP_PORT=0 turns it off"
        )


def forwards_tcp_only(environment: Mapping[str, str], kernel: Path = Path("/proc/version")) -> str:
    """Why a browser may reach this machine through TCP only: "an SSH session", "WSL", or "" when it does not."""
    if environment.get("SSH_CONNECTION"):
        return "an SSH session"
    try:
        return "WSL" if "microsoft" in kernel.read_text().lower() else ""
    except OSError:
        return ""


def _worker(settings: VoiceSettings, now: Situation, state: dict[str, str | int | bool | None]) -> None:
    if settings.worker_port == 0 or (
        now.foreign(settings.worker_port) is not None and not now.set_by_person("VOICE_WORKER_PORT")
    ):
        state["voice_worker_port"] = now.free(WORKER_PORT)


def _llm(settings: VoiceSettings, now: Situation, state: dict[str, str | int | bool | None]) -> None:
    port = urlsplit(settings.local_llm_url or "").port
    if port is None or (now.foreign(port) is not None and not now.set_by_person("VOICE_LOCAL_LLM_URL")):
        state["voice_local_llm_url"] = f"http://127.0.0.1:{now.free(LLM_PORT)}"
    if settings.local_llm_key is None:
        state["voice_local_llm_key"] = secrets.token_urlsafe(32)
