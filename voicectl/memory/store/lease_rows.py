"""A lease as it lies in the database: its table, its states, and what readers and owners hold of it.

Not here: how a name is claimed, renewed and lost (leases.py).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Column, Float, MetaData, Row, String, Table

from voicectl.memory.errors import FencedOut
from voicectl.memory.store.engine import LEASE_TABLE

log = logging.getLogger(__name__)

metadata = MetaData()
leases = Table(
    LEASE_TABLE,
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
    TAKEOVER = "takeover"  # a reconciler asks for an agent; any offer may claim it at once. Crash: expires → TAKEOVER
    FREE = "free"  # released; the row stays so that the fence keeps growing


NEXT: dict[LeaseState, tuple[LeaseState, ...]] = {
    LeaseState.ACCEPTED: (LeaseState.HELD, LeaseState.FREE, LeaseState.TAKEOVER),
    LeaseState.HELD: (LeaseState.CLOSING, LeaseState.FREE, LeaseState.TAKEOVER),
    LeaseState.CLOSING: (LeaseState.FREE,),
    LeaseState.TAKEOVER: (LeaseState.ACCEPTED, LeaseState.HELD, LeaseState.TAKEOVER),
    LeaseState.FREE: (LeaseState.ACCEPTED, LeaseState.HELD, LeaseState.TAKEOVER),
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


def lease_of(row: Row[Any]) -> Lease:
    """A row with its remaining time; what somebody wrote there by hand reads as free."""
    try:
        state = LeaseState(row.state)
    except ValueError:
        log.warning("a lease has a state that nobody wrote", extra={"lease": row.name, "state": str(row.state)[:20]})
        state = LeaseState.FREE
    fence = int(row.fence) if str(row.fence).isdigit() else 0
    return Lease(row.name, state, row.owner, fence, row.nonce, float(row.remaining_s), row.note)
