"""The synthetic customer: joins a room by token, speaks in real time, hears what a customer would hear.

The same code serves `voicectl call`, tests and benchmarks. It judges by sound alone: when the agent is audible, when it
has finished. Not here: its voice and ear (speech.py), the arithmetic of hearing (timeline.py), tokens (web/).
One process drives at most 5 callers: with more, events come seconds late (livekit-server.md, traps).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from livekit import rtc

from voicectl.voice.errors import VoiceFault
from voicectl.voice.proxies import spare_loopback
from voicectl.voice.speech import RATE, Ear, Pcm, Voice, read_wav, write_wav
from voicectl.voice.timeline import Timeline

FRAME = RATE // 50  # 20 ms
QUEUE_MS = 60  # what lies between capture and the wire; short, so that the end of our speech is known to 20 ms
LOOK_S = 0.05  # when no frame comes to look at, the clock is looked at
MICROPHONE_END_S = 1.0  # a frame is 20 ms; longer only where the loop stands still
TOPIC = "lk.transcription"
ALIKE = 0.8  # of the letters


class NothingHeard(VoiceFault):
    """The agent was not audible in time, or did not stop.

    Args:
        waited_s: How long we listened.
        what: What was missing.
        room: What was in the room then.
    """

    def __init__(self, waited_s: float, what: str, room: str) -> None:
        self.waited_s, self.what, self.room = waited_s, what, room
        super().__init__(f"{what} within {waited_s:g} s; {room}. See: voicectl status, voicectl logs worker")


@dataclass(frozen=True)
class Heard:
    """One utterance of the agent, as it came out of the loudspeaker.

    Args:
        audio: 16 bit mono.
        rate: Samples a second.
        first_audible_s: From the end of our own last speech (of the last thing heard, of joining) to the first audible
            20 ms; 0 where the agent was speaking already.
        duration_s: From the first to the last audible block.
    """

    audio: Pcm
    rate: int
    first_audible_s: float
    duration_s: float


@dataclass(frozen=True)
class Transcript:
    """One line of text that the agent's side published: whose words, what, and when it was complete."""

    identity: str
    text: str
    at_s: float


def alike(text: str, line: str) -> bool:
    """Whether a text, as it was heard, is this line and no more; a comma or a letter may be heard otherwise."""
    return SequenceMatcher(None, text.strip().lower(), line.lower()).ratio() > ALIKE


class Caller:
    """A customer on the line. Use it as `async with Caller(url, token, home=...) as caller`.

    Args:
        server_url: LiveKit server.
        token: Participant token; the identity and the room are in it.
        home: VOICE_HOME, for the voice, the ear and the cache; unused when `voice` and `ear` are given.
        voice: A voice, or the name of one.
        ear: An ear to transcribe with; share one, it is 150 MB.
        connect_timeout_s: Give up joining after this.
    """

    def __init__(
        self,
        server_url: str,
        token: str,
        *,
        home: Path = Path(".voice"),
        voice: Voice | str = "af_heart",
        ear: Ear | None = None,
        connect_timeout_s: float = 15.0,
    ) -> None:
        self._url, self._token, self._connect_timeout_s = server_url, token, connect_timeout_s
        self.voice = Voice(home, voice) if isinstance(voice, str) else voice
        self.ear = ear or Ear(home)
        self.room = rtc.Room()
        self.transcripts: list[Transcript] = []
        self.disconnect_reason: str | None = None
        self.agent_joined_s: float | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._microphone: asyncio.Task[None] | None = None
        self._line: asyncio.Queue[tuple[Pcm, asyncio.Future[float]]] = asyncio.Queue()
        self._said: asyncio.Future[float] | None = None
        self._news = asyncio.Event()
        self._over = asyncio.Event()
        self._mark = 0.0

    async def __aenter__(self) -> Self:
        """Join and open the microphone (silence until something is said).

        Raises:
            TimeoutError: The server did not let us in within `connect_timeout_s`.
            rtc.ConnectError: It refused.
        """
        self._source = rtc.AudioSource(RATE, 1, queue_size_ms=QUEUE_MS)
        self.room.on("track_subscribed", self._on_track)
        self.room.on("participant_connected", self._on_participant)
        self.room.on("disconnected", self._on_disconnected)
        self.room.register_text_stream_handler(TOPIC, self._on_text)
        self._begin(time.monotonic())
        spare_loopback(self._url)
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await self.room.connect(self._url, self._token)
                self._begin(time.monotonic())
                track = rtc.LocalAudioTrack.create_audio_track("microphone", self._source)
                options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
                self._microphone = self._spawn(self._speak(), "microphone")
                await self.room.local_participant.publish_track(track, options)
        except BaseException:
            await self.hang_up()
            raise
        for participant in self.room.remote_participants.values():
            self._on_participant(participant)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.hang_up()

    def _begin(self, now: float) -> None:
        self.joined_at = self._mark = now
        self.heard, self.spoken = Timeline(now), Timeline(now)

    async def say(self, line: str | Path | Pcm) -> float:
        """Speak a line in real time: a text, a WAV file, or 24 kHz mono samples.

        Returns:
            The clock (`time.monotonic`) when its last sample left for the wire.

        Raises:
            ModelMissing: A text, and the voice is not on this disk.
            NotSpeech: A file that is not a WAV.
            ConnectionError: The call is over.
        """
        if isinstance(line, str):
            pcm = await asyncio.to_thread(self.voice.line, line)
        elif isinstance(line, Path):
            pcm = await asyncio.to_thread(read_wav, line)
        else:
            pcm = line
        if self.disconnect_reason is not None:
            raise ConnectionError(f"the call is over: {self.disconnect_reason}")
        spoken: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._line.put_nowait((pcm, spoken))
        self._mark = await spoken
        return self._mark

    async def listen(self, *, start_s: float = 15.0, end_silence_s: float = 1.0, longest_s: float = 60.0) -> Heard:
        """Wait until the agent has spoken and finished.

        What it said since our last speech (or the last `listen`) counts, even if we come late to listen.

        Args:
            start_s: How long to wait for the first sound.
            end_silence_s: Silence after which it has finished; longer than its pauses between sentences.
            longest_s: The longest utterance.

        Raises:
            NothingHeard: No sound in time, or no end; a call that ends meanwhile gives what was heard until then.
        """
        after, began = self._mark, time.monotonic()
        while True:
            self._news.clear()
            span = self.heard.utterance(after, end_silence_s, time.monotonic())
            over = self.disconnect_reason is not None
            if span is not None and (span.end is not None or over):
                end = self.heard.end if span.end is None else span.end
                break
            waited = time.monotonic() - began
            if span is None and (waited > start_s or over):
                raise NothingHeard(waited, "the agent was not audible", self._scene())
            if span is not None and waited > start_s + longest_s:
                raise NothingHeard(waited, "the agent did not stop speaking", self._scene())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), LOOK_S)
        self._mark = end
        return Heard(self.heard.pcm(span.start, end), RATE, span.start - after, end - span.start)

    async def transcribe(self, audio: Pcm | Heard, rate: int = RATE) -> str:
        """What is said in the audio, by an ear that is not the agent's."""
        pcm = audio.audio if isinstance(audio, Heard) else audio
        return await asyncio.to_thread(self.ear.transcribe, pcm, rate)

    async def hear(self, *, start_s: float = 15.0, end_silence_s: float = 1.0, filler: str = "") -> tuple[str, Heard]:
        """`listen`, then `transcribe`.

        Args:
            start_s: How long to wait for the first sound.
            end_silence_s: Silence after which it has finished.
            filler: A line that the agent says while it has no answer yet; what follows it is heard too.
        """
        heard = await self.listen(start_s=start_s, end_silence_s=end_silence_s)
        text = await self.transcribe(heard)
        if not (filler and alike(text, filler)):
            return text, heard
        more, rest = await self.hear(start_s=start_s, end_silence_s=end_silence_s)
        return f"{text} {more}", replace(
            heard, audio=np.concatenate([heard.audio, rest.audio]), duration_s=heard.duration_s + rest.duration_s
        )

    def agents(self) -> list[str]:
        """Identities of the agents in the room now, by participant kind, never by name."""
        kind = rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
        return sorted(p.identity for p in self.room.remote_participants.values() if p.kind == kind)

    async def wait_over(self, timeout_s: float = 30.0) -> str:
        """Wait until the other side ends the call.

        Returns:
            LiveKit's reason, e.g. `ROOM_DELETED`.

        Raises:
            TimeoutError: It did not.
        """
        await asyncio.wait_for(self._over.wait(), timeout_s)
        return self.disconnect_reason or ""

    def save(self, path: Path) -> None:
        """Write the call so far as a stereo WAV: left we, right what we heard. Makes the folder."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_wav(path, self.spoken.pcm(), self.heard.pcm())

    async def hang_up(self) -> None:
        """Leave the room. Harmless when the call is over."""
        self._on_disconnected("CLIENT_INITIATED")
        if self._microphone is not None:  # a frame left half captured aborts the process at its exit (rtc 1.1)
            await asyncio.wait([self._microphone], timeout=MICROPHONE_END_S)
        with contextlib.suppress(rtc.ConnectError):
            await self.room.disconnect()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._source.aclose()

    async def _speak(self) -> None:
        """Feed the microphone for the whole call: lines when there are some, silence otherwise."""
        silence = np.zeros(FRAME, np.int16)
        while not self._over.is_set():
            if self._line.empty():
                await self._capture(silence)
                continue
            pcm, self._said = self._line.get_nowait()
            for at in range(0, len(pcm), FRAME):
                if self._over.is_set():
                    return
                frame = np.zeros(FRAME, np.int16)
                piece = pcm[at : at + FRAME]
                frame[: len(piece)] = piece
                await self._capture(frame)
            if not self._said.done():
                self._said.set_result(time.monotonic() + self._source.queued_duration)

    async def _capture(self, pcm: Pcm) -> None:
        await self._source.capture_frame(rtc.AudioFrame(pcm.tobytes(), RATE, 1, len(pcm)))
        self.spoken.add("microphone", pcm, time.monotonic() + self._source.queued_duration)

    async def _receive(self, sid: str, track: rtc.RemoteAudioTrack) -> None:
        stream = rtc.AudioStream(track, sample_rate=RATE, num_channels=1)
        try:
            async for event in stream:
                self.heard.add(sid, np.frombuffer(event.frame.data, dtype=np.int16), time.monotonic())
                self._news.set()
        finally:
            await stream.aclose()

    async def _read(self, reader: rtc.TextStreamReader, identity: str) -> None:
        text = await reader.read_all()
        owner = (reader.info.attributes or {}).get("lk.transcribed_participant_identity") or identity
        self.transcripts.append(Transcript(owner, text, time.monotonic() - self.joined_at))

    def _on_track(
        self, track: rtc.Track, publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        if isinstance(track, rtc.RemoteAudioTrack):
            self._spawn(self._receive(publication.sid, track), f"hear {participant.identity}")

    def _on_participant(self, participant: rtc.RemoteParticipant) -> None:
        if self.agent_joined_s is None and participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT:
            self.agent_joined_s = time.monotonic() - self.joined_at

    def _on_text(self, reader: rtc.TextStreamReader, identity: str) -> None:
        self._spawn(self._read(reader, identity), "read a transcript")

    def _on_disconnected(self, reason: object) -> None:
        if self.disconnect_reason is not None:
            return
        name = reason if isinstance(reason, str) else rtc.DisconnectReason.Name(reason)  # type: ignore[arg-type]
        self.disconnect_reason = name
        self._over.set()
        self._news.set()
        waiting = [self._said] if self._said is not None else []
        while not self._line.empty():
            waiting.append(self._line.get_nowait()[1])
        for said in waiting:
            if not said.done():
                said.set_exception(ConnectionError(f"the call is over: {name}"))

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _scene(self) -> str:
        there = ", ".join(self.room.remote_participants) or "nobody else"
        state = f"the call ended ({self.disconnect_reason})" if self.disconnect_reason else "the call is on"
        return f"in the room: {there}; {state}"
