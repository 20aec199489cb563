"""Whether the customer is on the line: who hangs up ends the call, a lost connection is waited for, no call is endless.

Not here: how a call ends (call.py), whether an agent is there (rooms/).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from livekit import rtc

from voicectl.voice.config import VoiceSettings
from voicectl.voice.events import EndReason
from voicectl.voice.listening import guarded

HUNG_UP = (rtc.DisconnectReason.CLIENT_INITIATED, rtc.DisconnectReason.USER_REJECTED)


class Presence:
    """The customer of one call, seen from the room.

    Args:
        identity: The customer's participant.
        settings: For the grace and the longest call, in seconds.
        end: Called when the call shall end, with the reason.
    """

    def __init__(self, identity: str, settings: VoiceSettings, end: Callable[[EndReason], None]) -> None:
        self._identity, self._settings, self._end = identity, settings, end
        self._timer: asyncio.TimerHandle | None = None
        self._there = True

    def watch(self, room: rtc.Room) -> None:
        """From now on."""

        def on_reconnected() -> None:
            self._on_reconnected(room)

        room.on("participant_disconnected", guarded(self._on_left))
        room.on("participant_connected", guarded(self._on_back))
        # After a restart of the server everybody comes back by himself, in any order; who is there then is the truth.
        room.on("reconnected", guarded(on_reconnected))
        self._end_after(self._settings.max_call_s, EndReason.TOO_LONG)

    def close(self) -> None:
        """The call ends; nobody is waited for."""
        if self._timer is not None:
            self._timer.cancel()

    def _on_left(self, participant: rtc.RemoteParticipant) -> None:
        if participant.identity != self._identity:
            return
        if participant.disconnect_reason in HUNG_UP:
            self._end(EndReason.CUSTOMER_LEFT)
        else:
            self._wait_for_them()

    def _on_back(self, participant: rtc.RemoteParticipant) -> None:
        if participant.identity == self._identity:
            self._there = True
            self._end_after(self._settings.max_call_s, EndReason.TOO_LONG)

    def _on_reconnected(self, room: rtc.Room) -> None:
        here = room.remote_participants.get(self._identity)
        if here is not None and not self._there:
            self._on_back(here)
        elif here is None and self._there:
            self._wait_for_them()

    def _wait_for_them(self) -> None:
        self._there = False
        self._end_after(self._settings.reconnect_grace_s, EndReason.CONNECTION_LOST)

    def _end_after(self, seconds: float, reason: EndReason) -> None:
        self.close()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._end, reason)
