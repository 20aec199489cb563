"""The process that learns from a call is killed at each named point; a second one learns it, and the effect is one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import select

from tests.memory.conftest import STORES
from tests.memory.learning.conftest import CUSTOMER, Called, level, texts
from tests.support.crash import die, killed
from tests.support.fact_model import FactModel, facts
from tests.support.letta_agent_stub import LettaAgentStub
from voicectl.memory import history
from voicectl.memory.backends import LlmEndpoint
from voicectl.memory.backends.letta import LettaBackend
from voicectl.memory.config import MemorySettings
from voicectl.memory.learning.states import Point
from voicectl.memory.learning.step import Asking, clear, learn
from voicectl.memory.learning.strategy import Strategy
from voicectl.memory.lines import Block
from voicectl.memory.store.engine import Store, open_store
from voicectl.memory.store.schema import calls

pytestmark = pytest.mark.process
OF_AGENT = {Point.COPY_MADE, Point.COPY_NOTED}
SQLITE, POSTGRESQL = STORES
CASES = [
    *((SQLITE, Strategy.EXTRACT, p) for p in Point if p not in OF_AGENT),
    *((SQLITE, Strategy.AGENT, p) for p in Point),
    *((POSTGRESQL, Strategy.EXTRACT, p) for p in (Point.APPLYING, Point.APPLIED)),
]


def child(settings: MemorySettings, call_id: str, strategy: Strategy, point: Point, llm: str, letta: str) -> None:
    def at(reached: Point) -> None:
        if reached == point:
            die()

    endpoint = LlmEndpoint(llm, "none", "scripted")
    backend = LettaBackend(letta, "key", "http://127.0.0.1:1/v1", endpoint)
    asking = Asking(strategy, endpoint, backend if strategy == Strategy.AGENT else None, signal=at)
    learn(open_store(settings), call_id, asking)


@pytest.mark.parametrize(
    ("store_url", "strategy", "point"), CASES, indirect=["store_url"], ids=[f"{s}-{y}-{p}" for s, y, p in CASES]
)
def test_killed_at_any_point_the_effect_is_there_once(
    store: Store,
    settings: MemorySettings,
    called: Called,
    model: FactModel,
    letta: LettaAgentStub,
    backend: LettaBackend,
    strategy: Strategy,
    point: Point,
) -> None:
    level(store, backend)
    call = called("I live in Leeds", "Noted.", "and I like tea")
    model.answer = facts("city: Leeds", "likes tea", last_call="Lives in Leeds and likes tea")
    letta.edit = lambda _blocks, _asked: {"profile": "city: Leeds\nlikes tea", "last_call": "Lives in Leeds, likes tea"}
    before = len(letta.blocks)

    killed(child, settings, call.id, strategy, point, model.url, letta.url)
    asking = replace(Asking(strategy, model.endpoint(), backend), answer_s=60)
    taken = learn(store, call.id, asking)
    clear(store, backend)

    assert (taken is None) == (point == Point.APPLIED)
    assert texts(store) == ["city: Leeds", "likes tea"]
    assert len(texts(store, Block.LAST_CALL)) == 1
    assert len(history.history(store, CUSTOMER)) == 3
    with store.read() as connection:
        assert connection.execute(select(calls.c.learnt)).scalars().all() == [1]
    assert (letta.copies(), len(letta.blocks)) == ([], before)
