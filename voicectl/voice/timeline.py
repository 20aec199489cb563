"""Audio on one clock: what was heard when, found by its energy. Pure arithmetic, no room and no waiting.

Not here: where the frames come from (caller.py), what is said in them (speech.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from voicectl.voice.speech import RATE, Pcm

BLOCK = RATE // 50  # 20 ms, the resolution of every time here
BLOCK_S = BLOCK / RATE
AUDIBLE = 150.0  # RMS; Opus comfort noise stays below 20, the quietest piper vowel is above 1,000
LEAST_BLOCKS = 3  # less is a click
JITTER_S = 0.2  # frames nearer than this to the end of what is there follow it without a seam


@dataclass(frozen=True)
class Span:
    """One utterance: seconds on the timeline's clock. `end` is None while it goes on."""

    start: float
    end: float | None


class Timeline:
    """Mono audio whose first sample was heard at `zero` (seconds, any monotonic clock).

    Several sources may add to it; they are mixed.

    Args:
        zero: The clock when the timeline began.
    """

    def __init__(self, zero: float) -> None:
        self.zero = zero
        self._mix = np.zeros(RATE * 60, dtype=np.int16)
        self._loud = np.zeros(len(self._mix) // BLOCK, dtype=bool)
        self._ends: dict[str, int] = {}

    def add(self, source: str, pcm: Pcm, now: float) -> None:
        """Add samples that arrived at `now`; they follow the source's last ones unless it was away for a while."""
        at = max(0, round((now - self.zero) * RATE) - len(pcm))
        last = self._ends.get(source)
        if last is not None:
            at = last if abs(at - last) < JITTER_S * RATE else max(at, last)
        end = at + len(pcm)
        if end > len(self._mix):
            more = -(-max(len(self._mix), end - len(self._mix)) // BLOCK) * BLOCK
            self._mix = np.concatenate([self._mix, np.zeros(more, np.int16)])
            self._loud = np.concatenate([self._loud, np.zeros(more // BLOCK, bool)])
        self._mix[at:end] = np.clip(self._mix[at:end].astype(np.int32) + pcm, -32768, 32767).astype(np.int16)
        self._ends[source] = end
        first, last_block = at // BLOCK, -(-end // BLOCK)
        blocks = self._mix[first * BLOCK : last_block * BLOCK].reshape(-1, BLOCK).astype(np.float32)
        self._loud[first:last_block] = np.sqrt((blocks**2).mean(axis=1)) > AUDIBLE

    @property
    def end(self) -> float:
        """The clock at the last sample."""
        return self.zero + max(self._ends.values(), default=0) / RATE

    def pcm(self, start: float | None = None, end: float | None = None) -> Pcm:
        """A copy of what lies between two times of the clock; None: from the beginning, to the end."""
        first = 0 if start is None else max(0, round((start - self.zero) * RATE))
        last = round(((self.end if end is None else min(end, self.end)) - self.zero) * RATE)
        return self._mix[first : max(first, last)].copy()

    def utterance(self, after: float, silence_s: float, now: float) -> Span | None:
        """The first utterance after a time; pauses shorter than `silence_s` belong to it, clicks do not count.

        Args:
            after: Nothing earlier is looked at.
            silence_s: So much silence ends it.
            now: The clock; where no samples have come since the last ones, that is silence, too.
        """
        begin = max(0, int((after - self.zero) / BLOCK_S))
        loud = np.flatnonzero(self._loud[begin : max(self._ends.values(), default=0) // BLOCK + 1]) + begin
        if len(loud) == 0:
            return None
        gaps = np.flatnonzero(np.diff(loud) - 1 >= silence_s / BLOCK_S)
        for run in np.split(loud, gaps + 1):
            if len(run) < LEAST_BLOCKS:
                continue
            start, end = max(after, self.zero + run[0] * BLOCK_S), self.zero + (run[-1] + 1) * BLOCK_S
            return Span(float(start), float(end) if run[-1] != loud[-1] or now - end >= silence_s else None)
        return None
