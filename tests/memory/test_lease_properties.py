"""Whatever the order of claims, renewals, releases, takeovers and passing time: one holder, and fences that grow."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy.engine import URL, make_url

from voicectl.memory.errors import FencedOut
from voicectl.memory.store.engine import Store
from voicectl.memory.store.leases import Grant, Lease, LeaseHeld, Leases, LeaseState

pytestmark = pytest.mark.unit
NAME = "room:a"
TTL_S = 30.0  # so long that the seconds a slow machine takes for an example decide nothing
HELD = (LeaseState.ACCEPTED, LeaseState.HELD, LeaseState.CLOSING)


class LeaseMachine(RuleBasedStateMachine):
    """A model beside the real thing: who holds the name, until when, and every fence ever granted."""

    url: URL | None = None
    grants: Bundle[Grant] = Bundle("grants")
    seen: Bundle[Lease | None] = Bundle("seen")

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self._now = 1000.0
        url = self.url or URL.create("sqlite", database=str(Path(self._folder.name) / "leases.db"))
        self._store = Store(url)
        self._leases = Leases(self._store, clock=lambda: self._now, boot_id="boot")
        if self.url is not None:
            self._sql("delete from leases")
        self._holder: Grant | None = None
        self._until = 0.0
        self._state = LeaseState.FREE
        self._fences: list[int] = []
        self._row: tuple[int, str] | None = None  # fence and nonce: what a taking over must have seen

    def teardown(self) -> None:
        self._leases.close()
        self._folder.cleanup()

    def _sql(self, statement: str) -> None:
        with self._store.write() as connection:
            connection.exec_driver_sql(statement)

    @property
    def _live(self) -> bool:
        return self._state in HELD and self._now < self._until

    def _granted(self, grant: Grant, state: LeaseState) -> Grant:
        assert grant.fence > max(self._fences, default=0), "a fence grows with each grant"
        self._fences.append(grant.fence)
        self._holder, self._until, self._state = grant, self._now + TTL_S, state
        self._row = grant.fence, grant.nonce
        return grant

    @rule(target=grants, owner=st.sampled_from(["p1", "p2", "p3"]))
    def claim(self, owner: str) -> Grant:
        refused = self._live
        try:
            grant = self._leases.claim(NAME, owner, TTL_S)
        except LeaseHeld:
            assert refused, "only a live lease refuses"
            return Grant(NAME, owner, 0, "none", LeaseState.ACCEPTED)
        assert not refused, "two at once"
        return self._granted(grant, LeaseState.ACCEPTED)

    @rule(grant=grants)
    def renew(self, grant: Grant) -> None:
        state = LeaseState.HELD if self._state == LeaseState.FREE else self._state
        try:
            self._leases.renew(Grant(grant.name, grant.owner, grant.fence, grant.nonce, state), TTL_S)
        except FencedOut:
            assert not self._is_holder(grant)
            return
        assert self._is_holder(grant), "a stale grant was renewed"
        self._until = self._now + TTL_S

    @rule(grant=grants)
    def release(self, grant: Grant) -> None:
        self._leases.release(grant)
        if self._is_holder(grant):
            self._state, self._holder, self._until = LeaseState.FREE, None, self._now
            row = self._leases.read(NAME)
            assert row is not None
            assert row.nonce != grant.nonce, "a renewal that comes late would bring it back"
            self._row = row.fence, row.nonce

    @rule(grant=grants, state=st.sampled_from([LeaseState.HELD, LeaseState.CLOSING]))
    def move(self, grant: Grant, state: LeaseState) -> None:
        now = Grant(grant.name, grant.owner, grant.fence, grant.nonce, self._state)
        try:
            self._leases.move(now, state, TTL_S)
        except ValueError:
            return
        except FencedOut:
            assert not self._is_holder(grant)
            return
        assert self._is_holder(grant), "a stale grant moved the lease"
        self._state, self._until = state, self._now + TTL_S

    @rule(target=seen)
    def look(self) -> Lease | None:
        return self._leases.read(NAME)

    @rule(target=grants, lease=seen, proven=st.booleans())
    def take_over(self, lease: Lease | None, proven: bool) -> Grant:
        nobody = Grant(NAME, "reconciler", 0, "none", LeaseState.TAKEOVER)
        if lease is None:
            return nobody
        same = (lease.fence, lease.nonce) == self._row
        may = same and self._state != LeaseState.CLOSING and (proven or self._now >= self._until)
        try:
            grant = self._leases.take_over(lease, "reconciler", TTL_S, proven_dead=proven)
        except FencedOut:
            assert not may
            return nobody
        assert may, "a live or changed lease was taken over"
        return self._granted(grant, LeaseState.TAKEOVER)

    @rule(seconds=st.sampled_from([5.0, 20.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self._now += seconds
        if self.url is not None:
            self._sql(f"update leases set expires_s = expires_s - {seconds}")

    @invariant()
    def the_row_says_what_the_model_says(self) -> None:
        row = self._leases.read(NAME)
        if row is None:
            assert self._fences == []
            return
        assert (row.fence, row.live) == (self._fences[-1], self._live)

    def _is_holder(self, grant: Grant) -> bool:
        return self._holder is not None and (grant.fence, grant.nonce) == (self._holder.fence, self._holder.nonce)


@pytest.mark.timeout(240)
def test_any_order_of_events_leaves_one_holder_and_growing_fences(store_url: str | None) -> None:
    class Machine(LeaseMachine):
        url = make_url(store_url) if store_url else None

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Machine,
        settings=settings(
            max_examples=60 if store_url is None else 25,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
