"""The life of a call, each step by compare-and-set."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import select

from voicectl.memory import calls
from voicectl.memory.errors import FencedOut
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import calls as calls_table

pytestmark = pytest.mark.unit


def begin(store: Store, fence: int = 1, customer: str = "user:1") -> calls.Call:
    return calls.open_call(store, customer=customer, room="r1", desk="assistant", fence=fence)


def test_a_successor_goes_on_with_the_call_of_its_room(store: Store) -> None:
    first = begin(store)

    second = begin(store, fence=2)

    assert (second.id, second.continued) == (first.id, True)


def test_a_job_with_an_old_fence_cannot_take_the_call_back(store: Store) -> None:
    old = begin(store)
    begin(store, fence=2)

    with pytest.raises(FencedOut):
        begin(store, fence=1)
    with pytest.raises(FencedOut):
        calls.begin_ending(store, old, "test")
    with pytest.raises(FencedOut):
        calls.finish(store, old, "test")


def test_another_customer_in_the_same_room_is_another_call(store: Store) -> None:
    first = begin(store)

    assert begin(store, fence=2, customer="user:2").id != first.id


def test_an_ended_call_is_not_continued(store: Store) -> None:
    first = begin(store)
    assert calls.begin_ending(store, first, "bye")
    calls.finish(store, first, "bye")

    second = begin(store, fence=2)

    assert second.id != first.id
    assert not second.continued


def test_only_the_first_to_end_a_call_is_told_so(store: Store) -> None:
    call = begin(store)

    assert calls.begin_ending(store, call, "bye")
    assert not calls.begin_ending(store, call, "again")
    calls.finish(store, call, "again")
    calls.finish(store, call, "again")
    assert calls.open_call_of_room(store, "r1") is None


def test_an_abandoned_call_ends_unless_a_newer_fence_has_it(store: Store) -> None:
    begin(store, fence=5)

    assert not calls.abandon(store, "r1", fence=4)
    assert calls.abandon(store, "r1", fence=5)
    assert calls.open_call_of_room(store, "r1") is None
    assert not calls.abandon(store, "r1", fence=5)


def test_a_room_without_any_lease_is_nobodys_and_its_call_ends_whatever_its_fence(store: Store) -> None:
    begin(store, fence=5)

    assert calls.abandon(store, "r1", fence=0)
    assert calls.rooms_of_open_calls(store) == []


def together(work: Callable[[int], object], number: int) -> list[BaseException]:
    """Do it in threads that start at the same moment; returns what failed."""
    barrier = threading.Barrier(number)
    failed: list[BaseException] = []

    def run(n: int) -> None:
        barrier.wait()
        try:
            work(n)
        except BaseException as e:  # noqa: BLE001
            failed.append(e)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failed


def test_of_jobs_that_open_one_room_at_once_the_highest_fence_has_the_call(store: Store) -> None:
    for room in range(5):
        failed = together(
            lambda n, r=room: calls.open_call(store, customer="user:1", room=f"r{r}", desk="d", fence=n + 1), 4
        )

        assert all(isinstance(e, FencedOut) for e in failed), failed
        with store.read() as connection:
            rows = (
                connection.execute(select(calls_table.c.fence).where(calls_table.c.room == f"r{room}")).scalars().all()
            )
        assert rows == [4]


def test_a_call_that_ends_while_a_successor_opens_it_is_not_continued_half_ended(store: Store) -> None:
    for number in range(5):
        room = f"r{number}"
        old = calls.open_call(store, customer="user:1", room=room, desk="d", fence=1)
        new: list[calls.Call] = []

        def work(n: int, old: calls.Call = old, room: str = room, new: list[calls.Call] = new) -> None:
            if n:
                calls.begin_ending(store, old, "bye")
            else:
                new.append(calls.open_call(store, customer="user:1", room=room, desk="d", fence=2))

        failed = together(work, 2)

        assert all(isinstance(e, FencedOut) for e in failed), failed
        with store.read() as connection:
            state = connection.execute(select(calls_table.c.state).where(calls_table.c.id == new[0].id)).scalar()
        assert state == calls.CallState.OPEN
