"""The lease contract, on both stores: new, expired, active, lost race, stale, concurrent, another boot or clock."""

from __future__ import annotations

import dataclasses
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from tests.support.lease_race import NAMES, Held, doubles, race
from tests.support.waiting import wait_for
from voicectl.memory.config import MemorySettings
from voicectl.memory.errors import FencedOut
from voicectl.memory.store.engine import Store, store_url
from voicectl.memory.store.leases import FREE_ROWS_S, LeaseHeld, Leases, LeaseState

pytestmark = pytest.mark.unit


class Clock:
    """Time as leases see it: SQLite's is given to them; PostgreSQL's passes by making its rows older."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.remote: Store | None = None

    def __call__(self) -> float:
        return self.now

    def pass_s(self, seconds: float) -> None:
        self.now += seconds
        if self.remote is not None:
            edit(self.remote, f"update leases set expires_s = expires_s - {seconds}")


def edit(store: Store, statement: str) -> None:
    """What a person does who knows SQL."""
    with store.write() as connection:
        connection.exec_driver_sql(statement)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def lease_store(settings: MemorySettings) -> Store:
    url = store_url(settings)
    in_file = url.get_backend_name() == "sqlite"
    return Store(URL.create("sqlite", database=str(settings.home / "leases.db")) if in_file else url)


def make(settings: MemorySettings, clock: Clock, boot: str = "boot-1") -> Leases:
    return Leases(lease_store(settings), clock=clock, boot_id=boot)


@pytest.fixture
def raw(settings: MemorySettings, clock: Clock) -> Iterator[Store]:
    """The database of the leases, for who goes past them."""
    settings.home.mkdir(parents=True, exist_ok=True)
    store = lease_store(settings)
    clock.remote = None if store.is_sqlite else store
    yield store
    store.close()


@pytest.fixture
def leases(settings: MemorySettings, raw: Store, clock: Clock) -> Iterator[Leases]:
    made = make(settings, clock)
    yield made
    made.close()


def test_a_new_name_is_granted_with_the_first_fence(leases: Leases) -> None:
    grant = leases.claim("room:a", "agent-1", 3)

    assert grant.fence == 1
    assert leases.read("room:a").live


def test_a_live_lease_refuses_a_claim_and_says_who_holds_it(leases: Leases, clock: Clock) -> None:
    leases.claim("room:a", "agent-1", 3)
    clock.pass_s(1)

    with pytest.raises(LeaseHeld) as refused:
        leases.claim("room:a", "agent-2", 3)

    assert refused.value.lease.owner == "agent-1"
    assert refused.value.lease.remaining_s == pytest.approx(2, abs=0.5)


def test_an_expired_lease_is_granted_again_with_a_higher_fence(leases: Leases, clock: Clock) -> None:
    leases.claim("room:a", "agent-1", 3)
    clock.pass_s(3.1)

    assert leases.claim("room:a", "agent-2", 3).fence == 2


def test_an_expired_lease_that_nobody_took_is_renewed(leases: Leases, clock: Clock) -> None:
    grant = leases.claim("room:a", "agent-1", 3)
    clock.pass_s(60)

    leases.renew(grant, 3)

    assert leases.read("room:a").live


def test_a_stale_grant_can_neither_renew_nor_release(leases: Leases, clock: Clock) -> None:
    old = leases.claim("room:a", "agent-1", 3)
    clock.pass_s(4)
    leases.claim("room:a", "agent-2", 3)

    with pytest.raises(FencedOut) as lost:
        leases.renew(old, 3)
    leases.release(old)

    assert (lost.value.ours, lost.value.theirs) == (1, 2)
    assert leases.read("room:a").owner == "agent-2"


def test_a_renewal_that_comes_after_the_release_does_not_bring_the_lease_back(leases: Leases) -> None:
    grant = leases.claim("room:a", "agent-1", 3)
    leases.release(grant)

    with pytest.raises(FencedOut):
        leases.renew(grant, 3)

    assert not leases.read("room:a").live


def test_a_released_name_is_free_and_its_fence_keeps_growing(leases: Leases) -> None:
    leases.release(leases.claim("room:a", "agent-1", 3))

    assert leases.claim("room:a", "agent-2", 3).fence == 2


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_a_lease_of_an_earlier_boot_counts_as_expired(leases: Leases, settings: MemorySettings, clock: Clock) -> None:
    leases.claim("room:a", "agent-1", 300)

    after_boot = make(settings, clock, boot="boot-2")

    assert not after_boot.read("room:a").live
    assert after_boot.claim("room:a", "agent-2", 3).fence == 2


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_a_renewal_after_a_boot_counts_in_the_new_boot(leases: Leases, settings: MemorySettings, clock: Clock) -> None:
    grant = leases.claim("room:a", "agent-1", 300)
    clock.now = 3.0  # the monotonic clock begins anew
    after_boot = make(settings, clock, boot="boot-2")

    after_boot.renew(grant, 3)

    assert after_boot.read("room:a").remaining_s == pytest.approx(3)


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_a_clock_that_jumps_back_within_a_boot_locks_no_name_for_ever(leases: Leases, clock: Clock) -> None:
    clock.now = 1e9  # as after the restore of a virtual machine
    leases.claim("room:a", "agent-1", 3)
    clock.now = 1000.0

    assert not leases.read("room:a").live
    assert leases.claim("room:a", "agent-2", 3).fence == 2


def test_the_wall_clock_decides_nothing(settings: MemorySettings, raw: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    leases = Leases(lease_store(settings))
    leases.claim("room:a", "agent-1", 30)

    monkeypatch.setattr(time, "time", lambda: 1e12)
    monkeypatch.setattr(time, "time_ns", lambda: 10**21)

    assert leases.read("room:a").live
    with pytest.raises(LeaseHeld):
        leases.claim("room:a", "agent-2", 30)
    leases.close()


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
def test_a_renewal_that_waited_for_a_lock_counts_from_when_it_was_written(leases: Leases, raw: Store) -> None:
    grant = leases.claim("room:a", "agent-1", 3)
    waiting = threading.Event()

    with raw.write() as connection:
        connection.exec_driver_sql("select 1 from leases where name = 'room:a' for update")
        begun = time.monotonic()
        thread = threading.Thread(target=lambda: (waiting.set(), leases.renew(grant, 3)))
        thread.start()
        waiting.wait(5)
        blocked = (
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        )
        with raw.read() as other:
            wait_for(lambda: "" if other.exec_driver_sql(blocked).scalar() else "nobody waits for the row")
        connection.exec_driver_sql("select pg_sleep(0.5)")
    thread.join()

    waited = time.monotonic() - begun
    assert waited > 0.4
    assert leases.read("room:a").remaining_s > 3 - waited + 0.3


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_a_claim_that_waited_for_a_lock_counts_from_when_it_was_written(
    leases: Leases, raw: Store, clock: Clock
) -> None:
    begun = threading.Event()

    def claim() -> None:
        begun.set()
        leases.claim("room:a", "agent-1", 3)

    with raw.write():
        thread = threading.Thread(target=claim)
        thread.start()
        begun.wait(5)
        clock.now += 2  # the claim stands at BEGIN IMMEDIATE all that time, or has not come so far
    thread.join()

    assert leases.read("room:a").remaining_s == pytest.approx(3)


def test_one_of_two_observers_takes_a_dead_lease_over(leases: Leases, clock: Clock) -> None:
    owner = leases.claim("room:a", "agent-1", 3)
    clock.pass_s(4)
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


def test_one_of_two_observers_takes_a_name_that_never_had_a_row(leases: Leases) -> None:
    taken = leases.take_new("room:a", "reconciler-1", 5, note="voicectl")

    with pytest.raises(FencedOut):
        leases.take_new("room:a", "reconciler-2", 5)
    row = leases.read("room:a")
    assert row is not None
    assert (row.state, row.owner, row.note) == (LeaseState.TAKEOVER, "reconciler-1", "voicectl")
    assert leases.claim("room:a", "agent-1", 3).fence == taken.fence + 1


@pytest.mark.parametrize("how", ["released", "begun and never finished", "edited by hand"])
def test_one_of_two_observers_takes_a_name_that_nobody_holds(
    leases: Leases, clock: Clock, raw: Store, how: str
) -> None:
    if how == "begun and never finished":
        leases.take_new("room:a", "dead", 5)
        fresh = leases.read("room:a")
        assert fresh is not None
        with pytest.raises(FencedOut):
            leases.take_over(fresh, "reconciler-1", 5)
        clock.pass_s(5)
    else:
        leases.release(leases.claim("room:a", "agent-1", 3, LeaseState.HELD))
    if how == "edited by hand":
        edit(raw, "update leases set state = 'mine'")
    seen = leases.read("room:a")
    assert seen is not None

    taken = leases.take_over(seen, "reconciler-1", 5)

    assert taken.fence == seen.fence + 1
    with pytest.raises(FencedOut):
        leases.take_over(seen, "reconciler-2", 5)
    assert leases.renew(taken, 5).state == LeaseState.TAKEOVER


def test_a_room_that_is_being_deleted_is_not_taken_over(leases: Leases, clock: Clock) -> None:
    leases.move(leases.claim("room:a", "agent-1", 3, LeaseState.HELD), LeaseState.CLOSING, 10)
    clock.pass_s(20)
    seen = leases.read("room:a")
    assert seen is not None

    with pytest.raises(FencedOut):
        leases.take_over(seen, "reconciler", 5)


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


@pytest.mark.process
@pytest.mark.timeout(240)
def test_of_eight_processes_that_race_for_three_names_none_holds_one_at_the_same_time_as_another(
    tmp_path: Path, store_url: str | None
) -> None:
    seed = random.randrange(1 << 20)

    grants, busy = race(tmp_path / "race", store_url, processes=8, claims=800, seed=seed)

    print(f"seed {seed}: {len(grants)} grants, busy {busy} times")
    assert len(grants) >= 100
    assert {g.name for g in grants} == set(NAMES)
    assert doubles(grants) == []


def test_the_log_of_a_race_shows_a_double_grant() -> None:
    first, second = Held("room:a", 1, "x", "p1", 10.0, 11.0), Held("room:a", 2, "y", "p2", 10.5, 12.0)

    assert doubles([first, second]) == ["room:a: p2 while p1 held it for 0.5000 s"]
    assert doubles([first, dataclasses.replace(first, owner="p2")]) == ["room:a: fence 1 for p1 and p2"]
    assert doubles([first, dataclasses.replace(second, since=11.0)]) == []
    ran_out = dataclasses.replace(second, since=13.0, until=13.0)  # its answer came too late to rely on it
    third = Held("room:a", 3, "z", "p3", 12.5, 14.0)
    assert doubles([first, ran_out, third]) == []
    assert doubles([dataclasses.replace(first, until=12.6), ran_out, third]) != [], "seen past the one between"


def test_an_expired_lease_can_be_freed_and_a_live_one_cannot(leases: Leases, clock: Clock) -> None:
    owner = leases.claim("room:a", "agent-1", 3)
    with pytest.raises(FencedOut):
        leases.free_expired(leases.read("room:a"))
    clock.pass_s(4)

    leases.free_expired(leases.read("room:a"))

    assert leases.read("room:a").state == LeaseState.FREE
    with pytest.raises(FencedOut):
        leases.renew(owner, 3)


@pytest.mark.parametrize(
    "edited",
    [
        "state = 'nonsense'",
        "expires_s = 1e18",
        "owner = '', nonce = ''",
        "fence = fence + 100",
        "boot_id = 'edited'",
    ],
)
def test_a_row_edited_by_hand_is_read_taken_over_or_claimed_and_never_locks_a_name(
    leases: Leases, raw: Store, clock: Clock, edited: str
) -> None:
    owner = leases.claim("room:a", "agent-1", 3, LeaseState.HELD)
    before = leases.read("room:a").fence
    edit(raw, f"update leases set {edited}")
    clock.pass_s(4)

    assert not leases.read("room:a").live
    again = leases.claim("room:a", "agent-2", 3)

    assert again.fence > before
    assert leases.read("room:a").owner == "agent-2"
    with pytest.raises(FencedOut):
        leases.renew(owner, 3)


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("edited", ["expires_s = 'tomorrow'", "fence = 'many'"])
def test_words_where_numbers_belong_are_healed_by_the_next_claim(leases: Leases, raw: Store, edited: str) -> None:
    leases.claim("room:a", "agent-1", 0.0)
    edit(raw, f"update leases set {edited}")

    assert not leases.read("room:a").live
    leases.claim("room:a", "agent-2", 3)

    assert leases.read("room:a").owner == "agent-2"


def test_names_released_long_ago_are_forgotten_and_their_fences_still_grow(
    leases: Leases, raw: Store, settings: MemorySettings, clock: Clock
) -> None:
    for _ in range(5):
        old = leases.claim("room:old", "agent", 3)
        leases.release(old)
    clock.pass_s(FREE_ROWS_S + 1)
    leases.release(leases.claim("room:new", "agent", 3))
    held = leases.claim("room:held", "agent", 3)
    clock.pass_s(10)

    later = make(settings, clock)

    assert [r.name for r in later.rows()] == ["room:held", "room:new"]
    assert later.claim("room:old", "agent", 3).fence == 6
    assert later.claim("room:never-seen", "agent", 3).fence == 6
    with pytest.raises(FencedOut):
        later.renew(old, 3)
    assert later.renew(held, 3).fence == held.fence
    later.close()


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_a_name_released_before_a_boot_is_kept_for_another_day(
    leases: Leases, settings: MemorySettings, clock: Clock
) -> None:
    leases.release(leases.claim("room:a", "agent", 3))

    kept = make(settings, clock, boot="boot-2")
    assert [r.name for r in kept.rows()] == ["room:a"]
    clock.pass_s(FREE_ROWS_S + 1)
    gone = make(settings, clock, boot="boot-2")

    assert gone.rows() == []
    assert gone.claim("room:a", "agent", 3).fence == 2


def test_nobody_asks_for_more_than_an_hour(leases: Leases) -> None:
    with pytest.raises(ValueError, match="up to 3600 s"):
        leases.claim("room:a", "agent", 3601)
