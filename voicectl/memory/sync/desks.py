"""Desks and Letta: the agents that desks speak for are read, what the team says of a desk is exchanged.

Every ON_CALL_S while a call of the desk is on, else every SLOW_S; in a thread of its own, so that a Letta that hangs
holds up nobody's turns. An error or an agent that is not there changes nothing of what calls read.
Not here: the rows (memory/desks.py, policies.py), conversations in such agents (foreign.py).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial

from voicectl.memory import desks, policies
from voicectl.memory.backends import Backend, BackendFault, NotThere, Rejected
from voicectl.memory.backends.desks import POLICY_LABEL
from voicectl.memory.calls import now_ms
from voicectl.memory.errors import FencedOut, Refused, StoreUnavailable
from voicectl.memory.identity import hashed
from voicectl.memory.lines import BLOCK_LIMIT
from voicectl.memory.policies import Source
from voicectl.memory.store.engine import Store
from voicectl.memory.store.leases import LeaseHeld, Leases, LeaseState

log = logging.getLogger(__name__)

ON_CALL_S = 2.0
SLOW_S = 10.0
LEASE_S = 30.0  # of a policy: longer than its requests take together
ATTACH = 20  # agents a round


def read_agent(store: Store, backend: Backend, agent_id: str) -> bool:
    """Bring what an agent is now into the store; whether anything of it is new.

    Raises:
        BackendFault: Letta does not answer; nothing was changed.
        StoreUnavailable: The store does not answer.
    """
    try:
        return desks.keep(store, backend.desks.read(agent_id))
    except NotThere:
        now = now_ms()
        if desks.gone(store, agent_id, now) == now:
            log.error("a desk's agent is not in Letta any more; see: voicectl desks list", extra={"agent": agent_id})
        return False


def sync_policy(store: Store, backend: Backend, desk: str, renew: Callable[[], object] = lambda: None) -> bool:
    """Make what the team says of a desk and its block in Letta equal; whether an edit was found there.

    As with customers' blocks (blocks.py): read, take over what somebody wrote there, put, note what both sides have.
    Who wrote last wins; every version is in the log.

    Args:
        store: The store.
        backend: Letta.
        desk: The desk's name.
        renew: Renews the lease of it before each write.

    Raises:
        BackendFault: Letta does not answer; nothing of what is said was changed.
        FencedOut: Somebody else is at it.
        StoreUnavailable: The store does not answer.
    """
    said = policies.present(store, desk)
    if said is None or said.source == Source.REMOVED:
        return False
    row = policies.block(store, desk)
    if row is None or row.block_id is None:
        # First the intent: a block that a crash leaves without a record is known by this text for our own.
        sending = None if _let_go(row) else said.text
        policies.note_block(store, desk, block_id=None, exchanged=None, sending=sending)
        renew()
        made = backend.desks.ensure_policy(desk, said.text, BLOCK_LIMIT)
        policies.note_block(store, desk, block_id=made)
        row = policies.BlockRow(made, None, sending, "")
    block_id = str(row.block_id)
    try:
        text = backend.get_blocks({POLICY_LABEL: block_id})[POLICY_LABEL]
    except NotThere:
        policies.note_block(store, desk, block_id=None)  # never "empty": it is made again with what was said last
        raise
    edited = False
    if text not in (row.exchanged, row.sending) and not _let_go(row):
        edited = _take(store, desk, text)
        said = policies.present(store, desk) or said
        if said.source == Source.REMOVED:
            return False
    if text == said.text:
        if row.exchanged != text or row.sending is not None:
            policies.note_block(store, desk, exchanged=text, sending=None)
        return edited
    policies.note_block(store, desk, exchanged=text, sending=said.text)
    renew()
    backend.put_block(block_id, said.text)
    policies.note_block(store, desk, exchanged=said.text, sending=None)
    return edited


def _let_go(row: policies.BlockRow | None) -> bool:
    """Whether what the block says is of a desk that was removed."""
    return row is not None and row.exchanged is None and row.sending is None


def _take(store: Store, desk: str, text: str) -> bool:
    try:
        policies.write(store, desk, text, Source.ADE)
    except Refused as e:
        log.error("what was written in Letta of a desk was not taken", extra={"desk": desk, "why": e.why})
        policies.note_block(store, desk, refused=f"{e.why}: {text}")
        return False
    policies.note_block(store, desk, refused="")
    log.info("an edit of a desk's policy came back from Letta", extra={"desk": desk, "length": len(text)})
    return True


def attach_policies(store: Store, backend: Backend) -> int:
    """Show policies in the agents of those who called; how many were attached."""
    done = 0
    for customer, agent_id, block_id in policies.to_attach(store, ATTACH):
        try:
            backend.desks.attach_policy(agent_id, block_id)
        except (NotThere, Rejected) as e:
            # An agent or a block was deleted: it counts as tried until there is another one, or nobody gets a turn.
            log.warning("a policy is not shown in an agent", extra={"customer": hashed(customer), "why": str(e)})
            policies.attached(store, customer, agent_id, block_id)
            continue
        policies.attached(store, customer, agent_id, block_id)
        done += 1
    return done


class DeskKeeper:
    """Does all of it when it is time.

    Args:
        store: The store.
        leases: The leases: of many syncers one writes a policy.
        backend: Letta.
        name: Who we are, for the lease.
    """

    def __init__(self, store: Store, leases: Leases, backend: Backend, name: str) -> None:
        self._store, self._leases, self._backend, self._name = store, leases, backend, name
        self._thread: threading.Thread | None = None
        self._done_s: dict[str, float] = {}
        self._seen: dict[str, int] = {}  # by desk, the policy that was last exchanged
        self._attached_s = float("-inf")

    def tick(self) -> None:
        """Do what is due; returns at once."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._thread = threading.Thread(target=self._work, name="desks", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self.work()
        except StoreUnavailable as e:
            log.info("desks wait for the store", extra={"why": e.reason})
        except Exception:
            log.exception("desks were not looked after")

    def work(self) -> None:
        """Read and exchange what is due.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        called = desks.called_now(self._store)
        agents: dict[str, bool] = {}
        for desk in desks.letta_desks(self._store):
            agents[desk.agent_id] = agents.get(desk.agent_id, False) or desk.name in called
        for agent_id, on_call in agents.items():
            if self._due(agent_id, on_call=on_call):
                self._guarded(agent_id, partial(read_agent, self._store, self._backend, agent_id))
        for name in policies.desks_with_one(self._store):
            said = policies.present(self._store, name)
            new = said is not None and said.id != self._seen.get(name)
            if self._due(f"policy {name}", on_call=name in called or new):
                self._guarded(name, partial(self._policy, name))
        if time.monotonic() - self._attached_s >= SLOW_S:
            self._attached_s = time.monotonic()
            self._guarded("policies", partial(attach_policies, self._store, self._backend))

    def _due(self, what: str, *, on_call: bool) -> bool:
        now = time.monotonic()
        if now - self._done_s.get(what, float("-inf")) < (ON_CALL_S if on_call else SLOW_S):
            return False
        self._done_s[what] = now
        return True

    def _policy(self, desk: str) -> None:
        grant = self._leases.claim(f"desk:{desk}", self._name, LEASE_S, LeaseState.HELD)
        try:
            sync_policy(self._store, self._backend, desk, lambda: self._leases.renew(grant, LEASE_S))
            said = policies.present(self._store, desk)
            if desk not in self._seen:
                self._attached_s = float("-inf")  # its block may be new
            self._seen[desk] = 0 if said is None else said.id
        finally:
            self._leases.release(grant)

    def _guarded(self, what: str, work: Callable[[], object]) -> None:
        """One desk that fails leaves the others alone."""
        try:
            work()
        except (BackendFault, FencedOut, LeaseHeld) as e:
            log.info("a desk is looked after later", extra={"desk": what, "why": type(e).__name__})
