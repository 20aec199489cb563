"""A voice and an ear that are not the agent's: what the synthetic caller speaks and checks with.

The voice is kokoro (the agent's is piper), the ear is Whisper base (the agent's is tiny.en), so nothing marks its own
homework. Lines are kept in VOICE_HOME/cache/speech: a second run loads no voice. Not here: rooms, timing (caller.py).
"""

from __future__ import annotations

import hashlib
import os
import threading
import wave
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from voicectl.voice import models
from voicectl.voice.errors import VoiceFault

Pcm = npt.NDArray[np.int16]
RATE = 24_000  # kokoro's own, and the rate of everything the caller sends, receives and saves
EAR_RATE = 16_000


class NotSpeech(VoiceFault):
    """A file that should be spoken is not a WAV we can read.

    Args:
        path: The file.
        reason: What is wrong with it.
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(
            f"{path} cannot be spoken: {reason}. Give a 16 bit PCM WAV file: ffmpeg -i IN -ar 24000 -ac 1 OUT"
        )


class Voice:
    """A kokoro voice; loaded at the first line that is not in the cache. Safe to share between callers.

    Args:
        home: VOICE_HOME.
        name: `af_heart` (a woman) or `am_michael` (a man).
        speed: 1.0 is the voice's own.
    """

    def __init__(self, home: Path, name: str = "af_heart", speed: float = 1.0) -> None:
        self.home, self.name, self.speed = home, name, speed
        self._engine: Any = None
        self._lock = threading.Lock()

    def line(self, text: str) -> Pcm:
        """The line as 24 kHz mono; from the cache, or made now (0.2-0.5 of its length, plus 1 s once). Blocks.

        Raises:
            ModelMissing: The voice is not on this disk.
        """
        key = hashlib.sha256(f"kokoro-v1.0.int8/{self.name}/{self.speed}/{text}".encode()).hexdigest()
        kept = self.home / "cache" / "speech" / f"{key[:32]}.wav"
        if kept.exists():
            return read_wav(kept)
        with self._lock:
            pcm = self._synthesize(text)
        kept.parent.mkdir(parents=True, exist_ok=True)
        draft = kept.with_suffix(f".{os.getpid()}.{threading.get_ident()}.tmp")
        write_wav(draft, pcm)
        draft.replace(kept)
        return pcm

    def _synthesize(self, text: str) -> Pcm:
        if self._engine is None:
            from kokoro_onnx import Kokoro

            place = models.require(models.CALLER_VOICE, self.home)
            voices = self.home / "cache" / "speech" / f"kokoro-{self.name}.npz"
            voices.parent.mkdir(parents=True, exist_ok=True)
            style = np.fromfile(place / f"{self.name}.bin", dtype=np.float32).reshape(510, 1, 256)
            draft = voices.with_suffix(f".{os.getpid()}.tmp.npz")
            np.savez(draft, **{self.name: style})  # type: ignore[arg-type]  # the stub takes a name for an option
            draft.replace(voices)
            self._engine = Kokoro(str(place / "kokoro-v1.0.int8.onnx"), str(voices))
        samples, rate = self._engine.create(text, voice=self.name, speed=self.speed, lang="en-us")
        return resample(np.clip(samples * 32767.0, -32768, 32767).astype(np.int16), rate, RATE)


class Ear:
    """Whisper base, loaded at the first use. Safe to share between callers.

    Args:
        home: VOICE_HOME.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._engine: Any = None
        self._lock = threading.Lock()

    def transcribe(self, pcm: Pcm, rate: int = RATE) -> str:
        """What is said in mono audio; empty for silence. Blocks, some 0.5 s for each 30 s begun.

        Raises:
            ModelMissing: The model is not on this disk.
        """
        with self._lock:
            if self._engine is None:
                from faster_whisper import WhisperModel

                place = models.require(models.CALLER_EAR, self.home)
                self._engine = WhisperModel(str(place), device="cpu", compute_type="int8", local_files_only=True)
            audio = resample(pcm, rate, EAR_RATE).astype(np.float32) / np.float32(32768)
            segments, _ = self._engine.transcribe(
                audio, language="en", beam_size=5, temperature=0.0, condition_on_previous_text=False
            )
            return " ".join(s.text.strip() for s in segments if s.no_speech_prob <= 0.6).strip()


def resample(pcm: Pcm, rate: int, to: int) -> Pcm:
    """Mono audio at another rate, band-limited."""
    if rate == to or len(pcm) == 0:
        return pcm
    from livekit import rtc

    resampler = rtc.AudioResampler(rate, to)
    frame = rtc.AudioFrame(pcm.tobytes(), rate, 1, len(pcm))
    pieces = [*resampler.push(frame), *resampler.flush()]
    return np.concatenate([np.frombuffer(p.data, dtype=np.int16) for p in pieces])


def read_wav(path: Path) -> Pcm:
    """A 16 bit PCM WAV file as 24 kHz mono.

    Raises:
        NotSpeech: It is not there, or something else.
    """
    try:
        with wave.open(str(path)) as f:
            if f.getsampwidth() != 2:
                raise NotSpeech(path, f"{8 * f.getsampwidth()} bit samples")
            pcm = np.frombuffer(f.readframes(f.getnframes()), dtype=np.int16).reshape(-1, f.getnchannels())
            rate = f.getframerate()
    except (OSError, EOFError, wave.Error) as e:
        raise NotSpeech(path, str(e)) from e
    return resample(pcm.mean(axis=1).astype(np.int16), rate, RATE)


def write_wav(path: Path, *channels: Pcm, rate: int = RATE) -> None:
    """Write one channel, or several side by side; shorter ones are filled with silence."""
    length = max(len(c) for c in channels)
    data = np.zeros((length, len(channels)), dtype=np.int16)
    for n, channel in enumerate(channels):
        data[: len(channel), n] = channel
    with wave.open(str(path), "wb") as f:
        f.setnchannels(len(channels))
        f.setsampwidth(2)
        f.setframerate(rate)
        f.writeframes(data.tobytes())
