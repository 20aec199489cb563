"""The customer's end of a benchmark call: speaks samples in real time, and knows when the agent became audible.

Times are the arrival of frames here (`time.monotonic`, frames of 10 ms), not places on a reconstructed track, so that
nothing that lasts a whole call can shift an arm. Not here: words, tests' caller (voicectl/voice/caller.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from livekit import rtc

RATE = 24_000
FRAME = RATE // 50
AUDIBLE = 150.0  # RMS; Opus comfort noise stays below 20


class Phone:
    """One caller in one room. Use as an async context manager.

    Args:
        url: LiveKit's address.
        token: A token that lets us in and dispatches the agent.
    """

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = url, token
        self._room = rtc.Room()
        self._line: asyncio.Queue[tuple[npt.NDArray[np.int16], asyncio.Future[float]]] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._over = False
        self._loud = asyncio.Event()
        self.last_loud = 0.0
        self.first_loud = 0.0  # since `listen` was called

    async def __aenter__(self) -> Self:
        self._source = rtc.AudioSource(RATE, 1, queue_size_ms=60)
        self._room.on("track_subscribed", self._on_track)
        await self._room.connect(self._url, self._token)
        track = rtc.LocalAudioTrack.create_audio_track("microphone", self._source)
        self._tasks.append(asyncio.create_task(self._speak()))
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        await self._room.local_participant.publish_track(track, options)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over = True
        await self._tasks[0]  # a frame left half captured aborts the process at its exit
        await self._room.disconnect()
        for task in self._tasks[1:]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._source.aclose()

    async def turn(self, pcm: npt.NDArray[np.int16], timeout_s: float = 10.0) -> float:
        """Speak, and return milliseconds from the end of our speech to the agent's first audible frame."""
        said: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._loud.clear()
        self._line.put_nowait((pcm, said))
        end = await said
        await asyncio.wait_for(self._loud.wait(), timeout_s)
        return (self.first_loud - end) * 1000

    async def heard(self, timeout_s: float = 30.0) -> None:
        """Wait until the agent has been audible since the last `turn`, or since joining."""
        await asyncio.wait_for(self._loud.wait(), timeout_s)

    async def quiet(self, seconds: float) -> None:
        """Wait until the agent has not been audible for a while."""
        while (left := self.last_loud + seconds - time.monotonic()) > 0:
            await asyncio.sleep(left)

    async def _speak(self) -> None:
        silence = np.zeros(FRAME, np.int16)
        while not self._over:
            if self._line.empty():
                await self._capture(silence)
                continue
            pcm, said = self._line.get_nowait()
            for at in range(0, len(pcm), FRAME):
                frame = np.zeros(FRAME, np.int16)
                frame[: len(pcm[at : at + FRAME])] = pcm[at : at + FRAME]
                await self._capture(frame)
            said.set_result(time.monotonic() + self._source.queued_duration)

    async def _capture(self, pcm: npt.NDArray[np.int16]) -> None:
        await self._source.capture_frame(rtc.AudioFrame(pcm.tobytes(), RATE, 1, len(pcm)))

    def _on_track(self, track: rtc.Track, *_: Any) -> None:
        if isinstance(track, rtc.RemoteAudioTrack):
            self._tasks.append(asyncio.create_task(self._listen(track)))

    async def _listen(self, track: rtc.RemoteAudioTrack) -> None:
        stream = rtc.AudioStream(track, sample_rate=RATE, num_channels=1, frame_size_ms=10)
        async for event in stream:
            now = time.monotonic()
            pcm = np.frombuffer(event.frame.data, np.int16).astype(np.float32)
            if np.sqrt((pcm**2).mean()) <= AUDIBLE:
                continue
            self.last_loud = now
            if not self._loud.is_set():
                self.first_loud = now
                self._loud.set()


def trimmed(pcm: npt.NDArray[np.int16], loud: Callable[[npt.NDArray[np.int16]], bool]) -> npt.NDArray[np.int16]:
    """Speech without the quiet after it, so that its last sample is its end."""
    blocks = [loud(pcm[at : at + FRAME]) for at in range(0, len(pcm), FRAME)]
    return pcm[: (len(blocks) - blocks[::-1].index(True)) * FRAME]
