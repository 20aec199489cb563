"""The breaker: nobody asks a backend that is away, one finds out, and one bad request is not an outage."""

from __future__ import annotations

import pytest

from voicectl.memory.sync.backoff import Backoff
from voicectl.memory.sync.breaker import Breaker, BreakerState

pytestmark = pytest.mark.unit


class Now:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def breaker(now: Now) -> Breaker:
    made = Breaker(Backoff(1, 8, clock=now, chance=lambda: 1.0), limit=3)
    made.probed(answered=True)
    made.succeeded()
    return made


def test_a_new_one_lets_nobody_ask_before_a_probe_was_answered() -> None:
    breaker = Breaker(Backoff())

    assert (breaker.probe_due, breaker.room(8, 0)) == (True, 0)
    breaker.probed(answered=True)
    assert (breaker.state, breaker.room(8, 0), breaker.room(8, 1)) == (BreakerState.HALF_OPEN, 1, 0)
    breaker.succeeded()
    assert (breaker.state, breaker.room(8, 3)) == (BreakerState.CLOSED, 5)


def test_soft_failures_open_it_only_in_a_row(breaker: Breaker) -> None:
    assert [breaker.failed(hard=False), breaker.failed(hard=False)] == [False, False]
    breaker.succeeded()
    assert [breaker.failed(hard=False) for _ in range(3)] == [False, False, True]
    assert breaker.room(8, 0) == 0


def test_a_silent_backend_opens_it_at_once_and_says_so_once(breaker: Breaker) -> None:
    assert [breaker.failed(hard=True), breaker.failed(hard=True)] == [True, False]


def test_probes_come_less_and_less_often_and_a_failure_on_trial_opens_it_again(breaker: Breaker, now: Now) -> None:
    breaker.failed(hard=True)
    waits = []
    for _ in range(5):
        began = now.seconds
        while not breaker.probe_due:
            now.seconds += 0.5
        waits.append(now.seconds - began)
        breaker.probed(answered=False)
    while not breaker.probe_due:
        now.seconds += 0.5
    breaker.probed(answered=True)

    assert waits == [1, 2, 4, 8, 8]
    assert [breaker.failed(hard=False) for _ in range(3)] == [False, False, True]
    assert not breaker.probe_due
