"""An offer is answered in time, whatever the store does; a claim whose answer was lost is the job's all the same."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from livekit import api
from livekit.agents import JobRequest
from livekit.protocol import agent as proto

from tests.support.waiting import wait_until
from voicectl.memory.config import load
from voicectl.memory.store.engine import WriteSignals
from voicectl.memory.store.leases import Grant, LeaseHeld, Leases, LeaseState, open_leases
from voicectl.voice import offers
from voicectl.voice.config import VoiceSettings
from voicectl.voice.events import Attribute
from voicectl.voice.rooms import registry
from voicectl.voice.rooms.registry import NO_FENCE

pytestmark = pytest.mark.unit

ROOM = "call-1"


class Offer:
    """One job's offer, and what became of it: the fence it was accepted with, or that it was refused."""

    def __init__(self, number: int = 1) -> None:
        self.answers: list[str] = []
        job = proto.Job(id=f"AJ_{number}", room=api.Room(name=ROOM, sid="RM_1"), agent_name="voicectl")
        self.request = JobRequest(job=job, on_reject=self._reject, on_accept=self._accept)

    async def _reject(self, terminate: bool) -> None:
        self.answers.append("refused" if terminate else "left to others")

    async def _accept(self, arguments: Any) -> None:
        self.answers.append(arguments.attributes[Attribute.FENCE])


@pytest.fixture
def leases(tmp_path: Path) -> Iterator[Leases]:
    made = open_leases(load(VoiceSettings, home=tmp_path))
    yield made
    made.close()


@pytest.fixture
def thawed(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    monkeypatch.setattr(offers, "CLAIM_S", 0.05)
    made = threading.Event()
    yield made
    made.set()


async def test_a_store_that_hangs_is_given_up_and_what_it_does_then_is_the_jobs(
    leases: Leases, thawed: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, offer = registry.claim, Offer()

    def hangs(*about: Any) -> Grant:
        thawed.wait(30)
        return claim(*about)

    monkeypatch.setattr(registry, "claim", hangs)
    async with asyncio.timeout(10):
        assert await offers.offer(offer.request, leases) is None
    assert offer.answers == [NO_FENCE]

    thawed.set()
    await wait_until(lambda: "" if leases.read(f"room:{ROOM}") else "not claimed yet")

    assert registry.hold(leases, ROOM, "agent-AJ_1").state == LeaseState.HELD


async def test_a_claim_whose_answer_was_lost_does_not_refuse_its_own_job(leases: Leases) -> None:
    lost: list[int] = []

    def after_commit() -> None:
        lost.append(1)
        if len(lost) == 1:
            raise sqlite3.OperationalError("no answer in 1 s")

    leases.store.signals = WriteSignals(after_commit=after_commit)
    offer = Offer()

    assert await offers.offer(offer.request, leases) is None

    row = leases.read(f"room:{ROOM}")
    assert row is not None
    assert offer.answers == [str(row.fence)]


async def test_a_room_that_another_job_has_or_the_same_one_speaks_in_is_refused(leases: Leases) -> None:
    first, again, second = Offer(1), Offer(1), Offer(2)
    await offers.offer(first.request, leases)
    registry.hold(leases, ROOM, "agent-AJ_1")

    held = [await offers.offer(o.request, leases) for o in (again, second)]

    assert again.answers == second.answers == ["refused"]
    assert all(isinstance(h, LeaseHeld) for h in held)


async def test_leases_that_cannot_be_opened_in_time_are_closed_when_they_are_open(
    leases: Leases, thawed: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer, closed = Offer(), list[bool]()
    monkeypatch.setattr(leases, "close", lambda: closed.append(True))

    def hangs(_: object) -> Leases:
        thawed.wait(30)
        return leases

    monkeypatch.setattr(offers, "open_leases", hangs)
    async with asyncio.timeout(10):
        await offers.accept_call(offer.request)
    assert (offer.answers, closed) == ([NO_FENCE], [])

    thawed.set()
    await wait_until(lambda: "" if closed else "not closed")
