"""Calls that have ended, a model that answers as told, and Letta with an agent that edits as told."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.support.fact_model import FactModel
from tests.support.letta_agent_stub import LettaAgentStub
from voicectl.memory import profile
from voicectl.memory.backends.letta import LettaBackend
from voicectl.memory.calls import Call, ensure_customer, finish, now_ms, open_call
from voicectl.memory.learning.step import Asking
from voicectl.memory.learning.strategy import Strategy
from voicectl.memory.lines import Block
from voicectl.memory.recorder import Role, Turn, write_turn
from voicectl.memory.store.engine import Store
from voicectl.memory.sync.agents import ensure_agent
from voicectl.memory.sync.blocks import sync_blocks
from voicectl.memory.sync.tools import Tools

CUSTOMER = "user:42"
NUMBERS = itertools.count(1)
Called = Callable[..., Call]


def speak(store: Store, call: Call, *texts: str) -> None:
    """Customer and agent take turns; the customer begins."""
    with store.write() as connection:
        for number, text in enumerate(texts):
            role = (Role.USER, Role.ASSISTANT)[number % 2]
            assert write_turn(connection, call, Turn(f"item-{next(NUMBERS)}", role, text, now_ms()))


@pytest.fixture
def called(store: Store) -> Called:
    """A call that has ended: `called("I live in Leeds", "Noted.")`."""

    def call_of(*texts: str, customer: str = CUSTOMER) -> Call:
        room = f"room-{next(NUMBERS)}"
        call = open_call(store, customer=customer, room=room, desk="assistant", fence=1)
        speak(store, call, *texts)
        finish(store, call, "hung up")
        return call

    return call_of


@pytest.fixture
def model() -> Iterator[FactModel]:
    with FactModel() as running:
        yield running


@pytest.fixture
def extract(model: FactModel) -> Asking:
    return Asking(Strategy.EXTRACT, model.endpoint(), answer_s=60)


@pytest.fixture
def letta() -> Iterator[LettaAgentStub]:
    with LettaAgentStub() as stub:
        yield stub


@pytest.fixture
def backend(letta: LettaAgentStub, model: FactModel) -> Iterator[LettaBackend]:
    made = LettaBackend(letta.url, "key", "http://127.0.0.1:1/v1", model.endpoint(), write_s=5)
    made.health()
    yield made
    made.close()


@pytest.fixture
def agent(model: FactModel, backend: LettaBackend) -> Asking:
    return Asking(Strategy.AGENT, model.endpoint(), backend, answer_s=60)


def level(store: Store, backend: LettaBackend, customer: str = CUSTOMER) -> None:
    """The customer's agent is in Letta, with the blocks as the store renders them."""
    with store.write() as connection:
        ensure_customer(connection, customer)
    tools = Tools(store, backend)
    ensure_agent(tools, customer)
    sync_blocks(tools, customer)


def texts(store: Store, block: Block = Block.PROFILE, customer: str = CUSTOMER) -> list[str]:
    return [line.text for line in profile.lines(store, customer) if line.block == block]
