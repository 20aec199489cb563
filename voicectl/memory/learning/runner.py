"""The loop that takes memory steps: in threads of its own, beside the mirroring and never on the reply path.

    Learner(store, leases, llm, settings, backend).run()      until `stop`

A step holds the lease `customer:<key>` as the mirroring does, so two writers never meet. The local model belongs to
calls: a step with it begins after QUIET_S without any call, gives way within a second when one begins, and is begun
again later. Not here: what a step is (step.py), which calls are due (due.py).
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from voicectl.memory import own_calls
from voicectl.memory.backends import Backend, BackendFault, LlmEndpoint
from voicectl.memory.errors import FencedOut, MemoryFault, StoreUnavailable
from voicectl.memory.identity import hashed
from voicectl.memory.learning import due
from voicectl.memory.learning.due import Due
from voicectl.memory.learning.proposal import GaveWay, ModelFailed
from voicectl.memory.learning.states import Signal, no_signal
from voicectl.memory.learning.step import Asking, clear, take
from voicectl.memory.learning.strategy import Chosen, Strategy
from voicectl.memory.store.engine import Store
from voicectl.memory.store.leases import Grant, LeaseHeld, Leases, LeaseState

log = logging.getLogger(__name__)

POLL_S = 1.0
QUIET_S = 10.0  # with the local model: a caller who calls back at once must not find it busy
AT_ONCE = 4  # with a model elsewhere; the local one takes one at a time
LEASE_S = 15.0
RENEW_S = 3.0
DEAD_S = 10.0  # how often calls of programs that have died are looked for
DRAIN_S = 2.0  # a question is taken back within a fifth of a second; what Letta still does is settled by the next


class Learner:
    """The loop. `run` returns after `stop`.

    Args:
        store: The store.
        leases: The leases.
        chosen: The strategy in force.
        llm: The language model; None: nothing is learnt.
        backend: Letta; only for `agent`.
        quiet_s: How long no call must have been, with the local model.
        signal: Called at each crash point; for tests.
    """

    def __init__(
        self,
        store: Store,
        leases: Leases,
        chosen: Chosen,
        llm: LlmEndpoint | None,
        backend: Backend | None = None,
        *,
        quiet_s: float = QUIET_S,
        signal: Signal = no_signal,
    ) -> None:
        self._store, self._leases, self._backend = store, leases, backend
        self._chosen, self._llm, self._quiet_s = chosen, llm, quiet_s
        self._signal = signal
        self._name = f"learner-{os.getpid()}-{secrets.token_hex(3)}"
        self._stopping = threading.Event()
        self._busy: set[str] = set()
        self._ended_s = float("-inf")  # when calls of dead programs were last looked for
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Take nothing new and take questions back that are under way."""
        self._stopping.set()

    def run(self) -> None:
        """Take steps until `stop`."""
        if self._llm is None or self._chosen.strategy == Strategy.OFF:
            log.info("nothing is learnt after calls", extra={"why": self._chosen.why})
            noted = False
            while not self._stopping.wait(POLL_S):
                self._end_dead()
                with suppress(StoreUnavailable):
                    noted = noted or due.switched_off(self._store)
            return
        log.info("memory steps", extra={"strategy": self._chosen.strategy, "why": self._chosen.why})
        asking = Asking(
            self._chosen.strategy,
            self._llm,
            self._backend,
            give_way=self._give_way(self._llm),
            signal=self._signal,
        )
        running: list[threading.Thread] = []
        noted = False
        while not self._stopping.wait(POLL_S):
            self._end_dead()
            running = [t for t in running if t.is_alive()]
            try:
                if not noted:
                    passed, noted = due.switched_on(self._store), True
                    if passed:
                        log.info("old calls are not learnt from", extra={"calls": passed})
                for call in self._due(1 if self._llm.local else AT_ONCE, len(running)):
                    work = threading.Thread(
                        target=self._work, args=(call, asking), name=f"learn-{call.call_id}", daemon=True
                    )
                    work.start()
                    running.append(work)
                if self._backend is not None and not running:
                    clear(self._store, self._backend)
            except StoreUnavailable as e:
                log.warning("the store does not answer; waiting for it", extra={"why": e.reason})
        deadline = time.monotonic() + DRAIN_S
        for work in running:
            work.join(max(0.0, deadline - time.monotonic()))

    def _end_dead(self) -> None:
        """A call whose program died must not keep the local model waiting, and is learnt from."""
        if time.monotonic() - self._ended_s < DEAD_S:
            return
        self._ended_s = time.monotonic()
        with suppress(StoreUnavailable):
            own_calls.end_dead(self._store)

    def _due(self, most: int, running: int) -> list[Due]:
        room = most - running
        if room <= 0 or not self._may_begin():
            return []
        with self._lock:
            found = [d for d in due.due(self._store, most + len(self._busy)) if d.customer not in self._busy][:room]
            self._busy |= {d.customer for d in found}
        return found

    def _may_begin(self) -> bool:
        return self._llm is None or not self._llm.local or due.quiet(self._store, self._quiet_s)

    def _give_way(self, llm: LlmEndpoint) -> Callable[[], bool]:
        """Whether a question under way is to be taken back."""

        def give_way() -> bool:
            if self._stopping.is_set():
                return True
            try:
                return llm.local and not due.quiet(self._store, 0.0)
            except StoreUnavailable:
                return True  # whether somebody calls cannot be known

        return give_way

    def _work(self, call: Due, asking: Asking) -> None:
        try:
            with self._lease(call.customer) as lost:
                taken = take(self._store, call, replace(asking, give_way=lambda: lost.is_set() or asking.give_way()))
            if taken is not None:
                log.info(
                    "learnt from a call",
                    extra={
                        "call": call.call_id,
                        "customer": hashed(call.customer),
                        "lines": len(taken.operations),
                        "refused": len(taken.refused),
                    },
                )
                for refusal in taken.refused:
                    log.info("not learnt", extra={"call": call.call_id, "why": refusal.why})
        except GaveWay:
            log.info("a memory step gave way", extra={"call": call.call_id})
        except (LeaseHeld, FencedOut):
            pass  # its turns are being mirrored, or another process is at it: the next look finds it again
        except (ModelFailed, BackendFault) as e:
            log.warning("a memory step failed", extra={"call": call.call_id, "why": str(e)})
        except StoreUnavailable as e:
            log.warning("the store does not answer; waiting for it", extra={"why": e.reason})
        except MemoryFault as e:
            log.error("a memory step failed", extra={"call": call.call_id, "why": str(e)})
        except Exception:
            # A fault of ours must not stop the others; the step has counted it and comes to an end.
            log.exception("a memory step failed", extra={"call": call.call_id})
        finally:
            with self._lock:
                self._busy.discard(call.customer)

    @contextmanager
    def _lease(self, customer: str) -> Iterator[threading.Event]:
        """Hold the customer while the body runs; the event says that somebody else does."""
        grant = self._leases.claim(f"customer:{customer}", self._name, LEASE_S, LeaseState.HELD)
        over, lost = threading.Event(), threading.Event()
        renewing = threading.Thread(target=self._renew, args=(grant, over, lost), name="learn-lease", daemon=True)
        renewing.start()
        try:
            yield lost
        finally:
            over.set()
            renewing.join()
            if not lost.is_set():
                self._leases.release(grant)

    def _renew(self, grant: Grant, over: threading.Event, lost: threading.Event) -> None:
        while not over.wait(RENEW_S):
            try:
                self._leases.renew(grant, LEASE_S)
            except FencedOut:
                lost.set()
                return
            except StoreUnavailable:
                continue  # the next renewal comes before it runs out, or another one takes the customer
