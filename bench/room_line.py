"""A customer on the line in bench/rooms.py: judges by sound, and knows whose sound it is.

Each participant's audio is kept apart, so "the identity audible before is the one audible after" is heard, not told.
Customers type what they ask, since no ear is measured. Times are `time.monotonic` of a frame's arrival, of 20 ms each;
holes are counted in frames of the stream itself, so a busy loop of ours makes none.
One process drives at most 5 rooms. Not here: what the server says of the room (room_watch.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from livekit import rtc

from bench.phone import AUDIBLE
from voicectl.voice.events import Topic
from voicectl.voice.proxies import spare_loopback

RATE = 24_000
FRAME_MS = 20
LEAST = 3  # audible frames in a row; less is a click
CONNECT_S = 15.0
QUIET_S = 30.0


@dataclass
class Sound:
    """What one participant's microphone gave: when each frame arrived, and whether it was audible."""

    at: list[float] = field(default_factory=list)
    loud: list[bool] = field(default_factory=list)

    def first(self, after: float) -> float | None:
        """When it became audible after a time."""
        run = 0
        for number, (at, loud) in enumerate(zip(self.at, self.loud, strict=True)):
            run = run + 1 if loud and at > after else 0
            if run == LEAST:
                return self.at[number - LEAST + 1]
        return None

    def lately(self, seconds: float) -> bool:
        """Whether it was audible within so many seconds."""
        since = time.monotonic() - seconds
        return any(loud and at > since for at, loud in zip(self.at[-500:], self.loud[-500:], strict=True))

    def longest_gap_s(self, begin: float, end: float) -> float:
        """The longest hole between two times, at whose edges it was audible; whole frames of the stream."""
        longest = run = 0
        for at, loud in zip(self.at, self.loud, strict=True):
            if begin <= at <= end:
                run = 0 if loud else run + 1
                longest = max(longest, run)
        return longest * FRAME_MS / 1000


class Silent(AssertionError):
    """Nobody was heard in time."""


class Line:
    """One customer in one room. Use as an async context manager.

    Args:
        url: LiveKit's address.
        token: Who, and which room.
    """

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = url, token
        self.room = rtc.Room()
        self.sounds: dict[str, Sound] = {}
        self.seen: list[tuple[float, str, str]] = []  # (clock, "joined", "left" or "marked", who or what)
        self.disconnected = ""
        self.joined_at = 0.0
        self.sid = ""
        self._listening: dict[str, asyncio.Task[None]] = {}  # track → who listens to it
        self._microphone: asyncio.Task[None] | None = None
        self._over = False

    async def __aenter__(self) -> Self:
        self._source = rtc.AudioSource(RATE, 1, queue_size_ms=200)
        self.room.on("track_subscribed", self._on_track)
        self.room.on("track_unsubscribed", self._on_track_gone)
        self.room.on("participant_connected", lambda p: self._note("joined", p.identity))
        self.room.on("participant_disconnected", lambda p: self._note("left", p.identity))
        self.room.on("room_metadata_changed", lambda _, new: self._note("marked", new))
        self.room.on("disconnected", self._on_disconnected)
        spare_loopback(self._url)
        try:
            async with asyncio.timeout(CONNECT_S):
                await self.room.connect(self._url, self._token)
                self.joined_at = time.monotonic()
                track = rtc.LocalAudioTrack.create_audio_track("microphone", self._source)
                self._microphone = asyncio.create_task(self._speak())
                options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
                await self.room.local_participant.publish_track(track, options)
                self.sid = await self.room.sid
        except BaseException:
            await self.hang_up()
            raise
        for participant in self.room.remote_participants.values():
            self._note("joined", participant.identity)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.hang_up()

    async def hang_up(self) -> None:
        """Leave; harmless when it is over."""
        if self._over:
            return
        self._over = True
        if self._microphone is not None:  # a frame left half captured aborts the process at its exit
            await asyncio.wait([self._microphone], timeout=1)
        await self.room.disconnect()
        for task in self._listening.values():
            task.cancel()
        await asyncio.gather(*self._listening.values(), return_exceptions=True)
        await self._source.aclose()

    async def type(self, text: str) -> float:
        """Send a typed turn; returns the clock then."""
        await self.room.local_participant.send_text(text, topic=str(Topic.CHAT))
        return time.monotonic()

    async def heard(self, after: float, timeout_s: float, *, but: Container[str] = ()) -> tuple[str, float]:
        """Who is audible first after a time, and when.

        Raises:
            Silent: Nobody in time.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            found = [(s.first(after), who) for who, s in self.sounds.items() if who not in but]
            times = sorted((at, who) for at, who in found if at is not None)
            if times:
                return times[0][1], times[0][0]
            if time.monotonic() > deadline or self.disconnected:
                over = f"; the call is over: {self.disconnected}" if self.disconnected else ""
                raise Silent(f"nobody is heard within {timeout_s:g} s{over}")
            await asyncio.sleep(0.02)

    async def quiet(self, seconds: float, of: Container[str] | None = None, timeout_s: float = QUIET_S) -> None:
        """Wait until nobody (of these) has been audible for so long.

        Raises:
            Silent: Somebody goes on speaking.
        """
        deadline = time.monotonic() + timeout_s
        while loud := [who for who, s in self.sounds.items() if (of is None or who in of) and s.lately(seconds)]:
            if time.monotonic() > deadline:
                raise Silent(f"{loud} are heard for {timeout_s:g} s")
            await asyncio.sleep(0.02)

    def when(self, what: str, who: str, after: float) -> float | None:
        """When something was first seen here after a time."""
        return next((at for at, w, name in self.seen if at > after and (w, name) == (what, who)), None)

    def first_joined(self, after: float, but: Container[str]) -> float | None:
        """When somebody new was first seen here after a time."""
        return next((at for at, w, name in self.seen if at > after and w == "joined" and name not in but), None)

    def _note(self, what: str, who: str) -> None:
        self.seen.append((time.monotonic(), what, who))

    async def _speak(self) -> None:
        silence = rtc.AudioFrame(bytes(RATE // 5), RATE, 1, RATE // 10)
        while not self._over:
            await self._source.capture_frame(silence)

    def _on_track(self, track: rtc.Track, _: Any, participant: rtc.RemoteParticipant) -> None:
        if isinstance(track, rtc.RemoteAudioTrack):
            sound = self.sounds.setdefault(participant.identity, Sound())
            self._listening[track.sid] = asyncio.create_task(self._listen(track, sound))

    def _on_track_gone(self, track: rtc.Track, *_: Any) -> None:
        # Its line is used again for the next track: who listened on would hear the next agent as the last one.
        if (task := self._listening.get(track.sid)) is not None:
            task.cancel()

    async def _listen(self, track: rtc.RemoteAudioTrack, sound: Sound) -> None:
        stream = rtc.AudioStream(track, sample_rate=RATE, num_channels=1, frame_size_ms=FRAME_MS)
        try:
            async for event in stream:
                pcm = np.frombuffer(event.frame.data, np.int16).astype(np.float32)
                sound.at.append(time.monotonic())
                sound.loud.append(bool(np.sqrt((pcm**2).mean()) > AUDIBLE))
        finally:
            await stream.aclose()

    def _on_disconnected(self, reason: Any) -> None:
        if not self._over:
            self.disconnected = rtc.DisconnectReason.Name(reason)
