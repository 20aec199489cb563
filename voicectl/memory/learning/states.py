"""What a memory step can be, and the points at which a crash is tried.

    (no row) ──intent──▶ RUNNING ──applied──▶ DONE
                          │  ▲
              failed, call began │ due, or its holder is gone
                          ▼  │
                        WAITING ──too often──▶ DEAD ──voicectl sync retry──▶ WAITING

Only who holds the customer's lease moves it, and only with the attempt that it began itself.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum, StrEnum


class StepState(StrEnum):
    """Where the memory step of a call is (`memory_steps.state`). A call without a row has not been tried."""

    RUNNING = "running"  # an attempt began. A crash leaves it: who has the lease next begins another attempt
    WAITING = "waiting"  # for `due_ms`, after a failure, or because a call began. Due → RUNNING
    DONE = "done"  # its effect and `calls.learnt` were committed with this. Final
    DEAD = "dead"  # failed too often; `why` says how. voicectl sync retry → WAITING


class Learnt(IntEnum):
    """Whether the words of a call have been learnt from (`calls.learnt`)."""

    NO = 0  # its step is due when it has ended, if the customer said something
    YES = 1  # with a step that is DONE
    PASSED_OVER = 2  # it ended long before memory steps were on: not due. voicectl sync retry CUSTOMER → NO


class Point(StrEnum):
    """Where a crash would leave something half done; a test kills the process there."""

    INTENT_COMMITTED = "intent committed"  # nobody was asked: another attempt
    COPY_MADE = "copy made"  # `agent`: in Letta, not in the store: found by its title and deleted
    COPY_NOTED = "copy noted"  # `agent`: in the store, agent not asked: deleted, another attempt
    ANSWERED = "answered"  # the model has answered, nothing was applied: another attempt
    APPLYING = "applying"  # inside the transaction: rolled back, another attempt
    APPLIED = "applied"  # done; `agent`: the conversation is left and deleted by the next who looks


Signal = Callable[[Point], None]


def no_signal(_point: Point) -> None:
    """What happens at a point when nobody is testing."""
