"""Leases: who may speak in a room, who may write a customer's memory.

One row a name (state, owner, fence, nonce, expiry); every change is one compare-and-set statement, so two processes
never both hold a name. A grant is the pair (fence, nonce), always compared together; the fence grows with each grant.
The clock is the host's monotonic one plus its boot id on SQLite (one host), the database's on PostgreSQL.
Not here: what a holder does with it (voice/rooms/guard.py), when a room is taken over (voice/rooms/reconciler.py).
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import (
    Connection,
    Float,
    Select,
    String,
    Update,
    and_,
    bindparam,
    case,
    delete,
    func,
    inspect,
    literal,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import URL
from sqlalchemy.sql.elements import ColumnElement
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from voicectl.memory.config import MemorySettings
from voicectl.memory.errors import FencedOut, StoreUnavailable
from voicectl.memory.store.engine import LEASE_TABLE, Store, keep_private, refuse_foreign, store_url
from voicectl.memory.store.lease_rows import NEXT, Grant, Lease, LeaseHeld, LeaseState, lease_of, leases, metadata

__all__ = ["Grant", "Lease", "LeaseHeld", "LeaseState", "Leases", "open_leases"]

log = logging.getLogger(__name__)

MAX_TTL_S = 3600.0  # nobody may ask for more; a row that says more was not written by us and counts as expired
OPEN_S = 5.0  # how long opening waits while others write
FREE_ROWS_S = 86_400.0  # released names are forgotten after a day
FLOOR = "fence-floor"  # the row that remembers the highest fence of the names forgotten


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
        self._claim = self._claiming()
        self._all = self._reading()
        self._taken = self._all.where(leases.c.state.in_([s for s in LeaseState if s != LeaseState.FREE]))
        self._open()

    @retry(
        retry=retry_if_exception_type(StoreUnavailable),
        stop=stop_after_delay(OPEN_S),
        wait=wait_fixed(0.05),
        reraise=True,
    )
    def _open(self) -> None:
        """Make the table if it is not there. Many processes may do so at once, and the first of them claim already."""
        with self._store.read() as connection:
            there = inspect(connection).has_table(LEASE_TABLE)
            tidy = there and connection.execute(select(leases.c.name).where(self._stale()).limit(1)).first() is None
        if tidy:  # opening them must not wait for others' writes without need: a job opens them to be heard
            return
        try:
            with self._store.write() as connection:
                self._store.lock(connection, LEASE_TABLE)
                metadata.create_all(connection)
                self._forget_free(connection)
        except StoreUnavailable:
            if not there:
                raise
            log.info("released leases of earlier days are forgotten another time: the store is busy")

    def close(self) -> None:
        """Close the connections; leases stay as they are."""
        self._store.close()

    def _now(self) -> ColumnElement[Any]:
        # clock_timestamp, never now(): that is the start of the transaction, and a renewal that waited on a lock
        # would be stamped in the past. For the same reason SQLite's clock is read inside the transaction.
        return literal(self._clock()) if self._store.is_sqlite else func.extract("epoch", func.clock_timestamp())

    def _expired(self, at: ColumnElement[Any] | None = None) -> ColumnElement[bool]:
        now = self._now() if at is None else at
        return or_(
            leases.c.expires_s <= now,
            # Also text that somebody wrote there: SQLite sorts it behind every number.
            leases.c.expires_s > now + MAX_TTL_S,
            leases.c.boot_id != self._boot,
        )

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
            ValueError: A time to live of more than an hour.
        """
        nonce = secrets.token_hex(8)
        given = {"name": name, "state": state, "owner": owner, "nonce": nonce, "note": note, "ttl": _asked(ttl_s)}
        with self._store.write() as connection:
            now = {"now": self._clock()} if self._store.is_sqlite else {}
            fence = connection.execute(
                self._claim, {f"a_{key}": value for key, value in (given | now).items()}
            ).scalar()
        if fence is None:
            raise LeaseHeld(self.read(name), name)
        return Grant(name, owner, int(fence), nonce, state)

    def _claiming(self) -> Any:
        """The statement of `claim`, built once: building it was more than half of its time."""
        now = bindparam("a_now", type_=Float) if self._store.is_sqlite else self._now()
        floor = select(func.coalesce(func.max(leases.c.fence), 0)).where(leases.c.name == FLOOR).scalar_subquery()
        # A hand-edited row must not lock a name for ever: an unknown state is nobody's.
        held = leases.c.state.in_([LeaseState.ACCEPTED, LeaseState.HELD, LeaseState.CLOSING])
        new: dict[str, Any] = {k: bindparam(f"a_{k}", type_=String) for k in ("state", "owner", "nonce", "note")}
        new |= {"expires_s": now + bindparam("a_ttl", type_=Float), "boot_id": literal(self._boot)}
        statement = self._insert(leases).values(name=bindparam("a_name", type_=String), fence=floor + 1, **new)
        return statement.on_conflict_do_update(
            index_elements=[leases.c.name],
            set_={**new, "fence": leases.c.fence + 1},
            where=or_(~held, self._expired(now)),
        ).returning(leases.c.fence)

    def _reading(self) -> Select[Any]:
        """The statement of `rows`, built once as it is asked many times a second."""
        now = bindparam("a_now", type_=Float) if self._store.is_sqlite else self._now()
        not_ours = or_(leases.c.boot_id != self._boot, leases.c.expires_s > now + MAX_TTL_S)
        remaining = case((not_ours, literal(-1.0)), else_=leases.c.expires_s - now)
        return select(leases, remaining.label("remaining_s")).where(leases.c.name != FLOOR).order_by(leases.c.name)

    def _until(self, ttl_s: float) -> ColumnElement[Any]:
        until: ColumnElement[Any] = self._now() + _asked(ttl_s)
        return until

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

        A name that is free is taken in the same way, and one whose taking over was never finished.

        Args:
            seen: The row as it was read; it must still be the same.
            owner: Who takes over.
            ttl_s: How long the way to a new owner may take.
            proven_dead: The owner is known to be gone (its process ended); else the lease must have expired.

        Raises:
            FencedOut: The row has changed, or has not expired.
        """
        nonce = secrets.token_hex(8)
        new: dict[str, Any] = {"state": LeaseState.TAKEOVER, "owner": owner, "nonce": nonce, "boot_id": self._boot}
        with self._store.write() as connection:
            self._hold_still(connection, seen.name)
            allowed = and_(
                self._same(seen.name, seen.fence, seen.nonce),
                leases.c.state != LeaseState.CLOSING,
                *(() if proven_dead else (self._expired(),)),  # as what is free always has
            )
            new["expires_s"] = self._until(ttl_s)
            self._one(connection, leases.update().where(allowed).values(fence=leases.c.fence + 1, **new), seen)
        return Grant(seen.name, owner, seen.fence + 1, nonce, LeaseState.TAKEOVER)

    def take_new(self, name: str, owner: str, ttl_s: float, *, note: str = "") -> Grant:
        """As `take_over`, for a name that never had a row: one of many observers wins.

        Raises:
            FencedOut: It has one by now.
        """
        nonce = secrets.token_hex(8)
        floor = select(func.coalesce(func.max(leases.c.fence), 0)).where(leases.c.name == FLOOR).scalar_subquery()
        new: dict[str, Any] = {"state": LeaseState.TAKEOVER, "owner": owner, "nonce": nonce, "note": note}
        with self._store.write() as connection:
            new |= {"expires_s": self._until(ttl_s), "boot_id": self._boot}
            statement = self._insert(leases).values(name=name, fence=floor + 1, **new)
            fence = connection.execute(statement.on_conflict_do_nothing().returning(leases.c.fence)).scalar()
        if fence is None:
            raise FencedOut(name, 0, 1)
        return Grant(name, owner, int(fence), nonce, LeaseState.TAKEOVER)

    def free_expired(self, seen: Lease) -> None:
        """Free a name whose owner let it expire, so that nobody looks at it again.

        Raises:
            FencedOut: The row has changed, or has not expired.
        """
        with self._store.write() as connection:
            self._hold_still(connection, seen.name)
            allowed = and_(self._same(seen.name, seen.fence, seen.nonce), self._expired())
            new: dict[str, Any] = {"state": LeaseState.FREE, "nonce": secrets.token_hex(8), "boot_id": self._boot}
            self._one(connection, leases.update().where(allowed).values(expires_s=self._now(), **new), seen)

    def read(self, name: str) -> Lease | None:
        """The lease of a name, or None when it never had one."""
        found = self.rows(name)
        return found[0] if found else None

    def rows(self, name: str | None = None, *, taken: bool = False) -> list[Lease]:
        """All leases, or the one of a name. What somebody wrote into a row by hand reads as expired or free.

        Args:
            name: Only this one.
            taken: Leave released names out, of which a day's worth is kept.
        """
        statement = self._taken if taken else self._all
        if name is not None:
            statement = statement.where(leases.c.name == name)
        now = {"a_now": self._clock()} if self._store.is_sqlite else {}
        with self._store.read() as connection:
            rows = connection.execute(statement, now).all()
        return [lease_of(r) for r in rows]

    def _same(self, name: str, fence: int, nonce: str) -> ColumnElement[bool]:
        return (leases.c.name == name) & (leases.c.fence == fence) & (leases.c.nonce == nonce)

    def _change(self, grant: Grant, state: LeaseState, ttl_s: float) -> Grant:
        with self._store.write() as connection:
            self._hold_still(connection, grant.name)
            new: dict[str, Any] = {"state": state, "expires_s": self._until(ttl_s), "boot_id": self._boot}
            if state == LeaseState.FREE:
                new["nonce"] = secrets.token_hex(8)  # a renewal that comes late must not bring it back
            mine = self._same(grant.name, grant.fence, grant.nonce)
            self._one(connection, leases.update().where(mine).values(new), grant)
        return Grant(grant.name, grant.owner, grant.fence, grant.nonce, state)

    def _hold_still(self, connection: Connection, name: str) -> None:
        """Wait for the row before the clock is read.

        An UPDATE of PostgreSQL computes its values first and waits then; who only locked the row and changed nothing
        would leave it with a time of before the wait, clock_timestamp() or not (tried with 18).
        """
        if not self._store.is_sqlite:
            connection.execute(select(leases.c.name).where(leases.c.name == name).with_for_update())

    def _one(self, connection: Connection, statement: Update, thought: Grant | Lease) -> None:
        if connection.execute(statement).rowcount != 1:
            found = connection.execute(select(leases.c.fence).where(leases.c.name == thought.name)).scalar()
            raise FencedOut(thought.name, thought.fence, int(found or 0))

    def _stale(self) -> ColumnElement[bool]:
        old = or_(leases.c.expires_s <= self._now() - FREE_ROWS_S, leases.c.boot_id != self._boot)
        return and_(leases.c.state == LeaseState.FREE, leases.c.name != FLOOR, old)

    @property
    def store(self) -> Store:
        """The database they lie in."""
        return self._store

    def erase(self, name: str) -> bool:
        """Delete the row of a name that nobody holds, as the name itself may say too much; its fence is never repeated.

        Returns:
            Whether the name is gone.
        """
        with self._store.write() as connection:
            row = connection.execute(select(leases.c.fence).where(leases.c.name == name).with_for_update()).first()
            if row is None:
                return True
            unheld = or_(leases.c.state == LeaseState.FREE, self._expired())
            if connection.execute(delete(leases).where(leases.c.name == name, unheld)).rowcount != 1:
                return False
            self._raise_floor(connection, int(row.fence))
            return True

    def _forget_free(self, connection: Connection) -> None:
        """Delete what was released long ago. Their fences go on in the floor, so no later grant repeats one."""
        # How old the rows of an earlier boot are cannot be known: their day begins now.
        stamp = leases.update().where(self._stale(), leases.c.boot_id != self._boot)
        connection.execute(stamp.values(expires_s=self._now(), boot_id=self._boot))
        old = self._stale()
        highest = connection.execute(select(func.max(leases.c.fence)).where(old)).scalar()
        if highest is None:
            return
        self._raise_floor(connection, int(highest))
        connection.execute(delete(leases).where(old))

    def _raise_floor(self, connection: Connection, fence: int) -> None:
        """No later grant of any name has a fence as low as this."""
        row: dict[str, Any] = {"state": LeaseState.FREE, "owner": "", "nonce": "", "boot_id": self._boot, "note": ""}
        statement = self._insert(leases).values(name=FLOOR, fence=fence, expires_s=0.0, **row)
        statement = statement.on_conflict_do_update(
            index_elements=[leases.c.name], set_={"fence": fence}, where=leases.c.fence < fence
        )
        connection.execute(statement)


def _asked(ttl_s: float) -> float:
    if not 0 <= ttl_s <= MAX_TTL_S:
        raise ValueError(f"a lease lasts up to {MAX_TTL_S:.0f} s, not {ttl_s} s")
    return ttl_s


def host_boot_id() -> str:
    """What identifies this boot of this host."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else str(int(psutil.boot_time()))


def open_leases(settings: MemorySettings) -> Leases:
    """The leases of an installation: `VOICE_HOME/leases.db`, or the PostgreSQL database of the store.

    Raises:
        StoreForeign: The PostgreSQL database holds tables that are not ours.
        StoreUnavailable: The database cannot be opened.
    """
    url = store_url(settings)
    if url.get_backend_name() == "sqlite":
        url = URL.create("sqlite", database=str(settings.home / "leases.db"))
    # 800 ms: an offer must be answered within about a second, a renewal is due each second.
    store = Store(url, busy_ms=800, answer_s=1.0)
    try:
        if not store.is_sqlite:
            refuse_foreign(store)
        made = Leases(store)
        keep_private(store)  # names of leases are customers' keys
        return made
    except BaseException:
        store.close()
        raise
