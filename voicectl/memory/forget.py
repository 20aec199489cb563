"""Forgetting a customer: rows, bytes and the agents in Letta; a crash at any step leaves nothing readable.

    receipt = Forgetting(store, leases, home, backend).run("user:42")

The first transaction raises the generation and deletes every row, so from then on nobody reads, writes or learns
anything of that customer; the rest is listed with it (`forgotten.to_do`) and done by the same command again after a
crash. What was on its way then arrives at nothing: rows without their call are refused, an agent of an older generation
is deleted when it turns up (in_letta.py). What stays is a hash with a number. Not here: which rows (traces.py), the
command (cli/commands/forget.py).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from sqlalchemy import Connection, delete, insert, select, update

from voicectl.memory import traces
from voicectl.memory.backends import Backend, BackendFault
from voicectl.memory.calls import CallState, now_ms, open_call_of_room
from voicectl.memory.errors import CustomerUnknown, FencedOut, Refused
from voicectl.memory.identity import hashed, normalise
from voicectl.memory.in_letta import EMPTY_S, InLetta, look_again
from voicectl.memory.store.engine import Store
from voicectl.memory.store.leases import Grant, Lease, LeaseHeld, Leases, LeaseState
from voicectl.memory.store.schema import calls, customers, forgotten, room_log, turns

LEASE_S = 60.0
PATIENCE_S = 30.0  # a syncer that was killed or stands still leaves its lease for 20 s
LOOKS = 12  # at Letta, EMPTY_S apart, until it has listed nothing twice


class Step(StrEnum):
    """Where a crash would leave something undone; a test kills the process there. The same command does the rest."""

    ERASED = "erased"  # rows are gone, their old pages may be in the write-ahead log, jobs and Letta know it still
    ENDED = "ended"  # no job speaks with what it knew
    FILES = "files"  # journals and kept texts are gone
    AGENTS = "agents"  # deleted in Letta, not yet looked again
    LETTA = "letta"  # Letta has listed nothing twice
    LEASES = "leases"  # their names, which hold the customer key, are gone
    CLOSED = "closed"  # nothing is to do but to write the databases anew


def about(store: Store, customer: str) -> str:
    """In words what there is to forget.

    Raises:
        CustomerUnknown: There is no such customer, and none was forgotten.
        StoreUnavailable: The store did not answer.
    """
    key = normalise(customer)
    found = traces.rows(store, key)
    if found.get(customers.name):
        return f"{key}: {found.get(calls.name, 0)} calls, {found.get(turns.name, 0)} turns and all that was learnt"
    with store.read() as connection:
        if connection.execute(select(forgotten).where(forgotten.c.customer == hashed(key))).first() is None:
            raise CustomerUnknown(key)
    return f"{key}: forgotten already, only what may have been left"


@dataclass
class Receipt:
    """What was done.

    Args:
        customer: Customer key.
        stands_for: What stays: the hash of the key, with `generation`.
        generation: What the next call of this customer carries; older things are refused.
        rows: Rows deleted, by table; without those that an earlier run deleted.
        calls_ended: Rooms whose call was ended for this.
        files: How many files were deleted.
        agents: Agents deleted in Letta.
        conversations: Conversations deleted in agents of desks, which are somebody else's.
        letta: How far that is; see in_letta.InLetta.
        left: What is not done, and what does it.
        kept: What voicectl cannot delete, each with its retention.
    """

    customer: str
    stands_for: str
    generation: int
    rows: dict[str, int] = field(default_factory=dict)
    calls_ended: list[str] = field(default_factory=list)
    files: int = 0
    agents: int = 0
    conversations: int = 0
    letta: InLetta = InLetta.NONE
    left: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Forgetting:
    """How to forget somebody.

    Args:
        store: The store.
        leases: The leases.
        home: VOICE_HOME.
        backend: Letta; None where memory is in the store alone.
        close_rooms: Ends rooms for everybody in them; gets their names, returns why it could not, else "".
        wait: Waits that many seconds.
        signal: Called at each step; for tests.
    """

    store: Store
    leases: Leases
    home: Path
    backend: Backend | None = None
    close_rooms: Callable[[Sequence[str]], str] = lambda rooms: ""
    wait: Callable[[float], None] = time.sleep
    signal: Callable[[Step], None] = lambda step: None

    def run(self, customer: str, *, end_calls: bool = False) -> Receipt:
        """Forget a customer, or finish what an earlier run began.

        Args:
            customer: Customer key.
            end_calls: End a call that is on; else it is a reason to refuse.

        Raises:
            CustomerUnknown: There is no such customer, and none was forgotten.
            Refused: The customer is on a call; nothing was changed.
            StoreUnavailable: The store does not answer; run it again.
        """
        key = normalise(customer)
        receipt, to_do = self._erase(key, end_calls=end_calls)
        self.signal(Step.ERASED)
        traces.truncate(self.store)  # the rest may take a while
        self._end_jobs(receipt, to_do["rooms"])
        self.signal(Step.ENDED)
        receipt.files = traces.delete_files(self.home, key, to_do["calls"])
        self.signal(Step.FILES)
        self._clear_letta(receipt, key)
        self.signal(Step.LETTA)
        for name in (f"customer:{key}", *(f"room:{room}" for room in to_do["rooms"])):
            self.leases.erase(name)
        self.signal(Step.LEASES)
        with self.store.write() as connection:
            mine = forgotten.c.customer == receipt.stands_for
            connection.execute(update(forgotten).where(mine).values(to_do=""))
            # What the rooms' jobs noted while they were ended.
            connection.execute(delete(room_log).where(room_log.c.room.in_(to_do["rooms"])))
        self.signal(Step.CLOSED)
        receipt.left += [w for w in (traces.rewrite(self.store), traces.rewrite(self.leases.store)) if w]
        if found := traces.rows(self.store, key):
            receipt.left.append(f"{sum(found.values())} rows came back meanwhile ({', '.join(found)}): run it again")
        return receipt

    def _erase(self, key: str, *, end_calls: bool) -> tuple[Receipt, dict[str, list[str]]]:
        """Everything of the customer in one transaction, and what is to do after it."""
        name = hashed(key)
        with self.store.write() as connection:
            self.store.lock(connection, "profile", key)
            before = connection.execute(select(forgotten).where(forgotten.c.customer == name)).first()
            present = connection.execute(
                select(customers.c.generation).where(customers.c.key == key).with_for_update()
            ).scalar()
            to_do: dict[str, list[str]] = json.loads(before.to_do) if before and before.to_do else {}
            to_do = {"rooms": to_do.get("rooms", []), "calls": to_do.get("calls", [])}
            if present is None and before is None:
                raise CustomerUnknown(key)
            if present is None:
                return Receipt(key, name, int(before.generation) if before else 1), to_do
            found = connection.execute(
                select(calls.c.id, calls.c.room, calls.c.state).where(calls.c.customer == key).with_for_update()
            ).all()
            live = [r.room for r in found if r.state != CallState.ENDED and self._is_held(r.room)]
            if live and not end_calls:
                raise Refused(
                    f"forget {key}", f"the customer is on a call now (room {live[0]})", "End it too: --end-calls"
                )
            to_do = {
                "rooms": list(dict.fromkeys([*to_do["rooms"], *(r.room for r in found)])),
                "calls": list(dict.fromkeys([*to_do["calls"], *(r.id for r in found)])),
            }
            generation = int(present) + 1
            self._note(connection, name, generation, to_do, new=before is None)
            receipt = Receipt(key, name, generation, traces.erase(connection, key))
        return receipt, to_do

    def _note(
        self, connection: Connection, name: str, generation: int, to_do: dict[str, list[str]], *, new: bool
    ) -> None:
        letta = InLetta.NONE if self.backend is None else InLetta.OPEN
        values = {"generation": generation, "letta": letta, "to_do": json.dumps(to_do)}
        values |= {"empty_ms": None, "checked_ms": 0, "at_ms": now_ms()}
        if new:
            connection.execute(insert(forgotten).values(customer=name, **values))
        else:
            connection.execute(update(forgotten).where(forgotten.c.customer == name).values(values))

    def _is_held(self, room: str) -> bool:
        lease = self.leases.read(f"room:{room}")
        return lease is not None and lease.live

    def _end_jobs(self, receipt: Receipt, rooms: list[str]) -> None:
        """Fence out the jobs that still speak with what they knew, then end their rooms."""
        # Of what was erased no call is left: one that is there began afterwards, in a room with the same name.
        old = [room for room in rooms if open_call_of_room(self.store, room) is None]
        held = [lease for room in old if (lease := self.leases.read(f"room:{room}")) is not None and lease.live]
        names = [lease.name.removeprefix("room:") for lease in held]
        grants = [g for lease in held if (g := self._fence(lease)) is not None]
        if names and (why := self.close_rooms(names)):
            receipt.left.append(f"rooms may still be open, with an agent that knows nothing: {', '.join(names)}: {why}")
        receipt.calls_ended = names
        for grant in grants:
            self.leases.release(grant)

    def _fence(self, lease: Lease) -> Grant | None:
        if lease.state == LeaseState.CLOSING:
            return None  # its job is past its last word
        try:
            return self.leases.take_over(lease, f"forget-{os.getpid()}", 5.0, proven_dead=True)
        except FencedOut:
            return None  # it has ended, or its successor began after the rows were gone

    def _clear_letta(self, receipt: Receipt, key: str) -> None:
        """Delete the agents until Letta lists none twice; what cannot be done now is the syncer's."""
        if self.backend is None:
            return
        try:
            grant = self._claim(f"customer:{key}")
        except LeaseHeld as e:
            receipt.letta = InLetta.OPEN
            receipt.left.append(f"agents in Letta: {e}; the syncer deletes them")
            return
        try:
            for _ in range(LOOKS):
                self.leases.renew(grant, LEASE_S)
                seen = look_again(self.store, self.backend, receipt.stands_for)
                receipt.letta, receipt.agents = seen.state, receipt.agents + seen.agents
                receipt.conversations += seen.conversations
                self.signal(Step.AGENTS)
                if seen.state == InLetta.CLEAR:
                    return
                self.wait(EMPTY_S)
            receipt.left.append("agents in Letta keep turning up; the syncer deletes them")
        except BackendFault as e:
            receipt.letta = InLetta.OPEN
            receipt.left.append(f"agents in Letta: {e}; the syncer deletes them when Letta answers")
        finally:
            self.leases.release(grant)

    def _claim(self, name: str) -> Grant:
        waited = 0.0
        while True:
            try:
                return self.leases.claim(name, f"forget-{os.getpid()}", LEASE_S, LeaseState.HELD)
            except LeaseHeld:
                if waited >= PATIENCE_S:
                    raise
                self.wait(0.2)
                waited += 0.2
