"""An ear or a voice that fails in a call: how often that is borne, and the words that need neither.

The framework opens a failed recogniser anew by itself and asks the voice again with the next words. When that is no
use, nobody is left in silence: the call says a recorded line and ends.
Not here: the language model, after whose failure the call goes on; how a call ends (both call.py).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from livekit import rtc
from livekit.agents import APIError, UserInputTranscribedEvent, utils
from livekit.agents.stt import STTError
from livekit.agents.tts import TTSError

# What is said in it is words.OUTAGE; made with kokoro am_michael (Apache-2.0).
RECORDING = Path(__file__).with_name("outage.ogg")
BUSY = Path(__file__).with_name("busy.ogg")  # words.BUSY, by the same voice
RATE = 24_000

# An ear has tried four times before it counts as failed once. A voice two times, each up to 5 s, and nothing is heard
# meanwhile.
EAR_FAILURES = 3
VOICE_FAILURES = 2


class Outage:
    """The failures of one call's ear and voice since the customer was last understood."""

    def __init__(self) -> None:
        self._failures = {"stt_error": 0, "tts_error": 0}
        self._over = False

    def on_transcribed(self, event: UserInputTranscribedEvent) -> None:
        """The customer was understood: what was before does not count."""
        if event.is_final:
            self._failures = dict.fromkeys(self._failures, 0)

    def is_final(self, error: STTError | TTSError) -> bool:
        """Count a failure; whether the call cannot go on. True once a call."""
        self._failures[error.type] += 1
        limit = EAR_FAILURES if error.type == "stt_error" else VOICE_FAILURES
        # A refused key stays refused; after any other exception the framework does not listen again.
        hopeless = not (isinstance(error.error, APIError) and error.error.retryable)
        if self._over or not (hopeless or self._failures[error.type] >= limit):
            return False
        self._over = True
        return True

    @property
    def over(self) -> bool:
        """Whether the call is being ended for this: there is nothing more to say."""
        return self._over


def recording(of: Path = RECORDING) -> AsyncIterator[rtc.AudioFrame]:
    """Recorded words as sound: words.OUTAGE, or those of another file."""
    return utils.audio.audio_frames_from_file(str(of), sample_rate=RATE, num_channels=1)
