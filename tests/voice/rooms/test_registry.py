"""A job's lease of its room: answers of the store that were lost, errors of any kind, rows written by hand."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from tests.support.waiting import wait_until
from voicectl.memory.config import load
from voicectl.memory.errors import FencedOut, StoreUnavailable
from voicectl.memory.store.engine import WriteSignals
from voicectl.memory.store.leases import Grant, Leases, LeaseState, open_leases
from voicectl.voice.config import VoiceSettings
from voicectl.voice.rooms import registry
from voicectl.voice.rooms.registry import CLOSING_TTL_S, MAX_CAPACITY, NO_FENCE, Keeper, Taking, claim, hold

pytestmark = pytest.mark.unit

ROOM, ME = "call-1", "agent-me"


@pytest.fixture
def settings(tmp_path: Path) -> VoiceSettings:
    return load(VoiceSettings, home=tmp_path)


@pytest.fixture
def leases(settings: VoiceSettings) -> Iterator[Leases]:
    made = open_leases(settings)
    yield made
    made.close()


def loses_an_answer() -> Callable[[], None]:
    """The first write is taken, and its answer lost."""
    lost: list[int] = []

    def after_commit() -> None:
        lost.append(1)
        if len(lost) == 1:
            raise sqlite3.OperationalError("no answer in 1 s")

    return after_commit


def test_a_lease_whose_answer_was_lost_is_held_at_the_next_try(leases: Leases) -> None:
    claimed = claim(leases, ROOM, ME, "voicectl")
    leases.store.signals = WriteSignals(after_commit=loses_an_answer())
    with pytest.raises(StoreUnavailable):
        hold(leases, ROOM, ME)

    held = hold(leases, ROOM, ME)

    assert (held.state, held.fence, held.nonce) == (LeaseState.HELD, claimed.fence, claimed.nonce)
    assert leases.renew(held, 3.0) == held


def test_a_room_that_is_being_deleted_is_not_held_again(leases: Leases) -> None:
    leases.move(hold_new(leases), LeaseState.CLOSING, CLOSING_TTL_S)

    with pytest.raises(FencedOut):
        hold(leases, ROOM, ME)


def hold_new(leases: Leases) -> Grant:
    claim(leases, ROOM, ME, "voicectl")
    return hold(leases, ROOM, ME)


def test_a_job_takes_the_claim_that_its_offer_no_longer_waited_for(leases: Leases, settings: VoiceSettings) -> None:
    late = claim(leases, ROOM, ME, "voicectl")

    taken, held = Taking(settings, ROOM, ME, "voicectl", NO_FENCE)()

    taken.close()
    assert (held.state, held.fence) == (LeaseState.HELD, late.fence)


def test_also_when_it_comes_while_the_job_takes_it(
    leases: Leases, settings: VoiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(_: object) -> Leases:
        made = open_leases(settings)
        really = made.claim

        def after_the_offers(*about: object, **more: object) -> Grant:
            claim(leases, ROOM, ME, "voicectl")
            return really(*about, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(made, "claim", after_the_offers)
        return made

    monkeypatch.setattr(registry, "open_leases", opened)

    taken, held = Taking(settings, ROOM, ME, "voicectl", NO_FENCE)()

    taken.close()
    assert (held.state, held.owner) == (LeaseState.HELD, ME)


def test_what_another_has_is_not_taken(leases: Leases, settings: VoiceSettings) -> None:
    claim(leases, ROOM, "agent-two", "voicectl")

    with pytest.raises(FencedOut):
        Taking(settings, ROOM, ME, "voicectl", NO_FENCE)()


async def test_a_call_does_not_wait_for_a_store_that_hangs_and_gets_its_lease_when_it_answers(
    leases: Leases, settings: VoiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "TAKE_S", 0.01)
    monkeypatch.setattr(registry, "RENEW_S", 0.01)
    thawed, opened = threading.Event(), list[Leases]()

    def opens(_: object) -> Leases:
        thawed.wait(30)
        opened.append(open_leases(settings))
        return opened[-1]

    monkeypatch.setattr(registry, "open_leases", opens)
    claim(leases, ROOM, ME, "voicectl")
    async with asyncio.timeout(10):
        keeper = await registry.keep(Taking(settings, ROOM, ME, "voicectl", "1"), lambda: None)
    assert keeper.fence == 0

    thawed.set()
    await wait_until(lambda: "" if keeper.fence else "no lease")

    await asyncio.to_thread(keeper.release)
    keeper._thread.join()
    assert len(opened) == 1, "what was asked for first is used"


@pytest.mark.parametrize("renew_s", [0.01, 3600.0], ids=["while the keeper takes it", "before"])
async def test_a_job_that_has_left_gets_no_lease_when_the_store_answers(
    leases: Leases, settings: VoiceSettings, monkeypatch: pytest.MonkeyPatch, renew_s: float
) -> None:
    monkeypatch.setattr(registry, "TAKE_S", 0.01)
    monkeypatch.setattr(registry, "RENEW_S", renew_s)
    thawed, waits = threading.Event(), threading.Event()

    def opens(_: object) -> Leases:
        thawed.wait(30)
        return open_leases(settings)

    class Watched(Future[tuple[Leases, Grant]]):
        def result(self, timeout: float | None = None) -> tuple[Leases, Grant]:
            waits.set()
            return super().result(timeout)

    monkeypatch.setattr(registry, "open_leases", opens)
    monkeypatch.setattr("concurrent.futures.thread._base.Future", Watched)
    claim(leases, ROOM, ME, "voicectl")
    keeper = await registry.keep(Taking(settings, ROOM, ME, "voicectl", "1"), lambda: None)
    if renew_s < 1:
        await wait_until(lambda: "" if waits.is_set() else "the keeper does not wait for it")
    keeper.stop()
    thawed.set()

    def state() -> str:
        row = leases.read(f"room:{ROOM}")
        return "" if row is not None and row.state == LeaseState.FREE else f"it is {row}"

    await wait_until(state)
    keeper._thread.join()


async def test_a_room_that_is_anothers_is_said_at_once(leases: Leases, settings: VoiceSettings) -> None:
    claim(leases, ROOM, "agent-two", "voicectl")

    with pytest.raises(FencedOut):
        await registry.keep(Taking(settings, ROOM, ME, "voicectl", "1"), lambda: None)


async def test_an_error_of_any_kind_does_not_end_the_renewals(
    leases: Leases, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(registry, "RENEW_S", 0.01)
    tries: list[int] = []

    def take() -> tuple[Leases, Grant]:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("no such folder")
        return leases, hold_new(leases)

    keeper = Keeper(None, lambda: None, take=take)
    try:
        await wait_until(lambda: "" if keeper.fence else "no lease")
    finally:
        keeper.stop()
        keeper._thread.join()
    assert "the lease could not be renewed" in caplog.messages


@pytest.mark.parametrize(
    "owner",
    [
        "a person",
        "{}",
        "[1]",
        '"capacity"',
        '{"capacity": 1e999}',
        '{"capacity": NaN}',
        '{"capacity": null}',
        '{"capacity": true}',
        '{"capacity": "5"}',
        '{"capacity": -1}',
        f'{{"capacity": {MAX_CAPACITY + 1}}}',
        f'{{"capacity": 1{"0" * 100}}}',
    ],
)
def test_a_workers_row_that_was_written_by_hand_is_passed_over(leases: Leases, owner: str) -> None:
    leases.claim("worker:odd", owner, 5.0, LeaseState.HELD)
    leases.claim("worker:ours", '{"capacity": 3, "pid": 1}', 5.0, LeaseState.HELD)

    assert registry.live_workers(leases) == [{"capacity": 3, "pid": 1}]


def test_a_renewal_that_was_not_taken_is_tried_again_at_once_and_one_that_took_long_is_followed_sooner() -> None:
    assert registry.pause_before_renewal(0.8, failed=True) == registry.AGAIN_S
    assert registry.pause_before_renewal(0.0, failed=False) == registry.RENEW_S
    assert registry.pause_before_renewal(0.8, failed=False) == pytest.approx(registry.RENEW_S - 0.8)
    assert registry.pause_before_renewal(5.0, failed=False) == registry.AGAIN_S
    # Three tries, each of which waits 0.8 s for the lock, fit into what is left of a lease after one that failed.
    assert 3 * (0.8 + registry.AGAIN_S) < registry.TTL_S
