"""The lease contract: new, expired, active, lost race, stale, concurrent, another boot."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from voicectl.memory.config import MemorySettings, load
from voicectl.memory.errors import FencedOut
from voicectl.memory.store.engine import Store
from voicectl.memory.store.leases import LeaseHeld, Leases, LeaseState, open_leases

pytestmark = pytest.mark.unit


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make(tmp_path: Path, clock: Clock, boot: str = "boot-1") -> Leases:
    return Leases(Store(URL.create("sqlite", database=str(tmp_path / "leases.db"))), clock=clock, boot_id=boot)


@pytest.fixture
def leases(tmp_path: Path, clock: Clock) -> Iterator[Leases]:
    made = make(tmp_path, clock)
    yield made
    made.close()


def test_a_new_name_is_granted_with_the_first_fence(leases: Leases) -> None:
    grant = leases.claim("room:a", "agent-1", 3)

    assert grant.fence == 1
    assert leases.read("room:a").live


def test_a_live_lease_refuses_a_claim_and_says_who_holds_it(leases: Leases, clock: Clock) -> None:
    leases.claim("room:a", "agent-1", 3)
    clock.now += 1

    with pytest.raises(LeaseHeld) as refused:
        leases.claim("room:a", "agent-2", 3)

    assert refused.value.lease.owner == "agent-1"
    assert refused.value.lease.remaining_s == pytest.approx(2)


def test_an_expired_lease_is_granted_again_with_a_higher_fence(leases: Leases, clock: Clock) -> None:
    leases.claim("room:a", "agent-1", 3)
    clock.now += 3.1

    assert leases.claim("room:a", "agent-2", 3).fence == 2


def test_an_expired_lease_that_nobody_took_is_renewed(leases: Leases, clock: Clock) -> None:
    grant = leases.claim("room:a", "agent-1", 3)
    clock.now += 60

    leases.renew(grant, 3)

    assert leases.read("room:a").live


def test_a_stale_grant_can_neither_renew_nor_release(leases: Leases, clock: Clock) -> None:
    old = leases.claim("room:a", "agent-1", 3)
    clock.now += 4
    leases.claim("room:a", "agent-2", 3)

    with pytest.raises(FencedOut) as lost:
        leases.renew(old, 3)
    leases.release(old)

    assert (lost.value.ours, lost.value.theirs) == (1, 2)
    assert leases.read("room:a").owner == "agent-2"


def test_a_released_name_is_free_and_its_fence_keeps_growing(leases: Leases) -> None:
    leases.release(leases.claim("room:a", "agent-1", 3))

    assert leases.claim("room:a", "agent-2", 3).fence == 2


def test_a_lease_of_an_earlier_boot_counts_as_expired(leases: Leases, tmp_path: Path, clock: Clock) -> None:
    leases.claim("room:a", "agent-1", 300)

    after_boot = make(tmp_path, clock, boot="boot-2")

    assert not after_boot.read("room:a").live
    assert after_boot.claim("room:a", "agent-2", 3).fence == 2


def test_one_of_two_observers_takes_a_dead_lease_over(leases: Leases, clock: Clock) -> None:
    owner = leases.claim("room:a", "agent-1", 3)
    clock.now += 4
    seen = leases.read("room:a")

    leases.take_over(seen, "reconciler-1", 5)

    with pytest.raises(FencedOut):
        leases.take_over(seen, "reconciler-2", 5)
    with pytest.raises(FencedOut):
        leases.renew(owner, 3)
    assert leases.claim("room:a", "agent-2", 3).fence == 3  # from takeover, at once


def test_a_live_lease_is_taken_over_only_with_proof(leases: Leases) -> None:
    leases.claim("room:a", "agent-1", 3)
    seen = leases.read("room:a")

    with pytest.raises(FencedOut):
        leases.take_over(seen, "reconciler", 5)

    assert leases.take_over(seen, "reconciler", 5, proven_dead=True).state == LeaseState.TAKEOVER


def test_a_closing_room_refuses_claims_until_it_is_released(leases: Leases) -> None:
    held = leases.move(leases.claim("room:a", "agent-1", 3), LeaseState.HELD, 3)
    closing = leases.move(held, LeaseState.CLOSING, 10)

    with pytest.raises(LeaseHeld):
        leases.claim("room:a", "agent-2", 3)

    leases.release(closing)
    assert leases.claim("room:a", "agent-2", 3).fence == 2


def test_a_state_that_does_not_follow_is_refused(leases: Leases) -> None:
    grant = leases.claim("room:a", "agent-1", 3)

    with pytest.raises(ValueError, match="closing does not follow accepted"):
        leases.move(grant, LeaseState.CLOSING, 3)


def race(home: str, rounds: int, results: multiprocessing.Queue[tuple[int, int]]) -> None:
    leases = open_leases(load(MemorySettings, home=Path(home)))
    for number in range(rounds):
        try:
            results.put((number, leases.claim(f"room:{number}", f"p{multiprocessing.current_process().pid}", 60).fence))
        except LeaseHeld:
            results.put((number, 0))
    leases.close()


@pytest.mark.process
def test_of_four_processes_claiming_at_once_one_gets_each_name(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[tuple[int, int]] = context.Queue()
    processes = [context.Process(target=race, args=(str(tmp_path), 100, results)) for _ in range(4)]

    for process in processes:
        process.start()
    answers = [results.get(timeout=60) for _ in range(400)]
    for process in processes:
        process.join()

    for number in range(100):
        assert sorted(f for n, f in answers if n == number) == [0, 0, 0, 1]


def test_an_expired_lease_can_be_freed_and_a_live_one_cannot(leases: Leases, clock: Clock) -> None:
    owner = leases.claim("room:a", "agent-1", 3)
    with pytest.raises(FencedOut):
        leases.free_expired(leases.read("room:a"))
    clock.now += 4

    leases.free_expired(leases.read("room:a"))

    assert leases.read("room:a").state == LeaseState.FREE
    with pytest.raises(FencedOut):
        leases.renew(owner, 3)
