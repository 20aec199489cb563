"""Building Letta again from the store: into an empty server, or one whose agents of ours are replaced.

Customer by customer, under the customer's lease, so that it can be done with calls on; then the syncer's ordinary path
sends everything. No model runs. What Letta lost of one customer the syncer repairs by itself (agents.py).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlalchemy import and_, delete, select, update

from voicectl.memory.backends import Backend, NotThere
from voicectl.memory.errors import Refused
from voicectl.memory.identity import hashed
from voicectl.memory.store.engine import Store
from voicectl.memory.store.leases import Grant, LeaseHeld, Leases, LeaseState
from voicectl.memory.store.schema import calls, customers, dead_letters
from voicectl.memory.sync import foreign, ledger, ledger_agents
from voicectl.memory.sync.blocks import sync_blocks
from voicectl.memory.sync.figures import sync_figures
from voicectl.memory.sync.states import LetterState, MirrorState
from voicectl.memory.sync.tools import Later, Tools

LEASE_S = 60.0  # deleting an agent with a long history takes seconds
PATIENCE_S = 90.0  # a syncer that was killed leaves its lease for 20 s


@dataclass(frozen=True)
class Rebuilt:
    """One customer who goes out again.

    Args:
        customer: Customer key.
        calls: How many calls.
        deleted: How many agents were deleted in Letta first.
    """

    customer: str
    calls: int
    deleted: int


def still_there(store: Store, backend: Backend) -> list[str]:
    """Our customers of whom Letta has an agent.

    Raises:
        BackendUnavailable: Letta does not answer.
    """
    return [key for key in _mirrored(store) if backend.agents(hashed(key))]


def rebuild(
    store: Store,
    leases: Leases,
    backend: Backend,
    *,
    replace: bool = False,
    wait: Callable[[float], None] = time.sleep,
) -> Iterator[Rebuilt]:
    """Make the syncer send everything again, customer by customer; each is durable when it is yielded.

    Raises:
        Refused: Letta has agents of ours and `replace` was not given; nothing was changed.
        BackendFault: Letta does not answer; customers not yielded are as they were.
        LeaseHeld: A syncer did not let go of a customer for PATIENCE_S seconds.
    """
    backend.health()
    if not replace and (there := still_there(store, backend)):
        raise Refused(
            "rebuilding Letta",
            f"it still has the agents of {len(there)} customers",
            "Delete and send them again: voicectl memory rebuild --replace. Compare only: voicectl sync verify",
        )
    for customer in _mirrored(store):
        grant = _claim(leases, customer, wait)
        try:
            if replace:
                _take_last_edits(Tools(store, backend), customer)
            # Letta first: if we die in between, the syncer finds the agent gone and sends everything again by itself.
            deleted = backend.forget(hashed(customer)) if replace else 0
            foreign.drop_of(store, backend, customer)  # of a desk's agent only our calls; they would be there twice
            leases.renew(grant, LEASE_S)
            yield Rebuilt(customer, forget_what_letta_has(store, customer), deleted)
        finally:
            leases.release(grant)


def _take_last_edits(tools: Tools, customer: str) -> None:
    """What an operator wrote in Letta since the last look is in the profile before the agent is deleted."""
    try:
        sync_blocks(tools, customer)
    except (NotThere, Later):
        return  # there is no such agent


def _mirrored(store: Store) -> list[str]:
    """Customers of whom something was or will be in Letta."""
    statement = select(calls.c.customer).distinct().order_by(calls.c.customer)
    with store.read() as connection:
        return [str(key) for key in connection.execute(statement).scalars()]


def _claim(leases: Leases, customer: str, wait: Callable[[float], None]) -> Grant:
    waited = 0.0
    while True:
        try:
            return leases.claim(f"customer:{customer}", f"rebuild-{os.getpid()}", LEASE_S, LeaseState.HELD)
        except LeaseHeld:
            if waited >= PATIENCE_S:
                raise
            wait(0.1)
            waited += 0.1


def forget_what_letta_has(store: Store, customer: str) -> int:
    """Forget what we know of the customer in Letta, in one transaction; returns how many calls go out again.

    The caller holds the customer's lease and has made sure that Letta has none of it. What a person dropped stays so.
    """
    with store.write() as connection:
        ids = connection.execute(
            select(calls.c.id)
            .join(customers, and_(customers.c.key == calls.c.customer, customers.c.generation == calls.c.generation))
            .where(calls.c.customer == customer)
        ).scalars()
        found = list(ids)
        mine = dead_letters.c.call_id.in_(found)
        dropped = set(
            connection.execute(
                select(dead_letters.c.call_id).where(
                    mine, dead_letters.c.seq == ledger.WHOLE_CALL, dead_letters.c.state == LetterState.DROPPED
                )
            ).scalars()
        )
        connection.execute(delete(dead_letters).where(mine, dead_letters.c.state == LetterState.DEAD))
        sent = [call_id for call_id in found if call_id not in dropped]
        connection.execute(update(calls).where(calls.c.id.in_(sent)).values(mirror=MirrorState.OPEN))
        for call_id in found:
            ledger.again(connection, call_id, "Letta is built again", forgiven=True)
        ledger_agents.forget_agent(connection, customer)
    return len(sent)


def progress(store: Store, wait: Callable[[float], None] = time.sleep) -> Iterator[str]:
    """What is still to be sent, a line a second, until Letta has everything or nobody is there to send it."""
    last = ""
    while True:
        now = sync_figures(store)
        dead = f"; {now.dead_letters} dead letters, see: voicectl sync list" if now.dead_letters else ""
        if now.backlog == 0:
            yield f"Letta has all turns{dead}"
            return
        if now.outage is None:
            yield f"{now.backlog} turns wait, and no syncer is running. Start it: voicectl up"
            return
        words = f"{now.backlog} turns to go{f' (Letta {now.outage}: {now.why})' if now.why else ''}{dead}"
        if words != last:
            yield words
        last = words
        wait(1.0)
