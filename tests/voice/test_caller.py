"""What the caller hears when, from samples alone; its lines, files and cache."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from voicectl.voice.models import ModelMissing
from voicectl.voice.speech import RATE, NotSpeech, Pcm, Voice, read_wav, write_wav
from voicectl.voice.timeline import Timeline

pytestmark = pytest.mark.unit

FRAME = RATE // 100
ZERO = 1000.0


def tone(seconds: float, level: int = 3000) -> Pcm:
    return (np.sin(np.arange(round(seconds * RATE)) / 8) * level).astype(np.int16)


def quiet(seconds: float) -> Pcm:
    return np.zeros(round(seconds * RATE), np.int16)


def played(*pieces: Pcm, source: str = "agent", late: float = 0.0) -> Timeline:
    """Pieces that arrive in real time, a 10 ms frame at a time, each with some jitter."""
    line = Timeline(ZERO)
    pcm = np.concatenate(pieces)
    for n, at in enumerate(range(0, len(pcm), FRAME)):
        jitter = 0.03 * (n % 3)
        line.add(source, pcm[at : at + FRAME], ZERO + late + (at + FRAME) / RATE + jitter)
    return line


def test_utterance_begins_at_its_first_sound_and_ends_before_the_silence() -> None:
    line = played(quiet(1.0), tone(2.0), quiet(1.5))

    span = line.utterance(ZERO, 1.0, line.end)

    assert span is not None
    assert span.start - ZERO == pytest.approx(1.0, abs=0.03)
    assert span.end is not None
    assert span.end - ZERO == pytest.approx(3.0, abs=0.03)


def test_pause_between_sentences_belongs_to_the_utterance() -> None:
    line = played(tone(1.0), quiet(0.6), tone(1.0), quiet(1.2), tone(1.0), quiet(1.2))

    span = line.utterance(ZERO, 1.0, line.end)
    assert span is not None
    assert span.end is not None
    assert span.end - ZERO == pytest.approx(2.6, abs=0.03)

    second = line.utterance(span.end, 1.0, line.end)
    assert second is not None
    assert second.start - ZERO == pytest.approx(3.8, abs=0.03)


def test_utterance_that_goes_on_has_no_end_yet() -> None:
    line = played(quiet(0.2), tone(1.0), quiet(0.3))

    span = line.utterance(ZERO, 1.0, line.end)

    assert span is not None
    assert span.end is None


def test_voice_whose_frames_stop_has_ended_by_the_clock() -> None:
    line = played(tone(1.0))

    span = line.utterance(ZERO, 1.0, ZERO + 2.2)

    assert span is not None
    assert span.end is not None
    assert span.end - ZERO == pytest.approx(1.0, abs=0.03)


def test_clicks_and_line_noise_are_not_heard() -> None:
    noise = np.random.default_rng(1).integers(-60, 60, RATE, dtype=np.int16)
    line = played(noise, tone(0.02), quiet(1.5))

    assert line.utterance(ZERO, 1.0, line.end) is None


def test_late_frames_do_not_tear_an_utterance_apart() -> None:
    line = played(tone(1.0), quiet(1.2))

    assert len(line.pcm()) == pytest.approx(2.2 * RATE, abs=FRAME * 4)
    assert np.array_equal(line.pcm(ZERO, ZERO + 1.0)[4 * FRAME : -4 * FRAME], tone(1.0)[4 * FRAME : -4 * FRAME])


def test_source_that_was_away_comes_back_at_its_time() -> None:
    line = played(tone(0.5))
    line.add("agent", tone(0.5), ZERO + 3.0)

    second = line.utterance(ZERO + 1, 1.0, line.end + 2)

    assert second is not None
    assert second.start - ZERO == pytest.approx(2.5, abs=0.03)


def test_two_sources_are_mixed_and_long_calls_grow() -> None:
    line = Timeline(ZERO)
    line.add("a", np.full(RATE, 20_000, np.int16), ZERO + 100)
    line.add("b", np.full(RATE, 20_000, np.int16), ZERO + 100)

    assert set(line.pcm(ZERO + 99, ZERO + 100)) == {32_767}


def test_what_is_written_is_read_back_in_mono_at_24_khz(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", tone(1.0), tone(0.5))

    pcm = read_wav(tmp_path / "a.wav")

    assert len(pcm) == RATE
    assert np.abs(pcm[: RATE // 2] - tone(0.5)).max() <= 1
    assert np.abs(pcm[RATE // 2 :] - tone(1.0)[RATE // 2 :] / 2).max() <= 1


def test_wav_at_another_rate_keeps_its_length_and_pitch(tmp_path: Path) -> None:
    t = np.arange(8000) / 8000
    write_wav(tmp_path / "phone.wav", (np.sin(2 * np.pi * 440 * t) * 8000).astype(np.int16), rate=8000)

    pcm = read_wav(tmp_path / "phone.wav")

    assert len(pcm) == pytest.approx(RATE, rel=0.02)
    assert np.abs(np.fft.rfft(pcm)).argmax() * RATE / len(pcm) == pytest.approx(440, abs=3)


def test_file_that_is_no_speech_is_refused_with_what_would_be(tmp_path: Path) -> None:
    (tmp_path / "song.mp3").write_bytes(b"ID3 nothing")
    with wave.open(str(tmp_path / "8bit.wav"), "wb") as f:
        f.setnchannels(1)
        f.setsampwidth(1)
        f.setframerate(8000)
        f.writeframes(bytes(100))

    for name in ("song.mp3", "8bit.wav", "none.wav"):
        with pytest.raises(NotSpeech, match="16 bit PCM WAV"):
            read_wav(tmp_path / name)


def test_line_is_synthesized_once_and_then_comes_from_the_cache(tmp_path: Path) -> None:
    made: list[str] = []

    class Counting(Voice):
        def _synthesize(self, text: str) -> Pcm:
            made.append(text)
            return tone(0.3)

    first = Counting(tmp_path).line("Hello.")
    again = Counting(tmp_path).line("Hello.")
    other = Counting(tmp_path, "am_michael").line("Hello.")

    assert made == ["Hello.", "Hello."]
    assert np.array_equal(first, again)
    assert len(other) == len(first)


def test_voice_without_its_model_says_which_command_brings_it(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="voicectl models pull kokoro"):
        Voice(tmp_path).line("Hello.")
