"""The end of a call while the store stands still: the room is gone all the same, and the call is ended afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from livekit import api

from voicectl.memory import calls
from voicectl.memory.config import load
from voicectl.memory.journal import Journal
from voicectl.memory.recorder import Recorder, Role, Turn
from voicectl.memory.store.engine import Store, open_store, store_url
from voicectl.memory.store.leases import LeaseState, open_leases
from voicectl.voice import ending
from voicectl.voice.config import VoiceSettings
from voicectl.voice.ending import Ending
from voicectl.voice.errors import ServerSilent
from voicectl.voice.events import EndReason
from voicectl.voice.rooms.registry import Keeper

pytestmark = pytest.mark.unit


@pytest.fixture
def there() -> list[api.ParticipantInfo]:
    """Who is in the room when the call is wound up."""
    return []


@pytest.fixture
def deleted(monkeypatch: pytest.MonkeyPatch, there: list[api.ParticipantInfo]) -> list[str]:
    """Rooms that the server was asked to delete."""
    names: list[str] = []

    class Admin:
        async def delete_room(self, room: str) -> None:
            names.append(room)

        async def participants(self, room: str) -> list[api.ParticipantInfo]:
            return there

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
    keeper = Keeper((leases, grant), lambda: None)
    made = Ending(settings, store, call, "r", recorder, keeper)

    with store.write():
        recorder.add(Turn("item-1", Role.ASSISTANT, "Goodbye.", 1))
        assert await made.begin(EndReason.AGENT_ENDED)
        await made.close_line()
        await made.wind_up(EndReason.AGENT_ENDED)

    assert deleted == ["r"]
    assert [t.text for t in _waiting(tmp_path)] == ["Goodbye."]
    store.close()


async def test_a_room_that_could_not_be_deleted_takes_no_agent_and_is_left_to_a_reconciler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Admin:
        async def delete_room(self, room: str) -> None:
            raise ServerSilent("ws://nowhere", "delete a room", "silent")

    @asynccontextmanager
    async def room_admin(_: VoiceSettings) -> AsyncIterator[Admin]:
        yield Admin()

    monkeypatch.setattr(ending, "room_admin", room_admin)
    settings = load(VoiceSettings, home=tmp_path)
    store, leases = open_store(settings), open_leases(settings)
    grant = leases.claim("room:r", "agent", 3.0, LeaseState.HELD)
    call = calls.open_call(store, customer="user:1", room="r", desk="assistant", fence=grant.fence)
    made = Ending(
        settings, store, call, "r", Recorder(store, call, journal_dir=tmp_path), Keeper((leases, grant), lambda: None)
    )

    assert await made.begin(EndReason.AGENT_ENDED)
    await made.close_line()
    await made.wind_up(EndReason.AGENT_ENDED)

    row = leases.read("room:r")
    assert row is not None
    assert (row.state, row.live) == (LeaseState.CLOSING, True)
    leases.close()
    store.close()


@pytest.mark.parametrize(
    ("reason", "back", "goes"),
    [
        (EndReason.CUSTOMER_LEFT, True, False),
        (EndReason.CONNECTION_LOST, True, False),
        (EndReason.CUSTOMER_LEFT, False, True),
        (EndReason.AGENT_ENDED, True, True),
    ],
)
async def test_who_comes_back_while_the_call_is_wound_up_finds_the_room_still_there(
    tmp_path: Path, deleted: list[str], there: list[api.ParticipantInfo], reason: EndReason, back: bool, goes: bool
) -> None:
    settings = load(VoiceSettings, home=tmp_path)
    store, leases = open_store(settings), open_leases(settings)
    grant = leases.claim("room:r", "agent", 3.0, LeaseState.HELD)
    call = calls.open_call(store, customer="user:1", room="r", desk="assistant", fence=grant.fence)
    recorder = Recorder(store, call, journal_dir=tmp_path / "journal")
    made = Ending(settings, store, call, "r", recorder, Keeper((leases, grant), lambda: None))
    if back:
        there.append(api.ParticipantInfo(identity="customer", kind=api.ParticipantInfo.Kind.STANDARD))

    await made.begin(reason)
    await made.close_line()
    await made.wind_up(reason)

    assert deleted == (["r"] if goes else [])
    after = open_leases(settings)
    lease = after.read("room:r")
    assert lease is not None
    assert lease.state == LeaseState.FREE, "whoever is there is served by a new agent"
    after.close()
    store.close()


@pytest.mark.parametrize("others", [0, 1])
async def test_with_the_leases_away_who_is_alone_in_the_room_still_ends_it(
    tmp_path: Path, deleted: list[str], there: list[api.ParticipantInfo], others: int
) -> None:
    settings = load(VoiceSettings, home=tmp_path)
    store, leases = open_store(settings), open_leases(settings)
    grant = leases.claim("room:r", "agent", 60.0, LeaseState.HELD)
    call = calls.open_call(store, customer="user:1", room="r", desk="assistant", fence=grant.fence)
    recorder = Recorder(store, call, journal_dir=tmp_path / "journal")
    keeper = Keeper((leases, grant), lambda: None)
    made = Ending(settings, store, call, "r", recorder, keeper)
    kind = api.ParticipantInfo.Kind.AGENT
    there += [api.ParticipantInfo(identity=f"agent-{n}", kind=kind) for n in range(1 + others)]

    with leases.store.write():
        await made.begin(EndReason.AGENT_ENDED)
        await made.close_line()
        await made.wind_up(EndReason.AGENT_ENDED)

    assert deleted == ([] if others else ["r"])
    store.close()


def _waiting(home: Path) -> list[Turn]:
    return [turn for path in (home / "journal").glob("*.jsonl") for turn in Journal(path).read()]
