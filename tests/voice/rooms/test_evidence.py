"""A lease that ran out proves something only to an observer who could write all the while."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from voicectl.memory.config import MemorySettings, load
from voicectl.memory.errors import StoreUnavailable
from voicectl.memory.store.leases import Leases, open_leases
from voicectl.voice.rooms.evidence import FRESH_S, Evidence

pytestmark = pytest.mark.unit


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def leases(tmp_path: Path) -> Iterator[Leases]:
    made = open_leases(load(MemorySettings, home=tmp_path))
    yield made
    made.close()


def watch(evidence: Evidence, clock: Clock, seconds: float) -> None:
    for _ in range(round(seconds / 0.5)):
        evidence.stamp()
        clock.now += 0.5


def test_a_new_observer_proves_nothing_until_it_wrote_for_a_whole_life_of_a_lease(leases: Leases, clock: Clock) -> None:
    evidence = Evidence(leases, "web", clock)

    watch(evidence, clock, 2.5)
    assert not evidence.proves
    watch(evidence, clock, 1.0)
    assert evidence.proves


def test_while_another_writer_holds_the_lock_reads_succeed_and_nothing_is_proven(
    leases: Leases, clock: Clock, tmp_path: Path
) -> None:
    evidence = Evidence(leases, "web", clock)
    watch(evidence, clock, 5)
    assert evidence.proves

    writer = sqlite3.connect(tmp_path / "leases.db", isolation_level=None)
    writer.execute("begin immediate")
    clock.now += 1
    assert leases.rows(), "a read is answered"
    with pytest.raises(StoreUnavailable):
        evidence.stamp()
    assert not evidence.proves
    writer.execute("rollback")
    writer.close()

    watch(evidence, clock, 2.5)
    assert not evidence.proves, "owners had no time to renew yet"
    watch(evidence, clock, 1.0)
    assert evidence.proves


def test_what_was_proven_is_so_while_the_next_write_is_under_way_unless_it_takes_long(
    leases: Leases, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = Evidence(leases, "web", clock)
    watch(evidence, clock, 5)
    write, seen = evidence._write, list[bool]()

    def slow() -> None:
        seen.append(evidence.proves)
        clock.now += FRESH_S
        seen.append(evidence.proves)
        write()

    monkeypatch.setattr(evidence, "_write", slow)
    evidence.stamp()

    assert seen == [True, False]


def test_an_observer_that_stood_still_proves_nothing(leases: Leases, clock: Clock) -> None:
    evidence = Evidence(leases, "web", clock)
    watch(evidence, clock, 5)

    clock.now += 10
    assert not evidence.proves
    evidence.stamp()
    assert not evidence.proves


def test_two_observers_are_not_in_each_others_way_and_a_deleted_row_is_made_again(leases: Leases, clock: Clock) -> None:
    one, two = Evidence(leases, "web", clock), Evidence(leases, "web", clock)
    watch(one, clock, 1)
    watch(two, clock, 1)
    for row in leases.rows():
        leases.erase(row.name)
        with leases.store.write() as connection:
            connection.exec_driver_sql("delete from leases")

    watch(one, clock, 4)
    assert one.proves
    one.close()
    two.close()
