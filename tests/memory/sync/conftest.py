"""A customer in a call, a stub of Letta, and a clock that tests turn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.letta_stub import LettaStub
from voicectl.memory.backends.letta import LettaBackend
from voicectl.memory.calls import Call, now_ms, open_call
from voicectl.memory.recorder import Role, Turn, write_turn
from voicectl.memory.store.engine import Store
from voicectl.memory.sync.tools import Tools

CUSTOMER = "user:42"
# For tests of what one store's SQL may do otherwise than the other's: claims side by side, cursors taken back.
ON_BOTH = pytest.mark.parametrize("store_url", ["sqlite", "postgresql"], indirect=True)


class Clock:
    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> int:
        return now_ms() + round(self.ahead_s * 1000)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def letta() -> Iterator[LettaStub]:
    with LettaStub() as stub:
        yield stub


@pytest.fixture
def backend(letta: LettaStub) -> Iterator[LettaBackend]:
    made = LettaBackend(letta.url, "key", "http://127.0.0.1:1/v1", write_s=1.5)
    yield made
    made.close()


@pytest.fixture
def tools(store: Store, backend: LettaBackend, clock: Clock) -> Tools:
    return Tools(store, backend, clock_ms=clock)


@pytest.fixture
def call(store: Store) -> Call:
    return open_call(store, customer=CUSTOMER, room="room-1", desk="assistant", fence=1)


def say(store: Store, call: Call, *texts: str) -> None:
    """User and assistant take turns."""
    with store.write() as connection:
        for number, text in enumerate(texts):
            role = Role.USER if number % 2 == 0 else Role.ASSISTANT
            assert write_turn(connection, call, Turn(f"item-{text}", role, text, 1))
