"""The syncer: one process that keeps Letta level with the store, for as many customers as there are.

Each turn of the loop finds customers with something to do and gives them to a few threads; a thread works on a customer
only while it holds the lease `customer:<key>`, so any number of syncers may run. A customer who cannot be mirrored
steps aside with growing waits and does not hold up the others. Letta down: everything waits in the store, and one probe
at a time looks whether it is back. Beside it, in the same process, calls are learnt from (memory/learning/).
Not here: what is done for one customer (memory/sync/).
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import threading
import time
from dataclasses import dataclass, field

from voicectl.memory.backends import (
    Ambiguous,
    Backend,
    BackendFault,
    BackendUnavailable,
    LlmEndpoint,
    ModelFault,
    NotThere,
    Rejected,
)
from voicectl.memory.calls import now_ms
from voicectl.memory.config import MemorySettings
from voicectl.memory.errors import FencedOut, MemoryFault, StoreUnavailable
from voicectl.memory.identity import hashed
from voicectl.memory.in_letta import Sweeper
from voicectl.memory.learning.runner import Learner
from voicectl.memory.learning.strategy import choose
from voicectl.memory.store.engine import Store, open_store
from voicectl.memory.store.leases import Grant, LeaseHeld, Leases, LeaseState, open_leases
from voicectl.memory.sync import figures, ledger, ledger_agents
from voicectl.memory.sync.backoff import Backoff
from voicectl.memory.sync.blocks import sync_blocks
from voicectl.memory.sync.breaker import Breaker
from voicectl.memory.sync.desks import DeskKeeper
from voicectl.memory.sync.mirror import sync_turns
from voicectl.memory.sync.null_keeper import NullModelKeeper
from voicectl.memory.sync.reach import letta_adapter
from voicectl.memory.sync.states import Outage, Signal, no_signal
from voicectl.memory.sync.tools import APPEND_S, Later, Tools

log = logging.getLogger(__name__)

POLL_S = 0.5
ON_CALL_S = 2.0  # how often the blocks of customers on a call are read
SWEEP_S = 10.0  # how often, at most, those of anybody else
AT_ONCE = 8  # Letta is one Python process; more requests in flight only queue (letta.md 6)
LEASE_S = APPEND_S + 10.0  # Letta cannot check our fence, so a request must end well before the lease does
DRAIN_S = 12.0  # a request in flight at SIGTERM ends by then; what has not is settled by the next syncer


@dataclass
class Figures:
    """What this process did so far."""

    turns: int = 0
    edits: int = 0
    errors: int = 0


@dataclass
class _Customer:
    backoff: Backoff = field(default_factory=Backoff)
    blocks_read_s: float = float("-inf")
    running: bool = False
    said: bool = True  # somebody, perhaps a syncer before us, may have written that this customer fails


class Syncer:
    """The loop. `run` returns after `stop`.

    Args:
        store: The store.
        leases: The leases.
        backend: Letta.
        hide_names: Keep customers' names out of descriptions.
        signal: Called at each crash point; for tests.
    """

    def __init__(
        self, store: Store, leases: Leases, backend: Backend, *, hide_names: bool = False, signal: Signal = no_signal
    ) -> None:
        self._store, self._leases, self._backend = store, leases, backend
        self._hide_names, self._signal = hide_names, signal
        self._name = f"syncer-{os.getpid()}-{secrets.token_hex(3)}"
        self._stopping = threading.Event()
        self._breaker = Breaker(Backoff())
        self._sweeper = Sweeper(store, backend)
        self._desks = DeskKeeper(store, leases, backend, self._name)
        self._health = (Outage.UP, "")
        self._said: tuple[Outage, str] | None = None
        self._said_s = float("-inf")
        self._customers: dict[str, _Customer] = {}
        self._seen_op = 0
        self._lock = threading.Lock()
        self.figures = Figures()

    def stop(self) -> None:
        """Take nothing new and finish the requests that are under way."""
        self._stopping.set()

    def run(self) -> None:
        """Sync until `stop`; what is under way then is waited for, DRAIN_S seconds at most."""
        running: set[threading.Thread] = set()
        while not self._stopping.wait(POLL_S):
            running = {t for t in running if t.is_alive()}
            try:
                self._probe()
                self._say()
                if self._breaker.room(1, 0):
                    self._sweeper.tick()
                    self._desks.tick()
                for customer, turns, blocks in self._due(self._breaker.room(AT_ONCE, len(running))):
                    # Daemons: a request that hangs beyond DRAIN_S must not keep the process.
                    work = threading.Thread(
                        target=self._work, args=(customer, turns, blocks), name=f"sync-{hashed(customer)}", daemon=True
                    )
                    work.start()
                    running.add(work)
            except StoreUnavailable as e:
                log.warning("the store does not answer; waiting for it", extra={"why": e.reason})
        deadline = time.monotonic() + DRAIN_S
        for work in running:
            work.join(max(0.0, deadline - time.monotonic()))

    def _due(self, room: int) -> list[tuple[str, bool, bool]]:
        """Customers to work on now, with what: turns, blocks."""
        if room <= 0:
            return []
        now = time.monotonic()
        # Those who cannot be worked on now must not fill the list that the others wait in.
        aside = sum(1 for s in self._customers.values() if s.running or s.backoff.failing or not s.backoff.due)
        waiting = ledger.customers_with_work(self._store, AT_ONCE + aside)
        turns = sorted(waiting, key=lambda c: self._state(c).backoff.failing)
        on_call = set(ledger.customers_on_a_call(self._store))
        changed, self._seen_op = ledger_agents.customers_with_changed_profile(self._store, self._seen_op)
        for customer in changed:
            self._state(customer).blocks_read_s = float("-inf")
        checked_before = now_ms() - round(SWEEP_S * 1000)
        # One a turn keeps an idle Letta idle; those that fail step aside by their back-off.
        old = ledger_agents.customers_to_check(self._store, checked_before, 50 + aside)
        swept = [c for c in old if self._state(c).backoff.due and not self._state(c).running][:1]
        found: list[tuple[str, bool, bool]] = []
        for customer in dict.fromkeys([*turns, *changed, *on_call, *swept]):
            state = self._state(customer)
            every = ON_CALL_S if customer in on_call else SWEEP_S
            blocks = now - state.blocks_read_s >= every and (customer not in turns or customer in on_call)
            if state.running or not state.backoff.due or not (blocks or customer in turns):
                continue
            state.running = True
            found.append((customer, customer in turns, blocks))
            if len(found) >= room:
                break
        return found

    def _state(self, customer: str) -> _Customer:
        return self._customers.setdefault(customer, _Customer())

    def _probe(self) -> None:
        """Ask the backend who it is, when nothing else may be asked."""
        if not self._breaker.probe_due:
            return
        try:
            health = self._backend.health()
        except BackendFault as e:
            self._unwell(e, "Letta does not answer; turns wait in the store")
            self._breaker.probed(answered=False)
            return
        self._breaker.probed(answered=True)
        if self._health[0] == Outage.DOWN:
            self._health = (Outage.UP, "")
        log.info("Letta answers", extra={"where": health.where, "version": health.version})

    def _unwell(self, fault: BackendFault, words: str) -> None:
        state = Outage.MODEL if isinstance(fault, ModelFault) else Outage.DOWN
        if self._health[0] != state:
            log.warning(words, extra={"why": str(fault)})
        self._health = (state, str(fault))

    def _say(self) -> None:
        """Write down how Letta is when that changed, and now and then that we are here."""
        now = time.monotonic()
        if self._health == self._said and now - self._said_s < figures.SAID_EVERY_S:
            return
        figures.say(self._store, *self._health)
        self._said, self._said_s = self._health, now

    def _work(self, customer: str, turns: bool, blocks: bool) -> None:
        state = self._state(customer)
        try:
            self._work_under_lease(customer, state, turns=turns, blocks=blocks)
            self._went_well(customer, state)
        except Later as e:
            if e.fault is None:
                state.backoff.wait(e.seconds)
            else:
                self._soft(e.fault)
                self._failed(customer, state, str(e.fault), at_least_s=e.seconds)
        except LeaseHeld:
            state.backoff.wait(1.0)  # another syncer is at it
        except FencedOut as e:
            # Not the error's own words: the name of the lease holds the customer key.
            log.warning("lost a customer to another syncer", extra={"customer": hashed(customer), "fence": e.theirs})
            state.backoff.wait(1.0)
        except BackendUnavailable as e:
            if self._breaker.failed(hard=True):
                self._unwell(e, "Letta does not answer; turns wait in the store")
        except NotThere as e:
            log.warning("Letta lost something", extra={"customer": hashed(customer), "why": str(e)})
            state.blocks_read_s = float("-inf")
            state.backoff.failed()
        except Ambiguous as e:
            self._soft(e)
            self._failed(customer, state, str(e))
        except StoreUnavailable as e:
            log.warning("the store does not answer; waiting for it", extra={"why": e.reason})
            state.backoff.wait(1.0)
        except Rejected as e:
            self._breaker.succeeded()  # Letta answers: this is the customer's alone
            self._failed(customer, state, str(e))
        except MemoryFault as e:
            self._failed(customer, state, str(e))
        except Exception as e:
            # A fault of ours must not stop the other customers; it is repeated with back-off and stays visible.
            log.exception("syncing a customer failed", extra={"customer": hashed(customer)})
            self._failed(customer, state, repr(e))
        finally:
            state.running = False

    def _went_well(self, customer: str, state: _Customer) -> None:
        self._breaker.succeeded()
        self._health = (Outage.UP, "")
        state.backoff.succeeded()
        if state.said:
            figures.unsay(self._store, customer)
            state.said = False

    def _soft(self, fault: BackendFault) -> None:
        """Something may be wrong with Letta, or only with this request."""
        if isinstance(fault, ModelFault):
            self._unwell(fault, "the model behind Letta fails; turns wait in the store")
        if self._breaker.failed(hard=False):
            self._unwell(fault, "Letta errs; turns wait in the store")

    def _failed(self, customer: str, state: _Customer, why: str, *, at_least_s: float = 0.0) -> None:
        with self._lock:
            self.figures.errors += 1
        if not state.backoff.failing:
            log.warning("a customer waits", extra={"customer": hashed(customer), "why": why})
        state.backoff.failed(at_least_s)
        state.said = True
        try:
            figures.say(self._store, Outage.FAILING, why, customer=customer)
        except StoreUnavailable:
            return  # it is said the next time; the log has it

    def _work_under_lease(self, customer: str, state: _Customer, *, turns: bool, blocks: bool) -> None:
        grant = self._leases.claim(f"customer:{customer}", self._name, LEASE_S, LeaseState.HELD)
        tools = Tools(
            self._store,
            self._backend,
            hide_names=self._hide_names,
            renew=lambda: self._go_on(grant),
            signal=self._signal,
        )
        try:
            if turns:
                sent = sync_turns(tools, customer)
                with self._lock:
                    self.figures.turns += sent
            if blocks:
                taken = sync_blocks(tools, customer)
                with self._lock:
                    self.figures.edits += taken
                state.blocks_read_s = time.monotonic()
        finally:
            self._leases.release(grant)

    def _go_on(self, grant: Grant) -> None:
        """Before each request that changes something."""
        if self._stopping.is_set():
            raise Later(0.0, "this syncer ends")
        self._leases.renew(grant, LEASE_S)


def run(settings: MemorySettings, llm: LlmEndpoint | None = None) -> None:
    """Sync and take memory steps until SIGTERM or SIGINT. With the embedded backend there are only the steps.

    Args:
        settings: The settings.
        llm: What agents answer operators with in Letta's ADE, and what memory steps ask; None: neither.

    Raises:
        SettingError: No Letta server is named.
        StoreUnavailable: The store cannot be opened.
    """
    stopping = threading.Event()
    parts: list[Syncer | Learner] = []

    def stop(_number: int, _frame: object) -> None:
        stopping.set()
        for part in parts:
            part.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    embedded = settings.backend == "embedded"
    adapter = None if embedded else letta_adapter(settings)
    store, leases = open_store(settings), open_leases(settings)
    chosen = choose(settings.memory_step, settings.backend, llm)
    keeper = None if adapter is None else NullModelKeeper(settings)
    backend = None if adapter is None or keeper is None else adapter(keeper.url, llm)
    learner = Learner(store, leases, chosen, llm, backend)
    parts.append(learner)
    if backend is not None:
        parts.append(Syncer(store, leases, backend, hide_names=settings.hide_names))
    else:
        log.info("memory is in the store alone; nothing to mirror")
    if stopping.is_set():
        stop(0, None)
    # The last one runs here; before it the learner in a thread, which a hanging request must not keep.
    learning = threading.Thread(target=learner.run, name="learner", daemon=True)
    try:
        if len(parts) > 1:
            learning.start()
        parts[-1].run()
        learner.stop()
        if len(parts) > 1:
            learning.join(DRAIN_S)
    finally:
        if keeper is not None and backend is not None:
            keeper.close()
            backend.close()
        leases.close()
        store.close()
