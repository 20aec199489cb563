"""A reconciler in a world that a test moves on: a server that is a list, a real store, and its own clock."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from tests.support.fake_server import Clock, FakeServer
from voicectl.memory.config import load
from voicectl.memory.room_log import RoomEvent, recent
from voicectl.memory.store.engine import Store, open_store
from voicectl.memory.store.leases import Grant, Lease, Leases, LeaseState, open_leases
from voicectl.voice.config import VoiceSettings
from voicectl.voice.rooms.admin import RoomAdmin
from voicectl.voice.rooms.reconciler import Reconciler
from voicectl.voice.rooms.registry import GOODBYE, TTL_S

ROOM = "call-1"
WORKER = '{"capacity": 2, "build": "b", "pid": 1, "agent_name": "voicectl"}'


def as_grant(lease: Lease) -> Grant:
    return Grant(lease.name, lease.owner, lease.fence, lease.nonce, lease.state)


class Scene:
    """One reconciler with a server, a real store, and a worker that answers dispatches."""

    def __init__(self, home: Path) -> None:
        self.settings = load(VoiceSettings, home=home, reconnect_grace_s=20)
        self.server, self.clock = FakeServer(), Clock()
        self.store: Store = open_store(self.settings)
        # On the same clock: what a test lets pass passes for leases too.
        self.leases = Leases(open_leases(self.settings).store, clock=self.clock)
        self.server.on_dispatch = self.serve
        self.reconciler = self.another("web")

    def another(self, name: str) -> Reconciler:
        made = Reconciler(name, self.settings, self.store, self.leases, cast(RoomAdmin, self.server), clock=self.clock)
        made._healer.asking._gaps_s = (0.02, 0.02)
        return made

    def serve(self, room: str, metadata: dict[str, str]) -> None:
        prefix = GOODBYE if metadata.get("busy") else "agent-"
        self.leases.claim(f"room:{room}", f"{prefix}new-{len(self.server.dispatched)}", 15.0, note="voicectl")

    def holds(self, room: str, identity: str, ttl_s: float = TTL_S) -> None:
        self.leases.claim(f"room:{room}", identity, ttl_s, LeaseState.HELD, note="voicectl")

    def worker(self, capacity: int = 2) -> None:
        self.leases.claim("worker:w", WORKER.replace("2", str(capacity), 1), 3600.0, LeaseState.HELD)

    def row(self, room: str = ROOM) -> Lease:
        found = self.leases.read(f"room:{room}")
        assert found is not None
        return found

    async def passes(self, seconds: float, *, renewing: str | None = None) -> None:
        """Let time pass as the reconciler sees it; the holder renews unless it is gone."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            await self.look()
            self.clock.now = min(self.clock.now + 0.25, end)
            if renewing and (row := self.row()).owner == renewing and row.live:
                self.leases.renew(as_grant(row), TTL_S)
        await self.look()

    async def look(self) -> None:
        """Write when it is due, look, and let what is due come to its end."""
        await self.reconciler._stamp()
        await self.reconciler._look_or_say_why()
        await self.settle()

    async def settle(self) -> None:
        await self.reconciler._tasks.done()

    async def proven(self) -> None:
        """The reconciler has written for as long as a lease lives."""
        await self.passes(TTL_S + 1)

    async def events(self) -> list[RoomEvent]:
        await self.reconciler.notes.written()
        return [n.event for n in reversed(recent(self.store, 500))]
