"""What /metrics says of rooms and memory; what cannot be had is left out, and the answer is never an error."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import insert, update

from tests.support.waiting import wait_for
from voicectl.memory.calls import now_ms, open_call
from voicectl.memory.config import MemorySettings, load
from voicectl.memory.errors import StoreUnavailable
from voicectl.memory.learning.states import StepState
from voicectl.memory.room_log import KEEP_S, RoomEvent, note, prune, recent
from voicectl.memory.store.engine import Store
from voicectl.memory.store.lease_rows import leases as lease_table
from voicectl.memory.store.leases import Leases, LeaseState, open_leases
from voicectl.memory.store.schema import calls, memory_steps, room_log
from voicectl.voice.config import VoiceSettings
from voicectl.voice.web.app import create_app
from voicectl.voice.web.metrics import figures

pytestmark = pytest.mark.unit


@pytest.fixture
def leases(settings: MemorySettings) -> Iterator[Leases]:
    made = open_leases(settings)
    yield made
    made.close()


def said(text: str, prefix: str) -> dict[str, float]:
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if line.startswith(prefix))
    return {name: float(value) for name, value in lines}


def test_what_happened_to_rooms_is_counted_and_never_goes_down(store: Store, leases: Leases) -> None:
    note(store, RoomEvent.EVICTED, "r1")
    note(store, RoomEvent.FENCED_OUT, "r1")
    note(store, RoomEvent.FENCED_OUT, "r2")
    assert prune(store, keep_rows=0) == 3

    text = figures(leases, store, mirrored=False)

    events = said(text, "voice_room_events_total")
    assert events.pop('voice_room_events_total{event="evicted"}') == 1
    assert events.pop('voice_room_events_total{event="fenced_out"}') == 2
    assert set(events.values()) == {0}
    assert len(events) == len(RoomEvent) - 2
    assert "# TYPE voice_room_events_total counter" in text


def test_customers_whose_call_has_no_live_agent_are_waiting(store: Store, leases: Leases) -> None:
    for room in ("served", "expired", "released", "never", "ended"):
        open_call(store, customer="user:1", room=room, desk="assistant", fence=1)
    leases.claim("room:served", "a1", 60, LeaseState.HELD)
    leases.claim("room:expired", "a2", 0, LeaseState.HELD)
    leases.release(leases.claim("room:released", "a3", 60, LeaseState.HELD))
    with store.write() as connection:
        connection.execute(update(calls).where(calls.c.room == "ended").values(state="ended"))

    assert said(figures(leases, store, mirrored=False), "voice_rooms_waiting") == {"voice_rooms_waiting": 3}


def test_memory_steps_and_what_they_brought_are_figures(store: Store, leases: Leases) -> None:
    for number, state in enumerate((StepState.DONE, StepState.DONE, StepState.DEAD, StepState.WAITING)):
        call = open_call(store, customer="user:1", room=f"r{number}", desk="assistant", fence=1)
        row = {"attempt": 1, "strategy": "extract", "base_op": 0, "due_ms": 0, "deadline_ms": 0, "at_ms": now_ms()}
        with store.write() as connection:
            learnt = state == StepState.DONE
            connection.execute(update(calls).where(calls.c.id == call.id).values(state="ended", learnt=int(learnt)))
            row |= {"learnt": 3 * learnt, "refused": 1 * learnt}
            connection.execute(insert(memory_steps).values(call_id=call.id, state=state, **row))

    text = figures(leases, store, mirrored=False)

    steps = said(text, "voice_memory_steps")
    assert steps['voice_memory_steps{state="done"}'] == 2
    assert steps['voice_memory_steps{state="dead"}'] == 1
    assert said(text, "voice_memory_changes") == {
        'voice_memory_changes{verdict="learnt"}': 6,
        'voice_memory_changes{verdict="refused"}': 2,
    }


def test_a_store_that_is_away_is_itself_a_figure(
    store: Store, leases: Leases, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert "voice_store_up 1.0" in figures(leases, store, mirrored=True)

    def away(_: Store) -> None:
        raise StoreUnavailable("memory.db", "gone")

    monkeypatch.setattr(Store, "read", away)

    assert said(figures(leases, store, mirrored=True, webhooks={"woke": 2}), "voice_") == {
        "voice_store_up": 0,
        'voice_webhooks_total{outcome="woke"}': 2,
    }
    assert {r.message for r in caplog.records} == {"figures are missing"}


def test_with_the_leases_alone_away_the_others_are_still_there(
    store: Store, leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Store.read

    def of_leases(asked: Store) -> object:
        if asked is leases.store:
            raise StoreUnavailable("leases.db", "gone")
        return read(asked)

    monkeypatch.setattr(Store, "read", of_leases)

    text = figures(leases, store, mirrored=True)

    assert "voice_store_up 0.0" in text
    assert "voice_sync_backlog 0.0" in text
    assert "voice_calls" not in text


def test_a_workers_lease_that_somebody_wrote_by_hand_is_passed_over(store: Store, leases: Leases) -> None:
    for number, owner in enumerate(('{"capacity": 3}', "{", "[]", "{}", '{"capacity": "x"}')):
        leases.claim(f"worker:w{number}", "x", 60, LeaseState.HELD)
        with leases.store.write() as connection:
            mine = lease_table.c.name == f"worker:w{number}"
            connection.execute(update(lease_table).where(mine).values(owner=owner))

    text = figures(leases, store, mirrored=False)

    assert said(text, "voice_workers") | said(text, "voice_capacity") == {"voice_workers": 1, "voice_capacity": 3}


def test_the_control_plane_keeps_the_log_of_rooms_at_its_length(store: Store, settings: MemorySettings) -> None:
    for room in ("old", "new"):
        note(store, RoomEvent.BUSY, room)
    with store.write() as connection:
        old = room_log.c.room == "old"
        connection.execute(update(room_log).where(old).values(at_ms=now_ms() - 2 * KEEP_S * 1000))
    given = {"livekit_api_key": "key", "livekit_api_secret": "s" * 40, "livekit_url": "ws://127.0.0.1:1"}

    with TestClient(create_app(load(VoiceSettings, home=settings.home, **given))):
        wait_for(lambda: "" if [n.room for n in recent(store)] == ["new"] else "the old row is there")
