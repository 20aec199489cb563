"""What the steps of syncing a customer share: the parts they work with, their time limits, and "not now".

Not here: the steps (mirror.py, settling.py, agents.py, blocks.py), who calls them (syncer.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from voicectl.memory.backends import Backend, BackendFault
from voicectl.memory.calls import now_ms
from voicectl.memory.store.engine import Store
from voicectl.memory.sync.states import Signal, no_signal

APPEND_S = 10.0  # after this a request to Letta is given up; the adapter's timeout is the same
ABSENCE_S = 5.0  # a thawing server answers look-ups before it runs an older request


class Later(Exception):
    """The customer cannot be finished now.

    Args:
        seconds: When to try again.
        why: What is waited for.
        fault: What the backend did, when that is the reason.
    """

    def __init__(self, seconds: float, why: str, fault: BackendFault | None = None) -> None:
        self.seconds, self.why, self.fault = seconds, why, fault
        super().__init__(f"again in {seconds:.1f} s: {why}")


@dataclass(frozen=True)
class Tools:
    """What syncing a customer needs.

    Args:
        store: The store.
        backend: The adapter.
        hide_names: Keep names out of descriptions.
        renew: Renews the customer's lease before each write; raises FencedOut, or Later when the syncer ends.
        signal: Called at each crash point.
        clock_ms: Milliseconds since 1970.
    """

    store: Store
    backend: Backend
    hide_names: bool = False
    renew: Callable[[], None] = lambda: None
    signal: Signal = no_signal
    clock_ms: Callable[[], int] = now_ms
