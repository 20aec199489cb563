"""What Letta has of forgotten customers: deleted until none is listed twice, and again when something turns up later.

That is their agents, and the conversations of their calls in desks' agents, which are somebody else's and stay.

A syncer that stood still may make an agent after everything was deleted; it carries the old generation in its tags. The
forget command looks until Letta is clear, the syncer goes on looking (`sweep`), one customer at a time, oldest look
first. Not here: the rows of the store (forget.py).
"""

from __future__ import annotations

import logging
import threading
import time
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import and_, or_, select, update

from voicectl.memory.backends import Backend, BackendFault
from voicectl.memory.calls import now_ms
from voicectl.memory.errors import StoreUnavailable
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import forgotten
from voicectl.memory.sync import foreign

log = logging.getLogger(__name__)

EMPTY_S = 5.0  # a thawing server answers a listing before it runs an older request
EVERY_S = 1.0  # how often the syncer asks the store whether somebody is due
CLEAR_AGAIN_S = 60.0  # how often a customer of whom Letta has nothing is looked for


class InLetta(StrEnum):
    """What Letta has of a forgotten customer (`forgotten.letta`)."""

    NONE = "none"  # there was no Letta. A syncer with one looks all the same → OPEN
    OPEN = "open"  # perhaps something. Nothing listed twice, EMPTY_S apart → CLEAR, by forget or the syncer
    CLEAR = "clear"  # nothing. An agent of an old generation turns up, and is deleted → OPEN


class Looked(NamedTuple):
    """How it stands, and how much was deleted just now."""

    state: InLetta
    agents: int
    conversations: int


def look_again(store: Store, backend: Backend, name: str) -> Looked:
    """Delete what Letta has of a forgotten customer now.

    Args:
        store: The store.
        backend: Letta.
        name: Hash of the customer key.

    Raises:
        BackendFault: Letta does not answer; nothing counts as empty.
        StoreUnavailable: The store does not answer.
    """
    with store.read() as connection:
        row = connection.execute(select(forgotten).where(forgotten.c.customer == name)).one()
    try:
        gone = backend.forget(name, before_generation=int(row.generation))
        # Once clear none comes later: turns of erased calls are refused before they are sent.
        said = 0 if row.letta == InLetta.CLEAR else foreign.drop_forgotten(store, backend)
    except BackendFault:
        _looked(store, name, int(row.generation), checked_ms=now_ms())  # the others' turn comes first now
        raise
    now = now_ms()
    values: dict[str, object] = {"checked_ms": now}
    state = InLetta(row.letta)
    if gone or said:
        extra = {"customer": name, "agents": gone, "conversations": said}
        log.info("agents of a forgotten customer deleted", extra=extra)
        state, values["empty_ms"] = InLetta.OPEN, now
    elif row.empty_ms is None:
        state, values["empty_ms"] = InLetta.OPEN, now
    elif now - int(row.empty_ms) >= EMPTY_S * 1000:
        state = InLetta.CLEAR
    _looked(store, name, int(row.generation), letta=state, **values)
    return Looked(state, gone, said)


def _looked(store: Store, name: str, generation: int, **values: object) -> None:
    with store.write() as connection:
        same = and_(forgotten.c.customer == name, forgotten.c.generation == generation)
        connection.execute(update(forgotten).where(same).values(values))


def sweep(store: Store, backend: Backend) -> int:
    """Look for one forgotten customer, the one not looked for the longest; returns how many agents were deleted.

    Raises:
        BackendFault: Letta does not answer.
        StoreUnavailable: The store does not answer.
    """
    now = now_ms()
    due = or_(
        and_(forgotten.c.letta == InLetta.OPEN, forgotten.c.checked_ms <= now - EMPTY_S * 1000),
        forgotten.c.checked_ms <= now - CLEAR_AGAIN_S * 1000,
    )
    statement = select(forgotten.c.customer).where(due).order_by(forgotten.c.letta.desc(), forgotten.c.checked_ms)
    with store.read() as connection:
        name = connection.execute(statement.limit(1)).scalar()
    return 0 if name is None else look_again(store, backend, str(name)).agents


class Sweeper:
    """Sweeps now and then in a thread of its own, so that a Letta that hangs holds up nobody.

    Args:
        store: The store.
        backend: Letta.
    """

    def __init__(self, store: Store, backend: Backend) -> None:
        self._store, self._backend = store, backend
        self._thread: threading.Thread | None = None
        self._looked_s = float("-inf")

    def tick(self) -> None:
        """Look again when it is time; returns at once."""
        now = time.monotonic()
        if now - self._looked_s < EVERY_S or (self._thread is not None and self._thread.is_alive()):
            return
        self._looked_s = now
        self._thread = threading.Thread(target=self._sweep, name="sweep-forgotten", daemon=True)
        self._thread.start()

    def _sweep(self) -> None:
        try:
            sweep(self._store, self._backend)
        except (BackendFault, StoreUnavailable) as e:
            log.info("forgotten customers are looked for later", extra={"why": str(e)})
