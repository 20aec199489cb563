"""The syncer: one process that keeps Letta level with the store, for as many customers as there are.

Each turn of the loop finds customers with something to do and gives them to a few threads; a thread works on a customer
only while it holds the lease `customer:<key>`, so any number of syncers may run. Letta down: everything waits in the
store, one probe at a time looks whether it is back. Not here: what is done for one customer (memory/sync/).
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from voicectl.memory.backends import Backend, BackendFault, BackendUnavailable, LlmEndpoint
from voicectl.memory.calls import now_ms
from voicectl.memory.config import MemorySettings
from voicectl.memory.errors import FencedOut, MemoryFault, SettingError, StoreUnavailable
from voicectl.memory.identity import hashed
from voicectl.memory.store.engine import Store, open_store
from voicectl.memory.store.leases import LeaseHeld, Leases, LeaseState, open_leases
from voicectl.memory.sync import ledger, ledger_agents
from voicectl.memory.sync.backoff import Backoff
from voicectl.memory.sync.blocks import sync_blocks
from voicectl.memory.sync.mirror import APPEND_S, Later, Tools, sync_turns
from voicectl.memory.sync.null_keeper import NullModelKeeper
from voicectl.memory.sync.states import Signal, no_signal

log = logging.getLogger(__name__)

POLL_S = 0.5
ON_CALL_S = 2.0  # how often the blocks of customers on a call are read
SWEEP_S = 10.0  # how often, at most, those of anybody else
AT_ONCE = 8  # Letta is one Python process; more requests in flight only queue (letta.md 6)
LEASE_S = APPEND_S + 10.0  # Letta cannot check our fence, so a request must end well before the lease does
DRAIN_S = 12.0  # a request in flight at SIGTERM ends by then


@dataclass
class Figures:
    """What the syncer did so far."""

    turns: int = 0
    edits: int = 0
    errors: int = 0


@dataclass
class _Customer:
    backoff: Backoff = field(default_factory=Backoff)
    blocks_read_s: float = float("-inf")
    running: bool = False


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
        self._outage = Backoff()
        self._known = False  # the backend has answered since we started, or since it last failed
        self._customers: dict[str, _Customer] = {}
        self._seen_op = 0
        self._lock = threading.Lock()
        self.figures = Figures()

    def stop(self) -> None:
        """Take nothing new and finish what is under way."""
        self._stopping.set()

    def run(self) -> None:
        """Sync until `stop`; what is under way then is waited for, DRAIN_S seconds at most."""
        pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="sync")
        running: set[Future[None]] = set()
        while not self._stopping.wait(POLL_S):
            running = {f for f in running if not f.done()}
            try:
                for customer, turns, blocks in self._due(AT_ONCE - len(running)):
                    running.add(pool.submit(self._work, customer, turns=turns, blocks=blocks))
            except StoreUnavailable as e:
                log.warning("the store does not answer; waiting for it", extra={"why": e.reason})
        deadline = time.monotonic() + DRAIN_S
        while any(not f.done() for f in running) and time.monotonic() < deadline:
            time.sleep(0.05)
        pool.shutdown(wait=False, cancel_futures=True)

    def _due(self, room: int) -> list[tuple[str, bool, bool]]:
        """Customers to work on now, with what: turns, blocks."""
        if room <= 0 or not self._reachable():
            return []
        now = time.monotonic()
        turns = ledger.customers_with_work(self._store, 200)
        on_call = set(ledger.customers_on_a_call(self._store))
        changed, self._seen_op = ledger_agents.customers_with_changed_profile(self._store, self._seen_op)
        for customer in changed:
            self._state(customer).blocks_read_s = float("-inf")
        checked_before = now_ms() - round(SWEEP_S * 1000)
        # One a turn keeps an idle Letta idle; those that fail step aside by their back-off.
        old = ledger_agents.customers_to_check(self._store, checked_before, 50)
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

    def _reachable(self) -> bool:
        """Whether the backend is worth asking; after an outage one probe finds out."""
        if self._known:
            return True
        if not self._outage.due:
            return False
        try:
            health = self._backend.health()
        except BackendFault as e:
            if not self._outage.failing:
                log.warning("Letta does not answer; turns wait in the store", extra={"why": str(e)})
            self._outage.failed()
            return False
        self._outage.succeeded()
        self._known = True
        log.info("Letta answers", extra={"where": health.where, "version": health.version})
        return True

    def _work(self, customer: str, *, turns: bool, blocks: bool) -> None:
        state = self._state(customer)
        try:
            self._work_under_lease(customer, state, turns=turns, blocks=blocks)
            state.backoff.succeeded()
        except Later as e:
            state.backoff.wait(e.seconds)
        except LeaseHeld:
            state.backoff.wait(1.0)  # another syncer is at it
        except FencedOut as e:
            log.warning("lost a customer to another syncer", extra={"customer": hashed(customer), "why": str(e)})
            state.backoff.wait(1.0)
        except BackendUnavailable as e:
            with self._lock:
                if self._known:
                    log.warning("Letta does not answer; turns wait in the store", extra={"why": str(e)})
                    self._outage.failed()
                self._known = False
        except MemoryFault as e:
            self._failed(customer, state, str(e))
        except Exception as e:
            # A fault of ours must not stop the other customers; it is repeated with back-off and stays visible.
            log.exception("syncing a customer failed", extra={"customer": hashed(customer)})
            self._failed(customer, state, repr(e))
        finally:
            state.running = False

    def _failed(self, customer: str, state: _Customer, why: str) -> None:
        with self._lock:
            self.figures.errors += 1
        if not state.backoff.failing:
            log.warning("a customer waits", extra={"customer": hashed(customer), "why": why})
        state.backoff.failed()

    def _work_under_lease(self, customer: str, state: _Customer, *, turns: bool, blocks: bool) -> None:
        grant = self._leases.claim(f"customer:{customer}", self._name, LEASE_S, LeaseState.HELD)
        tools = Tools(
            self._store,
            self._backend,
            hide_names=self._hide_names,
            renew=lambda: void(self._leases.renew(grant, LEASE_S)),
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


def void(_value: object) -> None:
    """Drop a value where a function without one is wanted."""


def run(settings: MemorySettings, llm: LlmEndpoint | None = None) -> None:
    """Sync until SIGTERM or SIGINT. With the embedded backend there is nothing to do, and that until the signal too.

    Args:
        settings: The settings.
        llm: What agents answer operators with in Letta's ADE; None: they cannot.

    Raises:
        SettingError: No Letta server is named.
        StoreUnavailable: The store cannot be opened.
    """
    stopping = threading.Event()
    syncer: Syncer | None = None

    def stop(_number: int, _frame: object) -> None:
        stopping.set()
        if syncer is not None:
            syncer.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if settings.backend == "embedded":
        log.info("memory is in the store alone; nothing to mirror")
        stopping.wait()
        return
    if settings.letta_base_url is None:
        # Never the client's default, which is a cloud (letta.md 10).
        raise SettingError(
            "LETTA_BASE_URL", "nothing", "the address of a Letta server", "Run voicectl up, or MEMORY_BACKEND=embedded."
        )
    try:
        from voicectl.memory.backends.letta import LettaBackend
    except ModuleNotFoundError as e:
        remedy = "Install it: uv sync --extra letta; or do without: MEMORY_BACKEND=embedded."
        raise SettingError("MEMORY_BACKEND", "letta", f"the package {e.name} beside us", remedy) from e

    key = settings.letta_api_key.get_secret_value() if settings.letta_api_key else None
    store, leases = open_store(settings), open_leases(settings)
    keeper = NullModelKeeper(settings)
    backend = LettaBackend(settings.letta_base_url, key, keeper.url, llm)
    syncer = Syncer(store, leases, backend, hide_names=settings.hide_names)
    if stopping.is_set():
        syncer.stop()
    try:
        syncer.run()
    finally:
        keeper.close()
        backend.close()
        leases.close()
        store.close()
