"""A call that nobody came back to is ended whole: what its dead job could not bring into the store is in it first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import select

from tests.support.waiting import wait_until
from voicectl.memory import Memory
from voicectl.memory.calls import CallState, now_ms, open_call, open_call_of_room
from voicectl.memory.config import load
from voicectl.memory.recorder import Journal, Role, Turn
from voicectl.memory.store.engine import Store, open_store
from voicectl.memory.store.leases import open_leases
from voicectl.memory.store.schema import calls, refused_turns, turns
from voicectl.voice.config import VoiceSettings
from voicectl.voice.rooms.admin import RoomAdmin
from voicectl.voice.rooms.reconciler import Reconciler

pytestmark = pytest.mark.unit


class EmptyRooms:
    """A server in whose rooms nobody is."""

    async def participants(self, room: str) -> list[object]:
        return []

    async def rooms(self) -> list[object]:
        return []


@pytest.fixture
def settings(tmp_path: Path) -> VoiceSettings:
    return load(VoiceSettings, home=tmp_path, reconnect_grace_s=0)


@pytest.fixture
def store(settings: VoiceSettings) -> Iterator[Store]:
    made = open_store(settings)
    yield made
    made.close()


async def test_the_journal_of_a_dead_job_is_in_the_store_before_its_call_ends(
    settings: VoiceSettings, store: Store
) -> None:
    call = open_call(store, customer="user:1", room="left", desk="assistant", fence=1)
    folder = settings.home / "journal"
    folder.mkdir()
    Journal(folder / f"{call.id}.jsonl").append([Turn("item_1", Role.USER, "My dog is called Rex.", now_ms())])
    leases = open_leases(settings)

    await Reconciler("test", settings, store, leases, cast(RoomAdmin, EmptyRooms())).heal("left")

    leases.close()
    with store.read() as connection:
        assert connection.execute(select(turns.c.text)).scalars().all() == ["My dog is called Rex."]
        assert connection.execute(select(calls.c.state)).scalar() == CallState.ENDED
        assert connection.execute(select(refused_turns)).all() == []


async def test_a_call_that_a_program_holds_by_itself_is_not_ended_for_its_empty_room(
    settings: VoiceSettings, store: Store
) -> None:
    leases = open_leases(settings)
    reconciler = Reconciler("test", settings, store, leases, cast(RoomAdmin, EmptyRooms()))
    open_call(store, customer="user:1", room="left", desk="assistant", fence=1)
    with Memory(settings.home / "memory.db") as memory, memory.call("user:ada") as call:
        await reconciler._stamp()
        await reconciler.look()
        await wait_until(lambda: "" if open_call_of_room(store, "left") is None else "it is open")
        call.said("user", "I am allergic to nuts.")

    leases.close()
    with store.read() as connection:
        ended = {r.room: r.reason for r in connection.execute(select(calls))}
        assert ended == {"left": "abandoned", call.call.room: "closed"}
        assert connection.execute(select(turns.c.text)).scalars().all() == ["I am allergic to nuts."]
