"""The room lease as jobs use it: claimed in the offer, held and renewed by the job, given back at the end.

The owner of `room:<room name>` is the agent's identity, unique per job. Renewal runs in a thread of the job's process,
which also watches the event loop: a loop that stands still is an agent that does not speak.
Not here: what other agents in the room mean (guard.py), dead owners (reconciler.py), the lease itself (memory).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from voicectl.memory.errors import FencedOut, StoreUnavailable
from voicectl.memory.store.leases import Grant, Lease, Leases, LeaseState

log = logging.getLogger(__name__)

ACCEPTED_TTL_S = 15.0  # offer → job joined: 7.5 s for the assignment (livekit.md 1) plus a cold process
TTL_S = 3.0
RENEW_S = 1.0
CLOSING_TTL_S = 10.0
STUCK_S = 5.0


def lease_name(room: str) -> str:
    """The lease of a room, by the room's name: a restarted server gives the same room a new sid."""
    return f"room:{room}"


def claim(leases: Leases, room: str, identity: str, agent_name: str) -> Grant:
    """Claim a room for a job that is about to be accepted.

    Args:
        leases: Where it is kept.
        room: The room's name.
        identity: The agent's, unique per job.
        agent_name: What to dispatch when this agent dies.

    Raises:
        LeaseHeld: Another agent has the room.
        StoreUnavailable: The store did not answer.
    """
    return leases.claim(lease_name(room), identity, ACCEPTED_TTL_S, LeaseState.ACCEPTED, note=agent_name)


def hold(leases: Leases, room: str, identity: str) -> Grant:
    """Turn the claim made in the offer into a held lease; called in the job before the first word.

    Raises:
        FencedOut: The room is another's by now.
        StoreUnavailable: The store did not answer.
    """
    lease = leases.read(lease_name(room))
    if lease is None or lease.owner != identity:
        raise FencedOut(lease_name(room), 0, lease.fence if lease else 0)
    return leases.move(_grant(lease), LeaseState.HELD, TTL_S)


def _grant(lease: Lease) -> Grant:
    return Grant(lease.name, lease.owner, lease.fence, lease.nonce, lease.state)


def live_workers(leases: Leases) -> list[dict[str, Any]]:
    """The workers that are registered and alive, each with capacity, build and pid."""
    return [json.loads(r.owner) for r in leases.rows() if r.name.startswith("worker:") and r.live]


def live_calls(leases: Leases) -> set[str]:
    """The identities of agents that have a call or are on their way to one; a call being wound up does not count."""
    busy = (LeaseState.ACCEPTED, LeaseState.HELD)
    return {r.owner for r in leases.rows() if r.name.startswith("room:") and r.live and r.state in busy}


class Keeper:
    """Renews a held lease from a thread until it is stopped, lost, or the event loop stands still.

    Args:
        leases: Where it is kept; used by this thread alone.
        grant: The held lease.
        on_lost: Called in the event loop when another agent has the room.
        end_process: What ends the process when its loop stands still.
    """

    def __init__(
        self,
        leases: Leases,
        grant: Grant,
        on_lost: Callable[[], None],
        *,
        end_process: Callable[[int], None] = os._exit,
    ) -> None:
        self._leases = leases
        self._grant = grant
        self._on_lost = on_lost
        self._end_process = end_process
        self._loop = asyncio.get_running_loop()
        self._ticked = time.monotonic()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._tick()
        self._watching = False
        self._thread = threading.Thread(target=self._run, name=f"lease-{grant.name}", daemon=True)
        self._thread.start()

    def watch_loop(self) -> None:
        """From now on a loop that stands still ends the process; before, an agent may be loading its engines in it."""
        self._ticked = time.monotonic()
        self._watching = True

    @property
    def fence(self) -> int:
        """Our fence of the room."""
        return self._grant.fence

    def _tick(self) -> None:
        self._ticked = time.monotonic()
        if not self._stop.is_set():
            self._loop.call_later(RENEW_S / 2, self._tick)

    def _run(self) -> None:
        while not self._stop.wait(RENEW_S):
            stood = time.monotonic() - self._ticked
            if self._watching and stood > STUCK_S:
                # Not through logging: in a job its records travel through the loop that stands still.
                sys.stderr.write(f"{self._grant.name}: the event loop stood still for {stood:.1f} s; the job ends\n")
                sys.stderr.flush()
                self._end_process(70)
                return
            try:
                with self._lock:
                    if self._stop.is_set():
                        return
                    self._grant = self._leases.renew(self._grant, TTL_S)
            except FencedOut as e:
                log.warning("fenced out", extra={"lease": e.name, "ours": e.ours, "theirs": e.theirs})
                self._loop.call_soon_threadsafe(self._on_lost)
                return
            except StoreUnavailable as e:
                # Nobody can take it while the store is away either; we go on and leave only on proof of a higher fence.
                log.warning("the lease could not be renewed", extra={"why": e.reason})

    @property
    def closing(self) -> bool:
        """Whether the room is ours to delete."""
        return self._grant.state == LeaseState.CLOSING

    def begin_closing(self) -> bool:
        """Refuse claims while the room is deleted; blocking. False: another agent has the room, leave it alone."""
        with self._lock:
            self._stop.set()
            try:
                self._grant = self._leases.move(self._grant, LeaseState.CLOSING, CLOSING_TTL_S)
            except FencedOut:
                return False
            return True

    def release(self) -> None:
        """Give the room back; blocking. The thread ends."""
        with self._lock:
            self._stop.set()
            self._leases.release(self._grant)
        self._leases.close()

    def stop(self) -> None:
        """Stop renewing without giving back: the room is another's."""
        self._stop.set()
