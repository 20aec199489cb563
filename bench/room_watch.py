"""One room as the server and the lease table tell it, looked at every 30 ms: who was in it, whose it was, and when.

The server's list counts, never what a client was told: clients learn of a silent participant up to 3 s late
(livekit-server.md, surprise 10). Not here: what was heard (room_line.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, replace
from typing import Self

from livekit import api

from voicectl.memory.errors import StoreUnavailable
from voicectl.memory.store.leases import Leases, LeaseState
from voicectl.voice.errors import ServerSilent
from voicectl.voice.rooms.admin import RoomAdmin
from voicectl.voice.rooms.guard import ON_BEHALF
from voicectl.voice.rooms.registry import lease_name

LOOK_S = 0.03
EXPIRED = "expired"
AGENT = api.ParticipantInfo.Kind.AGENT


@dataclass(frozen=True)
class Seen:
    """The room at one moment.

    Args:
        at: `time.monotonic` of the look.
        agents: Identities of kind agent that speak for themselves.
        others: Everybody else, avatars too.
        owner: Of the lease; "" for none.
        state: Of the lease; EXPIRED where it has run out.
        fence: Of the lease.
        answered: The server and the store both did.
    """

    at: float
    agents: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    owner: str = ""
    state: str = ""
    fence: int = 0
    answered: bool = True

    @property
    def one(self) -> bool:
        """Exactly one agent, and it is the lease holder."""
        return self.answered and self.state == LeaseState.HELD and self.agents == (self.owner,)

    @property
    def words(self) -> str:
        """For people."""
        held = f"{self.state or 'no lease'} {self.owner} fence {self.fence}"
        return f"agents {list(self.agents)}, others {list(self.others)}, {held}"


class Watch:
    """Looks at a room until closed. Use as an async context manager.

    Args:
        room: The room's name.
        admin: The server's API.
        leases: The lease table.

    Attributes:
        changes: What was seen, each time something was other than before; `at` is the first look that saw it.
        looked_at: When the last look was done.
    """

    def __init__(self, room: str, admin: RoomAdmin, leases: Leases) -> None:
        self.room = room
        self.admin, self._leases = admin, leases
        self.changes: list[Seen] = [Seen(time.monotonic())]
        self.looked_at = 0.0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def now(self) -> Seen:
        """The last look."""
        return self.changes[-1]

    async def _run(self) -> None:
        while True:
            seen = await self._look()
            if replace(seen, at=self.now.at) != self.now:
                self.changes.append(seen)
            self.looked_at = seen.at
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> Seen:
        agents, others = [], []
        try:
            people = await self.admin.participants(self.room)
            lease = await asyncio.to_thread(self._leases.read, lease_name(self.room))
        except (ServerSilent, StoreUnavailable):
            return Seen(time.monotonic(), answered=False)
        for person in people:
            is_agent = person.kind == AGENT and not person.attributes.get(ON_BEHALF)
            (agents if is_agent else others).append(person.identity)
        seen = Seen(time.monotonic(), tuple(sorted(agents)), tuple(sorted(others)))
        if lease is None:
            return seen
        return replace(seen, owner=lease.owner, state=str(lease.state) if lease.live else EXPIRED, fence=lease.fence)

    def first(self, after: float, what: str, **values: object) -> float | None:
        """When a field was first seen with a value (`is_` that value, or `not_` it) after a time."""
        for seen in self.changes:
            found = getattr(seen, what)
            wanted = ("is_" in values and found == values["is_"]) or ("not_" in values and found != values["not_"])
            if seen.at > after and wanted:
                return seen.at
        return None

    def gone(self, identity: str, after: float) -> float | None:
        """When the server had somebody no more."""
        return next((s.at for s in self.changes if s.at > after and s.answered and identity not in s.agents), None)

    def settled(self) -> float | None:
        """Since when there is exactly one agent, the lease holder; None: there is not."""
        since = None
        for seen in reversed(self.changes):
            if not seen.one:
                break
            since = seen.at
        return since

    async def settle(self, after: float, timeout_s: float) -> float | None:
        """Wait until there is, by a look later than `after`; None: it never came."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.looked_at <= after or self.settled() is None:
                    await asyncio.sleep(LOOK_S)
        return self.settled()

    def owners(self, after: float = 0.0) -> list[str]:
        """Who held the room, in order."""
        held = [s.owner for s in self.changes if s.at > after and s.state == LeaseState.HELD]
        return list(dict.fromkeys(held))
