"""Who watches leases sees everything that happens to them but renewals, and holds nobody up."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import update

from tests.support.locked import locked
from tests.support.waiting import wait_for
from voicectl.memory.config import MemorySettings
from voicectl.memory.errors import StoreUnavailable
from voicectl.memory.store.engine import Store
from voicectl.memory.store.lease_rows import leases as table
from voicectl.memory.store.lease_watch import LeaseWatch
from voicectl.memory.store.leases import Grant, Leases, LeaseState, open_leases

pytestmark = pytest.mark.unit


@pytest.fixture
def leases(settings: MemorySettings) -> Iterator[Leases]:
    made = open_leases(settings)
    yield made
    made.close()


@pytest.fixture
def others(settings: MemorySettings) -> Iterator[Leases]:
    """What another process has open."""
    made = open_leases(settings)
    yield made
    made.close()


@pytest.fixture
def watch(leases: Leases) -> Iterator[LeaseWatch]:
    made = LeaseWatch(leases, ("room:", "worker:"))
    yield made
    made.close()


def by_hand(leases: Leases, **values: object) -> None:
    with leases.store.write() as connection:
        connection.execute(update(table).where(table.c.name == "room:1").values(**values))


@pytest.mark.parametrize(
    "happens",
    [
        lambda others, held: others.claim("room:2", "job-2", 60),
        lambda others, held: others.claim("worker:w2", "{}", 60, LeaseState.HELD),
        lambda others, held: others.release(held),
        lambda others, held: others.move(held, LeaseState.CLOSING, 60),
        lambda others, held: others.take_over(others.read("room:1"), "web", 60, proven_dead=True),
        lambda others, held: by_hand(others, owner="somebody"),
        lambda others, held: by_hand(others, state="nonsense"),
        lambda others, held: by_hand(others, expires_s=0.0),
        lambda others, held: by_hand(others, name="moved"),
    ],
    ids=["taken", "worker", "released", "closing", "taken over", "owner", "state", "expiry", "gone"],
)
def test_what_another_process_does_to_a_lease_is_seen_once(
    watch: LeaseWatch, others: Leases, happens: Callable[[Leases, Grant], object]
) -> None:
    held = others.claim("room:1", "job-1", 60, LeaseState.HELD)
    assert watch.stirred()
    assert not watch.look(), "nothing is known of before the first look"

    happens(others, held)

    assert watch.stirred()
    assert watch.look()
    assert not watch.look()


def test_renewals_and_leases_of_other_names_are_no_news(watch: LeaseWatch, others: Leases) -> None:
    held = others.claim("room:1", "job-1", 60, LeaseState.HELD)
    watch.look()

    others.renew(held, 60)
    others.claim("customer:user:1", "syncer", 60)
    others.claim("observer:web", "web", 60, LeaseState.HELD)

    assert watch.stirred()
    assert not watch.look()


def test_a_lease_that_runs_out_is_news_when_it_does_although_nobody_writes(watch: LeaseWatch, others: Leases) -> None:
    others.claim("room:1", "job-1", 1.0, LeaseState.HELD)
    others.claim("room:2", "job-2", 60, LeaseState.HELD)
    assert not watch.look()
    assert watch.due_s <= 1.1

    wait_for(lambda: "" if watch.due_s <= 0 else "it has not run out")

    assert watch.stirred()
    assert watch.look()
    assert watch.due_s > 30, "the next one is job-2's"
    assert not watch.look()


def test_a_renewal_puts_off_what_is_waited_for(watch: LeaseWatch, others: Leases) -> None:
    held = others.claim("room:1", "job-1", 1.0, LeaseState.HELD)
    watch.look()
    others.renew(held, 60)
    wait_for(lambda: "" if watch.due_s <= 0 else "the old time is not over")

    assert watch.stirred()
    assert not watch.look()
    assert watch.due_s > 30


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_a_look_at_nothing_new_reads_no_row(watch: LeaseWatch, others: Leases, settings: MemorySettings) -> None:
    others.claim("room:1", "job-1", 60, LeaseState.HELD)
    watch.look()

    assert not watch.stirred()

    with locked(settings.home / "leases.db"):
        assert not watch.stirred(), "who holds the lock has written nothing yet"
    assert not watch.look()


def test_what_happened_while_the_store_was_away_is_seen_when_it_is_back(
    watch: LeaseWatch, others: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: Store) -> None:
        raise StoreUnavailable("leases.db", "gone")

    held = others.claim("room:1", "job-1", 60, LeaseState.HELD)
    watch.look()
    others.release(held)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "read", away)
        with pytest.raises(StoreUnavailable):
            watch.look()

    assert watch.stirred()
    assert watch.look()
