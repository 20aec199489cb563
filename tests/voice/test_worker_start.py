"""A worker starts, whatever lies in the journals of earlier calls or however the store answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.waiting import wait_until
from voicectl.memory.config import load
from voicectl.memory.errors import StoreUnavailable
from voicectl.voice import worker
from voicectl.voice.config import VoiceSettings
from voicectl.voice.rooms.admin import RoomAdmin

pytestmark = pytest.mark.unit


class GotAsFarAsTheServer(Exception):
    """The worker was about to register."""


@pytest.mark.parametrize("error", [StoreUnavailable("the store", "locked"), ValueError("an odd journal")])
async def test_journals_that_cannot_be_stored_now_do_not_keep_a_worker_from_its_callers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    tries: list[float] = []

    def replay(store: object, folder: Path, *, idle_s: float = 0.0) -> int:
        tries.append(idle_s)
        raise error

    @asynccontextmanager
    async def room_admin(_: object) -> AsyncIterator[RoomAdmin]:
        raise GotAsFarAsTheServer
        yield

    monkeypatch.setattr(worker, "replay_left_journals", replay)
    monkeypatch.setattr(worker, "room_admin", room_admin)
    monkeypatch.setattr(worker, "REPLAY_S", 0.01)
    settings = load(VoiceSettings, home=tmp_path, livekit_api_key="key", livekit_api_secret="s" * 32)
    made = worker.Worker(settings)

    with pytest.raises(GotAsFarAsTheServer):
        await made.run()

    store = worker.open_store(settings)
    again = asyncio.create_task(made._replay_left(store))
    await wait_until(lambda: "" if len(tries) >= 3 or again.done() else f"{len(tries)} tries")
    again.cancel()
    await asyncio.gather(again, return_exceptions=True)
    store.close()
    made._leases.close()
    assert tries[:3] == [0.0, 0.01, 0.01]
