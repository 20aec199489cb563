"""How often an ear or a voice may fail before a call ends for it, and the recorded words that end it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from livekit.agents import APIConnectionError, APIStatusError, UserInputTranscribedEvent
from livekit.agents.stt import STTError
from livekit.agents.tts import TTSError

from voicectl.voice.outage import BUSY, EAR_FAILURES, RECORDING, VOICE_FAILURES, Outage, recording

pytestmark = pytest.mark.unit

BROKEN = APIConnectionError("gone")
REFUSED = APIStatusError("Unauthorized", status_code=401)


def ear(error: Exception) -> STTError:
    return STTError(timestamp=time.time(), label="ear", error=error, recoverable=False)


def voice(error: Exception) -> TTSError:
    return TTSError(timestamp=time.time(), label="voice", error=error, recoverable=False)


@pytest.mark.parametrize("error", [ear(REFUSED), voice(REFUSED), ear(ValueError("nobody listens any more"))])
def test_what_cannot_come_back_ends_the_call_at_once_and_once(error: STTError | TTSError) -> None:
    outage = Outage()

    answers = [outage.is_final(error) for _ in range(3)]

    assert answers == [True, False, False]
    assert outage.over


@pytest.mark.parametrize(("error", "limit"), [(ear(BROKEN), EAR_FAILURES), (voice(BROKEN), VOICE_FAILURES)])
def test_what_may_come_back_is_borne_a_few_times(error: STTError | TTSError, limit: int) -> None:
    outage = Outage()

    answers = [outage.is_final(error) for _ in range(limit)]

    assert answers == [False] * (limit - 1) + [True]


@pytest.mark.parametrize(("is_final", "ends"), [(True, False), (False, True)])
def test_a_customer_who_was_understood_wipes_the_slate(is_final: bool, ends: bool) -> None:
    outage = Outage()
    for _ in range(EAR_FAILURES - 1):
        outage.is_final(ear(BROKEN))

    outage.on_transcribed(UserInputTranscribedEvent(transcript="hello", is_final=is_final))

    assert outage.is_final(ear(BROKEN)) is ends


@pytest.mark.parametrize("file", [RECORDING, BUSY])
async def test_the_last_words_are_on_the_disk(file: Path) -> None:
    frames = [frame async for frame in recording(file)]

    assert 5 < sum(f.duration for f in frames) < 10
    assert max(max(f.data) for f in frames) > 5_000, "it is silent"
