"""When somebody speaks and when a turn is over: everything decided on this machine, with pinned local models.

Without the pins the framework sends callers' audio to its maker's gateway in dev mode (livekit.md 0.10).
Not here: what was said (stt.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from livekit.agents import inference

if TYPE_CHECKING:
    from livekit.agents.voice.turn import TurnHandlingOptions

    from voicectl.voice.config import VoiceSettings

# 0.4 s: shorter cuts "O, 3, 0, 2" into pieces that Whisper hears worse, longer is felt as slowness (local_models.md 5).
SILENCE_S = 0.4


def build() -> inference.VAD:
    """The voice activity detector; its weights are part of the framework."""
    return inference.VAD(min_silence_duration=SILENCE_S)


def turn_handling(settings: VoiceSettings) -> TurnHandlingOptions:
    """The session's turn options: local end of turn, interruption by voice, early replies only from a remote model.

    An early reply that is discarded costs the small model here the time it needs for the real one.
    """
    return {
        "turn_detection": inference.TurnDetector(version="v1-mini"),
        "endpointing": {"mode": "fixed", "min_delay": 0.3, "max_delay": 1.5},
        "interruption": {"enabled": True, "mode": "vad"},
        "preemptive_generation": {"enabled": not settings.llm_is_local()},
    }
