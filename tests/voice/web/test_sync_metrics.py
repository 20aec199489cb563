"""The figures of the mirroring in /metrics, from the store's rows."""

from __future__ import annotations

import pytest

from voicectl.memory.calls import now_ms, open_call
from voicectl.memory.config import MemorySettings
from voicectl.memory.recorder import Role, Turn, write_turn
from voicectl.memory.store.engine import Store
from voicectl.memory.store.leases import open_leases
from voicectl.memory.sync.figures import say
from voicectl.memory.sync.states import Outage
from voicectl.voice.web.metrics import figures

pytestmark = pytest.mark.unit


def test_lag_backlog_dead_letters_and_outage_are_figures(store: Store, settings: MemorySettings) -> None:
    leases = open_leases(settings)
    call = open_call(store, customer="user:1", room="r", desk="d", fence=1)
    with store.write() as connection:
        write_turn(connection, call, Turn("item-1", Role.USER, "hello", now_ms() - 90_000))
    say(store, Outage.DOWN, "connection refused")

    text = figures(leases, store, mirrored=True)

    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("voice_sync"))
    assert 90 <= float(values.pop("voice_sync_lag_seconds")) < 120
    assert {k: float(v) for k, v in values.items()} == {
        "voice_sync_backlog": 1,
        "voice_sync_dead_letters": 0,
        "voice_sync_failing": 0,
        "voice_sync_up": 0,
    }
    assert "voice_sync" not in figures(leases, store, mirrored=False)
    leases.close()
