"""An export holds everything there is of a customer, also what has no place of its own, and nothing of others."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.letta_stub import LettaStub
from voicectl.memory import calls, profile, traces
from voicectl.memory.backends.letta import LettaBackend
from voicectl.memory.config import MemorySettings
from voicectl.memory.errors import CustomerUnknown
from voicectl.memory.export import PLACED, export
from voicectl.memory.identity import hashed
from voicectl.memory.journal import Journal
from voicectl.memory.profile import Origin, Source
from voicectl.memory.recorder import Role, Turn
from voicectl.memory.store.engine import Store
from voicectl.memory.sync import figures
from voicectl.memory.sync.mirror import sync_turns
from voicectl.memory.sync.states import Outage
from voicectl.memory.sync.tools import Tools
from voicectl.memory.turns import write_turn

pytestmark = pytest.mark.unit
WHO = "user:1"


@pytest.fixture
def letta() -> Iterator[LettaStub]:
    with LettaStub() as stub:
        yield stub


def call_of(store: Store, who: str, said: str) -> calls.Call:
    call = calls.open_call(store, customer=who, room=f"room of {who}", desk="assistant", fence=1)
    with store.write() as connection:
        write_turn(connection, call, Turn("item_1", Role.USER, said, 1000))
    profile.put(store, who, f"said {said}", Origin(Source.TOOL, call.id, "item_1"))
    return call


def test_everything_of_one_customer_is_in_it_and_nothing_of_another(store: Store, settings: MemorySettings) -> None:
    call = call_of(store, WHO, "first words")
    call_of(store, "user:2", "other words")
    stale = calls.Call(call.id, WHO, 1, call.room, "assistant", 0)
    with store.write() as connection:
        write_turn(connection, stale, Turn("late", Role.USER, "refused words", 1))
    Journal(settings.home / "journal" / f"{call.id}.jsonl").append([Turn("j", Role.USER, "waiting words", 1)])
    figures.say(store, Outage.FAILING, "a reason", customer=WHO)

    document = export(store, WHO, home=settings.home)

    text = json.dumps(document)
    for words in ("first words", "refused words", "waiting words", "a reason"):
        assert words in text, words
    assert "other words" not in text
    assert document["customer"]["key"] == WHO
    assert document["profile"][0]["because"] == "first words"
    assert document["history"][0]["call_id"] == call.id
    assert document["calls"][0]["turns"][0]["at"] == "1970-01-01T00:00:01.000+00:00"
    assert document["letta"]["asked"] is False


def test_every_table_has_a_place_in_it(store: Store, settings: MemorySettings) -> None:
    call_of(store, WHO, "x")

    other = export(store, WHO, home=settings.home)["other"]

    assert set(other) == {t.name for t in traces.tables()} - {t.name for t in PLACED}


def test_what_somebody_said_to_the_agent_in_letta_is_in_it_and_our_calls_are_not_there_twice(
    store: Store, settings: MemorySettings, letta: LettaStub
) -> None:
    call_of(store, WHO, "first words")
    backend = LettaBackend(letta.url, "key", "http://127.0.0.1:1/v1", write_s=1.5)
    sync_turns(Tools(store, backend), WHO)
    (agent_id,) = backend.agents(hashed(WHO))
    letta.conversations["conv-ade"] = {"id": "conv-ade", "agent_id": agent_id, "summary": "by an operator"}

    found = export(store, WHO, home=settings.home, backend=backend)["letta"]

    assert found["asked"] is True
    assert [c["title"] for c in found["agents"][0]["conversations"]] == ["by an operator"]
    letta.down = True
    silent = export(store, WHO, home=settings.home, backend=backend)["letta"]
    assert silent["asked"] is False
    assert silent["why"]
    backend.close()


def test_an_unknown_customer_is_named(store: Store, settings: MemorySettings) -> None:
    with pytest.raises(CustomerUnknown, match="user:9"):
        export(store, "user:9", home=settings.home)
