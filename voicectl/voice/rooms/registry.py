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
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from voicectl.memory.config import MemorySettings
from voicectl.memory.errors import FencedOut, StoreUnavailable
from voicectl.memory.store.leases import Grant, Lease, LeaseHeld, Leases, LeaseState, open_leases

log = logging.getLogger(__name__)

ACCEPTED_TTL_S = 15.0  # offer → job joined: 7.5 s for the assignment (livekit.md 1) plus a cold process
TTL_S = 3.0
RENEW_S = 1.0
AGAIN_S = 0.1  # after a renewal that the store did not take
CLOSING_TTL_S = 10.0
STUCK_S = 5.0
# So long a job waits for its lease and nobody speaks; 0.1-0.3 s are usual, a burst on a machine without a free core
# takes longer. A PostgreSQL that stands still is given up by its driver after 2.4 s only.
TAKE_S = 1.5
MAX_CAPACITY = 10_000  # of a worker; a row that says more was not written by one

NO_FENCE = "0"  # of an agent that was accepted while the store was away
GOODBYE = "busy-"  # how the identities of agents begin that come over capacity


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

    Called again after an answer that was lost, it renews what it held already.

    Raises:
        FencedOut: The room is another's by now, or is being deleted.
        StoreUnavailable: The store did not answer.
    """
    lease = leases.read(lease_name(room))
    if lease is None or lease.owner != identity or lease.state == LeaseState.CLOSING:
        raise FencedOut(lease_name(room), 0, lease.fence if lease else 0)
    if lease.state == LeaseState.HELD:
        return leases.renew(_grant(lease), TTL_S)
    return leases.move(_grant(lease), LeaseState.HELD, TTL_S)


@dataclass(frozen=True)
class Taking:
    """How a job takes its room's lease: at once, or later when the store is away.

    Args:
        settings: Where the leases are.
        room: The room's name.
        identity: The agent's.
        agent_name: What to dispatch when this agent dies.
        fence: What the offer claimed, as the job's attribute says; "0" where the store did not answer then.
    """

    settings: MemorySettings
    room: str
    identity: str
    agent_name: str
    fence: str | None

    def __call__(self) -> tuple[Leases, Grant]:
        """Take it; blocking.

        Raises:
            FencedOut: The room is another's.
            StoreUnavailable: The store did not answer.
        """
        leases = open_leases(self.settings)
        try:
            return leases, self._hold(leases)
        except BaseException:
            leases.close()
            raise

    def _hold(self, leases: Leases) -> Grant:
        try:
            return hold(leases, self.room, self.identity)
        except FencedOut:
            if self.fence != NO_FENCE:
                raise
        try:
            return leases.claim(lease_name(self.room), self.identity, TTL_S, LeaseState.HELD, note=self.agent_name)
        except LeaseHeld as e:
            if e.lease is None or e.lease.owner != self.identity:
                raise
        return hold(leases, self.room, self.identity)  # the offer's claim, which the offer no longer waited for, came


async def keep(taking: Taking, on_lost: Callable[[], None]) -> Keeper:
    """Hold a room's lease from now on; with the store away, from when it is back.

    Raises:
        FencedOut: The room is another's.
    """
    pool = ThreadPoolExecutor(1, "take-lease")
    attempts = [pool.submit(taking)]
    pool.shutdown(wait=False)

    def take() -> tuple[Leases, Grant]:
        return attempts.pop().result() if attempts else taking()

    held: tuple[Leases, Grant] | None = None
    try:
        held = await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(attempts[0])), TAKE_S)
        attempts.clear()
    except TimeoutError:  # the keeper waits for what comes of it
        log.warning("a call begins without its lease", extra={"room": taking.room, "why": f"none in {TAKE_S} s"})
    except StoreUnavailable as e:
        attempts.clear()
        log.warning("a call begins without its lease", extra={"room": taking.room, "why": e.reason})
    keeper = Keeper(held, on_lost, take=take)

    def undo(done: Future[tuple[Leases, Grant]]) -> None:
        if attempts and keeper.stopped and done.exception() is None:
            _give_back(*done.result())

    for attempt in list(attempts):
        attempt.add_done_callback(undo)
    return keeper


def _give_back(leases: Leases, grant: Grant) -> None:
    """What came after its job had left the room."""
    try:
        leases.release(grant)
    except StoreUnavailable as e:
        log.warning("the lease runs out by itself", extra={"why": e.reason})
    leases.close()


def own_claim(held: LeaseHeld, identity: str) -> Grant | None:
    """The claim that refused a job's claim, if it is the job's own, of which the answer was lost; None: another's.

    Args:
        held: The refusal.
        identity: The job's.
    """
    lease = held.lease
    if lease is None or (lease.owner, lease.state) != (identity, LeaseState.ACCEPTED):
        return None
    return _grant(lease)


def _grant(lease: Lease) -> Grant:
    return Grant(lease.name, lease.owner, lease.fence, lease.nonce, lease.state)


def live_workers(leases: Leases) -> list[dict[str, Any]]:
    """The workers that are registered and alive, each with capacity, build and pid."""
    return workers_in(leases.rows(taken=True))


def workers_in(rows: Iterable[Lease]) -> list[dict[str, Any]]:
    """As `live_workers`, of leases as they were read; what somebody wrote there by hand is no worker."""
    found = []
    for row in rows:
        if not (row.name.startswith("worker:") and row.live):
            continue
        try:
            found.append(_worker(row.owner))
        except (ValueError, TypeError, LookupError, RecursionError):  # by hand: it must not refuse customers
            log.warning("a worker's lease cannot be read", extra={"lease": row.name, "owner": row.owner[:80]})
    return found


def _worker(owner: str) -> dict[str, Any]:
    about = json.loads(owner)
    capacity = about["capacity"]
    if type(capacity) is not int or not 0 <= capacity <= MAX_CAPACITY:
        raise ValueError(f"a capacity of {capacity}")
    return dict(about)


def live_calls(leases: Leases) -> set[str]:
    """The identities of agents that have a call or are on their way to one; a call being wound up does not count."""
    return calls_in(leases.rows(taken=True))


def calls_in(rows: Iterable[Lease]) -> set[str]:
    """As `live_calls`, of leases as they were read. Who only says that all lines are busy takes none."""
    busy = (LeaseState.ACCEPTED, LeaseState.HELD)
    rooms = (r for r in rows if r.name.startswith("room:") and r.live and r.state in busy)
    return {r.owner for r in rooms if not says_goodbye(r.owner)}


def says_goodbye(identity: str) -> bool:
    """Whether an agent of ours came over capacity, to say that all lines are busy."""
    return identity.startswith(GOODBYE)


def pause_before_renewal(spent_s: float, *, failed: bool) -> float:
    """Seconds until the next renewal is tried.

    Others may have got their write in where ours did not: then what is left of the lease is not slept away.

    Args:
        spent_s: How long this one took.
        failed: The store did not take it.
    """
    return AGAIN_S if failed else max(RENEW_S - spent_s, AGAIN_S)


class Keeper:
    """Renews a held lease from a thread until it is stopped, lost, or the event loop stands still.

    Args:
        held: Where it is kept, used by this thread alone, and the held lease; None while the store is away.
        on_lost: Called in the event loop when another agent has the room.
        take: Takes the lease when the store is back.
        end_process: What ends the process when its loop stands still.
    """

    def __init__(
        self,
        held: tuple[Leases, Grant] | None,
        on_lost: Callable[[], None],
        *,
        take: Callable[[], tuple[Leases, Grant]] | None = None,
        end_process: Callable[[int], None] = os._exit,
    ) -> None:
        self._held = held
        self._take = take
        self._on_lost = on_lost
        self._end_process = end_process
        self._loop = asyncio.get_running_loop()
        self._ticked = time.monotonic()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._tick()
        self._watching = False
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self._thread.start()

    def watch_loop(self) -> None:
        """From now on a loop that stands still ends the process; before, an agent may be loading its engines in it."""
        self._ticked = time.monotonic()
        self._watching = True

    @property
    def fence(self) -> int:
        """Our fence of the room; 0 while the store is away and nobody has one."""
        return self._held[1].fence if self._held else 0

    def _tick(self) -> None:
        self._ticked = time.monotonic()
        if not self._stop.is_set():
            self._loop.call_later(RENEW_S / 2, self._tick)

    def _run(self) -> None:
        woke, pause_s = time.monotonic(), RENEW_S
        while not self._stop.wait(pause_s):
            slept, woke = time.monotonic() - woke, time.monotonic()
            failed = False
            stood = woke - self._ticked
            if self._watching and stood > STUCK_S:
                # Not through logging: in a job its records travel through the loop that stands still.
                sys.stderr.write(f"the event loop stood still for {stood:.1f} s; the job ends\n")
                sys.stderr.flush()
                self._end_process(70)
                return
            try:
                with self._lock:
                    if self._stop.is_set():
                        return
                    self._renew()
            except FencedOut as e:
                if slept > TTL_S:  # the whole process stood still: it must not say a word before it leaves
                    sys.stderr.write(f"{e}; the job stood still for {slept:.1f} s and ends\n")
                    sys.stderr.flush()
                    self._end_process(70)
                    return
                log.warning("fenced out", extra={"lease": e.name, "ours": e.ours, "theirs": e.theirs})
                self._loop.call_soon_threadsafe(self._on_lost)
                return
            except StoreUnavailable as e:
                # Nobody can take it while the store is away either; we go on and leave only on proof of a higher fence.
                log.warning("the lease could not be renewed", extra={"why": e.reason})
                failed = True
            except Exception:  # without this thread nobody renews, and nobody watches the loop
                log.exception("the lease could not be renewed")
            pause_s = pause_before_renewal(time.monotonic() - woke, failed=failed)

    def _renew(self) -> None:
        if self._held is not None:
            leases, grant = self._held
            self._held = leases, leases.renew(grant, TTL_S)
        elif self._take is not None:
            held = self._take()
            if self.stopped:
                _give_back(*held)
                return
            self._held = held
            log.info("the lease that the store could not give is ours now", extra={"fence": self.fence})

    def row(self) -> Lease | None:
        """The room's lease as the store has it now; blocking.

        Raises:
            StoreUnavailable: The store did not answer, or never has in this call.
        """
        if self._held is None:
            raise StoreUnavailable("the leases", "the call began without them")
        leases, grant = self._held
        return leases.read(grant.name)

    @property
    def closing(self) -> bool:
        """Whether the room is ours to delete."""
        return self._held is not None and self._held[1].state == LeaseState.CLOSING

    def begin_closing(self) -> bool:
        """Refuse claims while the room is deleted; blocking. False: another agent has the room, leave it alone."""
        with self._lock:
            self._stop.set()
            if self._held is None:
                return False
            leases, grant = self._held
            try:
                self._held = leases, leases.move(grant, LeaseState.CLOSING, CLOSING_TTL_S)
            except FencedOut:
                return False
            return True

    def release(self) -> None:
        """Give the room back; blocking. The thread ends."""
        with self._lock:
            self._stop.set()
            if self._held is None:
                return
            leases, grant = self._held
            leases.release(grant)
        leases.close()

    @property
    def stopped(self) -> bool:
        """Whether nothing is renewed or taken any more."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Stop renewing without giving back: the room is another's."""
        self._stop.set()
