"""The end of a call while the store stands still: the room is gone all the same, and the call is ended afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from voicectl.memory import calls
from voicectl.memory.config import load
from voicectl.memory.journal import Journal
from voicectl.memory.recorder import Recorder, Role, Turn
from voicectl.memory.store.engine import Store, open_store, store_url
from voicectl.memory.store.leases import LeaseState, open_leases
from voicectl.voice import ending
from voicectl.voice.config import VoiceSettings
from voicectl.voice.ending import Ending
from voicectl.voice.events import EndReason
from voicectl.voice.rooms.registry import Keeper

pytestmark = pytest.mark.unit


@pytest.fixture
def deleted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Rooms that the server was asked to delete."""
    names: list[str] = []

    class Admin:
        async def delete_room(self, room: str) -> None:
            names.append(room)

    @asynccontextmanager
    async def room_admin(_: VoiceSettings) -> AsyncIterator[Admin]:
        yield Admin()

    monkeypatch.setattr(ending, "room_admin", room_admin)
    return names


async def test_who_was_said_goodbye_to_while_the_store_is_locked_is_not_left_in_an_open_room(
    tmp_path: Path, deleted: list[str]
) -> None:
    settings = load(VoiceSettings, home=tmp_path)
    open_store(settings).close()
    store = Store(store_url(settings), busy_ms=50)
    leases = open_leases(settings)
    grant = leases.claim("room:r", "agent", 3.0, LeaseState.HELD)
    call = calls.open_call(store, customer="user:1", room="r", desk="assistant", fence=grant.fence)
    recorder = Recorder(store, call, journal_dir=tmp_path / "journal")
    keeper = Keeper(leases, grant, lambda: None)
    made = Ending(settings, store, call, "r", recorder, keeper)

    with store.write():
        recorder.add(Turn("item-1", Role.ASSISTANT, "Goodbye.", 1))
        assert await made.begin(EndReason.AGENT_ENDED)
        await made.close_line()
        await made.wind_up(EndReason.AGENT_ENDED)

    assert deleted == ["r"]
    assert [t.text for t in _waiting(tmp_path)] == ["Goodbye."]
    store.close()


def _waiting(home: Path) -> list[Turn]:
    return [turn for path in (home / "journal").glob("*.jsonl") for turn in Journal(path).read()]
