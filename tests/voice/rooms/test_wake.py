"""A reconciler is woken by what happens to leases, by a lease that runs out, and by news; not by renewals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.waiting import wait_until
from voicectl.memory.config import MemorySettings, load
from voicectl.memory.errors import StoreUnavailable
from voicectl.memory.store.lease_watch import LeaseWatch
from voicectl.memory.store.leases import Leases, LeaseState, open_leases
from voicectl.voice.rooms.wake import Wake

pytestmark = pytest.mark.unit
FOR_EVER_S = 600.0


class Looks:
    """Counts the looks at the leases."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.number = 0
        self.away = False
        look = LeaseWatch.look

        def counted(watch: LeaseWatch) -> bool:
            self.number += 1
            if self.away:
                raise StoreUnavailable("leases.db", "gone")
            return look(watch)

        monkeypatch.setattr(LeaseWatch, "look", counted)

    async def another(self) -> None:
        before = self.number
        await wait_until(lambda: "" if self.number > before else "nobody looked")


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    return Looks(monkeypatch)


@pytest.fixture
def leases(tmp_path: Path) -> Iterator[Leases]:
    made = open_leases(load(MemorySettings, home=tmp_path))
    yield made
    made.close()


@pytest.fixture
async def wake(leases: Leases) -> AsyncIterator[Wake]:
    made = Wake(leases)
    yield made
    made.close()


async def waiting(wake: Wake, looks: Looks) -> asyncio.Task[None]:
    """Somebody who waits, and has had a first look."""
    task = asyncio.create_task(wake.wait(FOR_EVER_S))
    await wait_until(lambda: "" if looks.number else "no look yet")
    return task


async def woken(task: asyncio.Task[None]) -> None:
    await asyncio.wait_for(task, 20)


async def test_a_lease_that_is_released_elsewhere_wakes(wake: Wake, looks: Looks, leases: Leases) -> None:
    held = leases.claim("room:1", "job-1", 60, LeaseState.HELD)
    task = await waiting(wake, looks)

    leases.release(held)

    await woken(task)


async def test_what_happened_between_two_waits_is_not_missed(wake: Wake, looks: Looks, leases: Leases) -> None:
    task = await waiting(wake, looks)
    wake.poke()
    await woken(task)

    leases.claim("room:1", "job-1", 60)

    await woken(asyncio.create_task(wake.wait(FOR_EVER_S)))


async def test_a_lease_that_runs_out_wakes_when_it_does_although_nobody_writes(
    wake: Wake, looks: Looks, leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voicectl.voice.rooms.wake.LOOK_S", FOR_EVER_S)
    leases.claim("room:1", "job-1", 1.5, LeaseState.HELD)

    await woken(await waiting(wake, looks))


async def test_a_renewal_is_looked_at_and_wakes_nobody(wake: Wake, looks: Looks, leases: Leases) -> None:
    held = leases.claim("room:1", "job-1", 60, LeaseState.HELD)
    task = await waiting(wake, looks)

    for _ in range(3):
        leases.renew(held, 60)
        await looks.another()

    await asyncio.sleep(0)
    assert not task.done()
    task.cancel()


async def test_news_wakes_at_once_and_much_of_it_wakes_once(wake: Wake, looks: Looks, leases: Leases) -> None:
    held = leases.claim("room:1", "job-1", 60, LeaseState.HELD)
    task = await waiting(wake, looks)
    for _ in range(40):
        wake.poke()
    await woken(task)

    again = asyncio.create_task(wake.wait(FOR_EVER_S))
    leases.renew(held, 60)
    await looks.another()  # it waits: who was woken does not look
    assert not again.done()
    wake.poke()
    await woken(again)


async def test_news_that_nobody_waited_for_is_kept(wake: Wake) -> None:
    wake.poke()

    await woken(asyncio.create_task(wake.wait(FOR_EVER_S)))


async def test_without_a_reason_it_ends_when_the_time_is_over(wake: Wake) -> None:
    await asyncio.wait_for(wake.wait(0.01), 20)


async def test_a_store_that_is_away_is_asked_once_and_news_still_wakes(wake: Wake, looks: Looks) -> None:
    looks.away = True

    await asyncio.wait_for(wake.wait(0.01), 20)
    assert looks.number == 1

    task = asyncio.create_task(wake.wait(FOR_EVER_S))
    await looks.another()
    wake.poke()
    await woken(task)
    assert looks.number == 2
