"""What one observer saw in rooms over time: a holder who is not there, agents whom the holder does not evict.

Only looks that were answered count, and only those in a row: after a silence of the server everything begins anew, and
so does a room that the server has made again. Not here: what is done about it (reconciler.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from livekit import api

from voicectl.memory.store.leases import Lease, LeaseState
from voicectl.voice.rooms.admin import ON_BEHALF, is_agent, is_human

ABSENT_S = 5.0  # protocols 2: a holder who is not among the participants for so long does not speak
# After a restart of the server everybody comes back by himself, our agents' client at most 5 s after it is up.
RETURN_S = 8.0
# The holder's own guard needs 2 s (guard.py). Who is still there then has a holder that is frozen; 3 s are allowed.
LINGER_S = 2.3


@dataclass(frozen=True)
class Finding:
    """What is due in one room after one look.

    Args:
        absent: The holder was not seen for so long that it does not speak.
        rivals: Agents that have outstayed.
        due_s: In how many seconds there may be more to find without anything happening; infinite: never.
    """

    absent: bool = False
    rivals: tuple[api.ParticipantInfo, ...] = ()
    due_s: float = float("inf")


@dataclass
class _Seen:
    sid: str
    since: float
    absent: tuple[int, float] | None = None  # the holder's fence, since when
    rivals: dict[str, float] = field(default_factory=dict)


class Sightings:
    """What was seen so far.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rooms: dict[str, _Seen] = {}

    def forget(self, room: str | None = None) -> None:
        """The server, of one room or of all, or the store was silent: nothing is known of the time between."""
        if room is None:
            self._rooms.clear()
        else:
            self._rooms.pop(room, None)

    def keep(self, rooms: set[str]) -> None:
        """Only these rooms are there."""
        self._rooms = {name: seen for name, seen in self._rooms.items() if name in rooms}

    def saw(self, room: api.Room, lease: Lease, people: Sequence[api.ParticipantInfo]) -> Finding:
        """A room with its lease and who is there, as just read."""
        if not lease.live or lease.state != LeaseState.HELD:
            self._rooms.pop(room.name, None)  # on its way, or the reconciler's by its expiry
            return Finding()
        now = self._clock()
        seen = self._rooms.get(room.name)
        if seen is None or seen.sid != room.sid:
            seen = self._rooms[room.name] = _Seen(room.sid, now)
        rivals = [p for p in people if is_agent(p) and lease.owner not in (p.identity, p.attributes.get(ON_BEHALF))]
        seen.rivals = {p.sid: seen.rivals.get(p.sid, now) for p in rivals}
        waits = [since + LINGER_S - now for since in seen.rivals.values()]
        absent_at = self._absent_at(seen, lease, people, now)
        return Finding(
            absent=absent_at is not None and absent_at <= now,
            rivals=tuple(p for p in rivals if now - seen.rivals[p.sid] >= LINGER_S),
            due_s=min([w for w in (*waits, (absent_at or 0.0) - now) if w > 0], default=float("inf")),
        )

    def _absent_at(self, seen: _Seen, lease: Lease, people: Sequence[api.ParticipantInfo], now: float) -> float | None:
        """When the holder counts as absent; None: it is there, or nobody waits for it."""
        if any(p.identity == lease.owner for p in people) or not any(is_human(p) for p in people):
            seen.absent = None
            return None
        if seen.absent is None or seen.absent[0] != lease.fence:
            seen.absent = (lease.fence, now)
        return max(seen.absent[1] + ABSENT_S, seen.since + RETURN_S)
