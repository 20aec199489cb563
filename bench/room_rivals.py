"""Whoever else can be in a room: rival agents by tokens of the server's key, and those who must never be evicted.

A rival is what a second brain, a stray worker or an earlier version of an agent looks like to the server: a participant
of kind agent. Not here: rivals that are jobs (they are dispatched, see room_injections.py).
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any, Literal, Self

import numpy as np
from livekit import api, rtc

from voicectl.voice.events import Attribute
from voicectl.voice.rooms.guard import ON_BEHALF

RATE = 24_000
Kind = Literal["standard", "egress", "ingress", "sip", "agent"]


def forged(fence: int) -> dict[str, str]:
    """Attributes of an agent that claims to be ours, and a later one."""
    return {
        Attribute.FENCE: str(fence),
        Attribute.CALL: "call-forged",
        Attribute.PID: "1",
        Attribute.BUILD: "forged",
    }


def named(name: str) -> dict[str, str]:
    """Attributes by which server and SDK show an agent's name."""
    return {"lk.agent_name": name, "lk.agent.name": name}


def on_behalf_of(identity: str) -> dict[str, str]:
    """Attributes of an avatar."""
    return {ON_BEHALF: identity}


def token(keys: tuple[str, str], room: str, identity: str, kind: Kind, attributes: dict[str, str]) -> str:
    """A token as only who has the server's key can make it."""
    grants = api.VideoGrants(
        room_join=True, room=room, can_publish=True, can_subscribe=False, agent=kind == "agent" or None
    )
    made = api.AccessToken(*keys).with_identity(identity).with_kind(kind).with_grants(grants)
    return made.with_attributes(attributes).to_jwt()


class Other:
    """Somebody else in the room. Use as an async context manager.

    Args:
        url: LiveKit's address.
        keys: Its key and secret.
        room: The room's name.
        kind: What the server takes them for.
        identity: Their name; a new one where not given.
        attributes: Theirs.
        audible: Publish a tone.

    Attributes:
        joined_at: When the server had let us in.
        left_at: When it put us out; None while we are in.
        why: Its reason.
    """

    def __init__(
        self,
        url: str,
        keys: tuple[str, str],
        room: str,
        kind: Kind = "agent",
        *,
        identity: str = "",
        attributes: dict[str, str] | None = None,
        audible: bool = False,
    ) -> None:
        self.identity = identity or f"agent-AJ_{secrets.token_hex(5)}"
        self._url, self._audible = url, audible
        self._token = token(keys, room, self.identity, kind, attributes or {})
        self._room = rtc.Room()
        self.joined_at = 0.0
        self.left_at: float | None = None
        self.why = ""
        self._over = False
        self._speaking: asyncio.Task[None] | None = None
        self._source: rtc.AudioSource | None = None

    async def __aenter__(self) -> Self:
        self._room.on("disconnected", self._on_disconnected)
        await self._room.connect(self._url, self._token, rtc.RoomOptions(auto_subscribe=False))
        self.joined_at = time.monotonic()
        if self._audible:
            self._source = rtc.AudioSource(RATE, 1, queue_size_ms=200)
            self._speaking = asyncio.create_task(self._speak(self._source))
            track = rtc.LocalAudioTrack.create_audio_track("voice", self._source)
            try:
                await self._room.local_participant.publish_track(track)
            except rtc.PublishTrackError:
                if self.left_at is None:
                    raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over = True
        if self._speaking is not None:  # a frame left half captured aborts the process at its exit
            await asyncio.wait([self._speaking], timeout=1)
        await self._room.disconnect()
        if self._source is not None:
            await self._source.aclose()

    async def _speak(self, source: rtc.AudioSource) -> None:
        at = np.arange(RATE // 10) / RATE
        tone = (6000 * np.sin(2 * np.pi * 300 * at)).astype(np.int16).tobytes()
        while not self._over and self.left_at is None:
            await source.capture_frame(rtc.AudioFrame(tone, RATE, 1, RATE // 10))

    def _on_disconnected(self, reason: Any) -> None:
        if self.left_at is None and not self._over:
            self.left_at = time.monotonic()
            self.why = rtc.DisconnectReason.Name(reason)
