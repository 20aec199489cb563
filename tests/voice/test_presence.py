"""Who hangs up ends the call; who lost the connection, or whose server was restarted, is waited for."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from livekit import rtc

from tests.support.waiting import wait_until
from voicectl.memory.config import load
from voicectl.voice.config import VoiceSettings
from voicectl.voice.events import EndReason
from voicectl.voice.presence import Presence

pytestmark = pytest.mark.unit

CUSTOMER = "customer-1"


class Line:
    """A room with a customer whose call is watched."""

    def __init__(self, grace_s: float) -> None:
        self.room: Any = rtc.EventEmitter()
        self.ended: list[EndReason] = []
        self.room.remote_participants = {CUSTOMER: SimpleNamespace(identity=CUSTOMER)}
        self.presence = Presence(CUSTOMER, load(VoiceSettings, reconnect_grace_s=grace_s), self.ended.append)
        self.presence.watch(self.room)

    def leaves(self, why: Any = None, identity: str = CUSTOMER) -> None:
        self.room.remote_participants.pop(identity, None)
        self.room.emit("participant_disconnected", SimpleNamespace(identity=identity, disconnect_reason=why))

    def waits_for(self) -> float:
        assert self.presence._timer is not None
        return self.presence._timer.when() - asyncio.get_running_loop().time()

    async def over(self) -> EndReason:
        await wait_until(lambda: "" if self.ended else "it goes on")
        return self.ended[0]


async def test_who_hangs_up_ends_the_call_at_once() -> None:
    line = Line(20)

    line.leaves(rtc.DisconnectReason.CLIENT_INITIATED, identity="agent-2")
    assert line.ended == []
    line.leaves(rtc.DisconnectReason.CLIENT_INITIATED)

    assert line.ended == [EndReason.CUSTOMER_LEFT]


async def test_a_lost_connection_is_waited_for_and_then_the_call_ends() -> None:
    line = Line(0.05)

    line.leaves(rtc.DisconnectReason.CONNECTION_TIMEOUT)

    assert await line.over() == EndReason.CONNECTION_LOST


async def test_after_a_restart_of_the_server_who_is_there_again_is_not_given_up() -> None:
    line = Line(20)
    line.leaves()
    assert line.waits_for() < 30

    line.room.remote_participants[CUSTOMER] = SimpleNamespace(identity=CUSTOMER)  # without an event of its own
    line.room.emit("reconnected")

    assert line.waits_for() > 1000


async def test_after_a_restart_of_the_server_who_did_not_come_back_is_waited_for_once() -> None:
    line = Line(20)
    line.room.remote_participants.clear()

    line.room.emit("reconnected")
    first = line.presence._timer
    line.room.emit("reconnected")

    assert line.waits_for() < 30
    assert line.presence._timer is first, "a second restart begins no new grace"


async def test_a_reconnection_with_the_customer_there_does_not_lengthen_the_call() -> None:
    line = Line(20)
    first = line.presence._timer

    line.room.emit("reconnected")

    assert line.presence._timer is first
