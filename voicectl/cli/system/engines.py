"""Which engine does what, and where each key came from: the table that `up` ends with.

Promise: names of settings and their sources, never a value of a key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from voicectl.cli.system.processes import page_url
from voicectl.voice import models
from voicectl.voice.config import VoiceSettings


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        part: What it does.
        engine: What does it.
        key: Which setting holds the key and where it came from; how it came about when we made it.
        address: Where it is.
    """

    part: str
    engine: str
    key: str
    address: str


COLUMNS = ("part", "engine", "key", "address")


def rows(settings: VoiceSettings, sources: Mapping[str, str], *, own_livekit: str | None) -> list[Row]:
    """The table.

    Args:
        settings: The settings in force.
        sources: For each environment name, where its value comes from (memory.config.explain).
        own_livekit: Version of the LiveKit server that we run; None when another one is used.
    """

    def key(*names: str) -> str:
        for name in names:
            source = sources.get(name, "default")
            if source == "default":
                continue
            return f"{name} generated" if source.endswith("state.json") else f"{name} from {source}"
        return "none needed"

    def ignored(name: str) -> str:
        is_set = sources.get(name, "default") != "default"
        return f"{name} ignored (--local)" if is_set and settings.local else "none needed"

    page = Row("page", "control plane", "none needed", page_url(settings))
    livekit = Row(
        "rooms",
        f"livekit-server {own_livekit}" if own_livekit else "LiveKit, not ours",
        key("LIVEKIT_API_KEY"),
        settings.livekit_url,
    )
    ear = (
        Row("ear", f"{models.EAR}, faster-whisper", ignored("DEEPGRAM_API_KEY"), "this machine")
        if settings.stt_is_local()
        else Row("ear", "Deepgram", key("DEEPGRAM_API_KEY"), settings.deepgram_base_url or "Deepgram's own")
    )
    brain = (
        Row("brain", f"{models.LANGUAGE}, small", ignored("OPENAI_API_KEY"), settings.local_llm_url or "")
        if settings.llm_is_local()
        else Row(
            "brain",
            f"{settings.llm_model}, OpenAI-compatible",
            key("OPENAI_API_KEY", "OPENAI_BASE_URL"),
            settings.openai_base_url or "OpenAI's own",
        )
    )
    voice = (
        Row("voice", f"{models.VOICE}, piper", ignored("CARTESIA_API_KEY"), "this machine")
        if settings.tts_is_local()
        else Row("voice", "Cartesia", key("CARTESIA_API_KEY"), settings.cartesia_base_url or "Cartesia's own")
    )
    store = Row(
        "memory",
        "SQLite" if settings.database_url is None else "the database given",
        key("MEMORY_DATABASE_URL", "DATABASE_URL"),
        str(settings.home / "memory.db") if settings.database_url is None else "",
    )
    return [page, livekit, ear, brain, voice, store]
