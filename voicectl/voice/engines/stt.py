"""The agent's ear: faster-whisper in this process, or Deepgram.

The local ear hears whole utterances (a VAD cuts them), never interim text; known names and ids go in as hotwords.
Not here: where an utterance ends for the conversation (vad.py), the caller's ear of tests (caller.py).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from livekit import rtc
from livekit.agents import stt, utils
from livekit.agents.types import NOT_GIVEN, APIConnectOptions, NotGivenOr

if TYPE_CHECKING:
    import aiohttp
    from livekit.agents.vad import VAD

    from voicectl.voice.config import VoiceSettings

WHISPER_RATE = 16_000
# Above this Whisper itself doubts that anybody spoke; with hotwords it then "hears" the hotwords (local_models.md 2).
SILENCE_PROBABILITY = 0.6
HOTWORDS_MAX = 40  # Whisper keeps 224 tokens of prompt; a name is 2-4 of them


def load_whisper(folder: Path) -> Any:
    """Load a Whisper model of the catalogue for this processor; 0.2-0.8 s, 100 MB."""
    from faster_whisper import WhisperModel

    return WhisperModel(
        str(folder), device="cpu", compute_type="int8", cpu_threads=min(4, os.cpu_count() or 1), local_files_only=True
    )


def hear(model: Any, audio: np.ndarray, hotwords: list[str]) -> str:
    """What was said in 16 kHz float audio; empty where Whisper doubts that it was speech. Blocks, about 0.3 s."""
    segments, _ = model.transcribe(
        audio,
        language="en",
        beam_size=1,
        temperature=0.0,  # no retries at higher temperatures: one utterance has one price
        condition_on_previous_text=False,
        without_timestamps=True,
        hotwords=", ".join(hotwords[:HOTWORDS_MAX]) or None,
    )
    return " ".join(s.text.strip() for s in segments if s.no_speech_prob <= SILENCE_PROBABILITY).strip()


def to_whisper(frame: rtc.AudioFrame) -> np.ndarray:
    """Any audio frame as 16 kHz mono float."""
    pcm = np.frombuffer(frame.data, dtype=np.int16).reshape(-1, frame.num_channels).mean(axis=1).astype(np.int16)
    if frame.sample_rate != WHISPER_RATE:
        resampler = rtc.AudioResampler(frame.sample_rate, WHISPER_RATE)
        mono = rtc.AudioFrame(pcm.tobytes(), frame.sample_rate, 1, len(pcm))
        pieces = [*resampler.push(mono), *resampler.flush()]
        pcm = np.concatenate([np.frombuffer(p.data, dtype=np.int16) for p in pieces] or [np.zeros(0, np.int16)])
    return np.asarray(pcm, dtype=np.float32) / np.float32(32768)


class LocalSTT(stt.STT[Any]):
    """faster-whisper as a recogniser of whole utterances. Wrap it in `stt.StreamAdapter` to stream.

    Args:
        model: What `load_whisper` returned.
        keyterms: Asked before each utterance for words that are likely now (the customer's name, open order ids).
    """

    def __init__(self, model: Any, keyterms: Callable[[], list[str]] | None = None) -> None:
        super().__init__(
            capabilities=stt.STTCapabilities(streaming=False, interim_results=False, keyterms=True),
        )
        self._whisper, self._ask, self._session_terms = model, keyterms, list[str]()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="local-stt")

    @property
    def model(self) -> str:
        """The model's name, for metrics."""
        return "whisper-tiny.en"

    @property
    def provider(self) -> str:
        """The engine's name, for metrics."""
        return "faster-whisper"

    def _update_session_keyterms(self, keyterms: list[str]) -> None:
        self._session_terms = list(keyterms)

    def _terms(self) -> list[str]:
        return list(dict.fromkeys([*(self._ask() if self._ask else []), *self._session_terms]))

    async def _recognize_impl(
        self,
        buffer: utils.AudioBuffer,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions,
    ) -> stt.SpeechEvent:
        frame = rtc.combine_audio_frames(buffer)

        def work() -> str:
            return hear(self._whisper, to_whisper(frame), terms)

        terms = self._terms()
        text = await asyncio.get_running_loop().run_in_executor(self._thread, work)
        return stt.SpeechEvent(
            type=stt.SpeechEventType.FINAL_TRANSCRIPT,
            request_id=utils.shortuuid("whisper_"),
            alternatives=[stt.SpeechData(language="en", text=text)],  # type: ignore[arg-type]  # it converts a str itself
        )

    async def aclose(self) -> None:
        """Let the running utterance finish in its thread, start no other."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def streaming(inner: LocalSTT, vad: VAD) -> stt.STT[Any]:
    """The local ear as a streaming recogniser; the VAD cuts utterances for it."""
    return stt.StreamAdapter(stt=inner, vad=vad)


def deepgram(
    settings: VoiceSettings, session: Callable[[str], aiohttp.ClientSession], keyterms: Callable[[], list[str]] | None
) -> stt.STT[Any]:
    """Deepgram's recogniser, at its own address or VOICE_DEEPGRAM_BASE_URL (with or without `/v1/listen`).

    Args:
        settings: Key and address.
        session: Gives the HTTP session for an address.
        keyterms: Read once, when the call starts; the framework passes on what comes later.
    """
    from livekit.plugins import deepgram as plugin

    key = settings.deepgram_api_key
    url = (settings.deepgram_base_url or "https://api.deepgram.com").rstrip("/")
    url = url if url.endswith("/listen") else f"{url.removesuffix('/v1')}/v1/listen"
    terms = keyterms() if keyterms else []
    return plugin.STT(
        model="nova-3",
        api_key=key.get_secret_value() if key else "",
        base_url=url,
        http_session=session(url),
        keyterm=terms or NOT_GIVEN,
        mip_opt_out=True,  # customers' speech is not given away for training
    )
