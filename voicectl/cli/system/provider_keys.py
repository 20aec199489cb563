"""Whether the configured providers take their keys, asked with the cheapest real request each has.

Promise: names of settings, never values; a provider that cannot be asked is not called wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from pydantic import SecretStr

from voicectl.cli.system.probes import Answer, ask
from voicectl.cli.system.processes import is_loopback
from voicectl.voice.config import VoiceSettings

REFUSED = (401, 403)


@dataclass(frozen=True)
class KeyAnswer:
    """What one provider said.

    Args:
        setting: The setting that holds the key.
        address: Who was asked.
        status: HTTP status; 0 when nobody answered.
    """

    setting: str
    address: str
    status: int

    @property
    def refused(self) -> bool:
        """Whether the provider does not take the key."""
        return self.status in REFUSED


def ask_provider(url: str, headers: dict[str, str]) -> Answer:
    """One request, through the shell's proxy unless the provider is on this machine."""
    return ask(url, headers=headers, timeout_s=5, proxied=not is_loopback(url))


def check(settings: VoiceSettings, asked: Callable[[str, dict[str, str]], Answer] = ask_provider) -> list[KeyAnswer]:
    """Ask each provider that these settings use."""
    found: list[KeyAnswer] = []
    if not settings.llm_is_local():
        base = (settings.openai_base_url or "https://api.openai.com/v1").rstrip("/")
        key = _value(settings.openai_api_key) or "none"
        answer = asked(f"{base}/models", {"Authorization": f"Bearer {key}"})
        found.append(KeyAnswer("OPENAI_API_KEY", base, answer.status))
    if not settings.stt_is_local():
        base = _root(settings.deepgram_base_url, "https://api.deepgram.com")
        # Deepgram's own test of a key; lists of projects are refused (403) to keys that may only transcribe.
        answer = asked(f"{base}/v1/auth/token", {"Authorization": f"Token {_value(settings.deepgram_api_key)}"})
        found.append(KeyAnswer("DEEPGRAM_API_KEY", base, answer.status))
    if not settings.tts_is_local():
        base = _root(settings.cartesia_base_url, "https://api.cartesia.ai")
        headers = {"X-API-Key": _value(settings.cartesia_api_key), "Cartesia-Version": "2025-04-16"}
        found.append(KeyAnswer("CARTESIA_API_KEY", base, asked(f"{base}/voices", headers).status))
    return found


def _value(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret else ""


def _root(url: str | None, default: str) -> str:
    """Scheme and host of a provider's address: its plugins are given addresses with different paths."""
    parts = urlsplit(url or default)
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    return urlunsplit((scheme, parts.netloc, "", "", ""))
