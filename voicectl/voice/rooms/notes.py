"""Notes for the log of rooms, written in order beside what is going on: an agent is not awaited longer for a full disk.

Not here: what is noted and kept (memory/room_log.py).
"""

from __future__ import annotations

import asyncio
import functools

from voicectl.memory.room_log import RoomEvent, note
from voicectl.memory.store.engine import Store
from voicectl.voice.tasks import Tasks


class Notes:
    """The notes of one agent or reconciler. Needs a running event loop.

    Args:
        store: Where they are kept.
        ours: Who notes.
    """

    def __init__(self, store: Store, ours: str) -> None:
        self._store, self._ours = store, ours
        self._in_turn = asyncio.Lock()  # first come, first served
        self._tasks = Tasks()

    def add(
        self,
        event: RoomEvent,
        room: str,
        *,
        ours: str = "",
        our_fence: int = 0,
        theirs: str = "",
        their_fence: int = 0,
        why: str = "",
    ) -> None:
        """As `room_log.note`, without waiting for the store; `ours` only where it is another's than who notes."""
        write = functools.partial(note, self._store, event, room, ours=ours or self._ours)
        self._tasks.spawn(
            self._write(functools.partial(write, our_fence=our_fence, theirs=theirs, their_fence=their_fence, why=why))
        )

    async def _write(self, write: functools.partial[None]) -> None:
        async with self._in_turn:
            await asyncio.to_thread(write)

    async def written(self) -> None:
        """Return when all notes so far are in the store, or given up."""
        await self._tasks.done()
