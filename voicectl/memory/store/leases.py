"""Leases: who may speak in a room, who may write a customer's memory.

One row a name (state, owner, fence, nonce, expiry); every change is one compare-and-set statement, so two processes
never both hold a name. A grant is the pair (fence, nonce), always compared together; the fence grows with each grant.
The clock is the host's monotonic one plus its boot id on SQLite (one host), the database's on PostgreSQL.
Not here: what a holder does with it (voice/rooms/guard.py), when a room is taken over (voice/rooms/reconciler.py).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import BigInteger, Column, Connection, Float, MetaData, String, Table, case, func, literal, or_, select
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import URL
from sqlalchemy.sql.elements import ColumnElement

from voicectl.memory.config import MemorySettings
from voicectl.memory.errors import FencedOut
from voicectl.memory.store.engine import Store, store_url

metadata = MetaData()
leases = Table(
    "leases",
    metadata,
    Column("name", String(400), primary_key=True),
    Column("state", String(10), nullable=False),
    Column("owner", String(200), nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("nonce", String(32), nullable=False),
    Column("expires_s", Float(53), nullable=False),
    Column("boot_id", String(64), nullable=False),
    Column("note", String(200), nullable=False),  # what the next owner must know: of a room, which agent to dispatch
)


class LeaseState(StrEnum):
    """What a lease is used for now. `NEXT` says who may follow whom."""

    ACCEPTED = "accepted"  # claimed in a job offer; the job has not joined. Job → HELD; crash: expires, claimable
    HELD = "held"  # the owner renews it. Owner → CLOSING or FREE; crash: expires → TAKEOVER
    CLOSING = "closing"  # the owner deletes the room; refuses claims until released or expired
    TAKEOVER = "takeover"  # a reconciler fenced the dead owner out; any offer may claim it at once
    FREE = "free"  # released; the row stays so that the fence keeps growing


NEXT: dict[LeaseState, tuple[LeaseState, ...]] = {
    LeaseState.ACCEPTED: (LeaseState.HELD, LeaseState.FREE, LeaseState.TAKEOVER),
    LeaseState.HELD: (LeaseState.CLOSING, LeaseState.FREE, LeaseState.TAKEOVER),
    LeaseState.CLOSING: (LeaseState.FREE,),
    LeaseState.TAKEOVER: (LeaseState.ACCEPTED, LeaseState.HELD),
    LeaseState.FREE: (LeaseState.ACCEPTED, LeaseState.HELD),
}


@dataclass(frozen=True)
class Grant:
    """The right to act under a name until it expires: compare fence and nonce together, never one alone."""

    name: str
    owner: str
    fence: int
    nonce: str
    state: LeaseState


@dataclass(frozen=True)
class Lease:
    """A lease as it was read: a picture of the past, to be acted on only by compare-and-set."""

    name: str
    state: LeaseState
    owner: str
    fence: int
    nonce: str
    remaining_s: float  # negative: expired that long ago, by the clock of the one who read it
    note: str = ""

    @property
    def live(self) -> bool:
        """Somebody holds it and has not let it expire."""
        return self.state in (LeaseState.ACCEPTED, LeaseState.HELD, LeaseState.CLOSING) and self.remaining_s > 0


class LeaseHeld(FencedOut):
    """A claim was refused: somebody holds the name.

    Args:
        lease: The row that refused it, read again after the refusal.
    """

    def __init__(self, lease: Lease | None, name: str) -> None:
        self.lease = lease
        super().__init__(name, 0, lease.fence if lease else 0)
        if lease:
            self.args = (
                f"{name} is {lease.state} by {lease.owner} (fence {lease.fence}, {lease.remaining_s:.1f} s left)",
            )


class Leases:
    """All leases of an installation.

    Args:
        store: A store whose connections wait only shortly for a lock.
        clock: The host's monotonic clock in seconds; only SQLite asks it.
        boot_id: What changes when the host restarts, so that times of an earlier boot count as expired.
    """

    def __init__(
        self, store: Store, *, clock: Callable[[], float] = time.monotonic, boot_id: str | None = None
    ) -> None:
        self._store = store
        self._clock = clock
        self._boot = (boot_id if boot_id is not None else host_boot_id()) if store.is_sqlite else ""
        self._insert: Any = sqlite_insert if store.is_sqlite else postgres_insert
        with store.write() as connection:
            metadata.create_all(connection)

    def close(self) -> None:
        """Close the connections; leases stay as they are."""
        self._store.close()

    def _now(self) -> ColumnElement[Any]:
        # clock_timestamp, never now(): that is the start of the transaction, and a renewal that waited on a lock
        # would be stamped in the past.
        return literal(self._clock()) if self._store.is_sqlite else func.extract("epoch", func.clock_timestamp())

    def _expired(self) -> ColumnElement[bool]:
        return or_(leases.c.expires_s <= self._now(), leases.c.boot_id != self._boot)

    def claim(
        self, name: str, owner: str, ttl_s: float, state: LeaseState = LeaseState.ACCEPTED, *, note: str = ""
    ) -> Grant:
        """Take a name that is free, in takeover, or expired.

        Args:
            name: What to take.
            owner: Who takes it.
            ttl_s: When it runs out without renewal, in seconds.
            state: What it is used for.
            note: What the next owner must know; kept until the next claim.

        Raises:
            LeaseHeld: Somebody holds it; says who, with which fence, for how long.
            StoreUnavailable: The store did not answer; nothing was claimed.
        """
        nonce = secrets.token_hex(8)
        new: dict[str, Any] = {"state": state, "owner": owner, "nonce": nonce, "boot_id": self._boot, "note": note}
        new["expires_s"] = self._now() + ttl_s
        statement = self._insert(leases).values(name=name, fence=1, **new)
        statement = statement.on_conflict_do_update(
            index_elements=[leases.c.name],
            set_={**new, "fence": leases.c.fence + 1},
            where=or_(leases.c.state.in_([LeaseState.FREE, LeaseState.TAKEOVER]), self._expired()),
        ).returning(leases.c.fence)
        with self._store.write() as connection:
            fence = connection.execute(statement).scalar()
        if fence is None:
            raise LeaseHeld(self.read(name), name)
        return Grant(name, owner, int(fence), nonce, state)

    def renew(self, grant: Grant, ttl_s: float) -> Grant:
        """Push the expiry out. An expired lease that nobody took is renewed too.

        Raises:
            FencedOut: Somebody took it.
            StoreUnavailable: The store did not answer; the lease may run out, but nobody has taken it by this.
        """
        return self._change(grant, grant.state, ttl_s)

    def move(self, grant: Grant, state: LeaseState, ttl_s: float) -> Grant:
        """Change the state of a lease that we hold.

        Raises:
            FencedOut: Somebody took it.
            ValueError: The state does not follow the present one.
        """
        if state not in NEXT[grant.state]:
            raise ValueError(f"{grant.name}: {state} does not follow {grant.state}")
        return self._change(grant, state, ttl_s)

    def release(self, grant: Grant) -> None:
        """Give a lease back; the fence stays. Not ours any more: nothing happens."""
        try:
            self._change(grant, LeaseState.FREE, 0)
        except FencedOut:
            return  # whoever took it releases it

    def take_over(self, seen: Lease, owner: str, ttl_s: float, *, proven_dead: bool = False) -> Grant:
        """Fence a dead owner out: one of many observers wins, and the old owner's renewals fail from now on.

        Args:
            seen: The row as it was read; it must still be the same.
            owner: Who takes over.
            ttl_s: How long the way to a new owner may take.
            proven_dead: The owner is known to be gone (its process ended); else the lease must have expired.

        Raises:
            FencedOut: The row has changed, or has not expired.
        """
        nonce = secrets.token_hex(8)
        allowed = self._same(seen.name, seen.fence, seen.nonce)
        if not proven_dead:
            allowed = allowed & self._expired()
        statement = (
            leases.update()
            .where(allowed, leases.c.state.in_([LeaseState.ACCEPTED, LeaseState.HELD]))
            .values(
                state=LeaseState.TAKEOVER,
                owner=owner,
                fence=leases.c.fence + 1,
                nonce=nonce,
                boot_id=self._boot,
                expires_s=self._now() + ttl_s,
            )
        )
        with self._store.write() as connection:
            if connection.execute(statement).rowcount != 1:
                raise FencedOut(seen.name, seen.fence, self._fence(connection, seen.name))
        return Grant(seen.name, owner, seen.fence + 1, nonce, LeaseState.TAKEOVER)

    def free_expired(self, seen: Lease) -> None:
        """Free a name whose owner let it expire, so that nobody looks at it again.

        Raises:
            FencedOut: The row has changed, or has not expired.
        """
        statement = (
            leases.update()
            .where(self._same(seen.name, seen.fence, seen.nonce) & self._expired())
            .values(state=LeaseState.FREE, nonce=secrets.token_hex(8))
        )
        with self._store.write() as connection:
            if connection.execute(statement).rowcount != 1:
                raise FencedOut(seen.name, seen.fence, self._fence(connection, seen.name))

    def read(self, name: str) -> Lease | None:
        """The lease of a name, or None when it never had one."""
        found = self.rows(name)
        return found[0] if found else None

    def rows(self, name: str | None = None) -> list[Lease]:
        """All leases, or the one of a name."""
        remaining = case((leases.c.boot_id != self._boot, literal(-1.0)), else_=leases.c.expires_s - self._now())
        statement = select(leases, remaining.label("remaining_s")).order_by(leases.c.name)
        if name is not None:
            statement = statement.where(leases.c.name == name)
        with self._store.read() as connection:
            rows = connection.execute(statement).all()
        return [
            Lease(r.name, LeaseState(r.state), r.owner, int(r.fence), r.nonce, float(r.remaining_s), r.note)
            for r in rows
        ]

    def _same(self, name: str, fence: int, nonce: str) -> ColumnElement[bool]:
        return (leases.c.name == name) & (leases.c.fence == fence) & (leases.c.nonce == nonce)

    def _change(self, grant: Grant, state: LeaseState, ttl_s: float) -> Grant:
        statement = (
            leases.update()
            .where(self._same(grant.name, grant.fence, grant.nonce))
            .values(state=state, expires_s=self._now() + ttl_s, boot_id=self._boot)
        )
        with self._store.write() as connection:
            if connection.execute(statement).rowcount != 1:
                raise FencedOut(grant.name, grant.fence, self._fence(connection, grant.name))
        return Grant(grant.name, grant.owner, grant.fence, grant.nonce, state)

    def _fence(self, connection: Connection, name: str) -> int:
        return int(connection.execute(select(leases.c.fence).where(leases.c.name == name)).scalar() or 0)


def host_boot_id() -> str:
    """What identifies this boot of this host."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else str(int(psutil.boot_time()))


def open_leases(settings: MemorySettings) -> Leases:
    """The leases of an installation: `VOICE_HOME/leases.db`, or the PostgreSQL database of the store.

    Raises:
        StoreUnavailable: The database cannot be opened.
    """
    url = store_url(settings)
    if url.get_backend_name() == "sqlite":
        url = URL.create("sqlite", database=str(settings.home / "leases.db"))
    # 800 ms: an offer must be answered within about a second, a renewal is due each second.
    return Leases(Store(url, busy_ms=800))
