"""The life of a call, each step by compare-and-set."""

from __future__ import annotations

import pytest

from voicectl.memory import calls
from voicectl.memory.errors import FencedOut
from voicectl.memory.store.engine import Store

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
