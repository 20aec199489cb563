"""What a batch, a call and a conversation can be on the way to Letta, and the points at which a crash is tried.

Only a syncer that holds the customer's lease moves these.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class MirrorState(StrEnum):
    """Where a call is on its way to Letta (`calls.mirror`)."""

    OPEN = "open"  # turns are still to come or to be sent. Ended, sent, compared and equal → DONE; twice not → DEAD
    DONE = "done"  # Letta's list of markers equals the store's. Final
    DEAD = "dead"  # needs a person: letta_conversations.last_error says why. Nothing more is sent


class BatchState(StrEnum):
    """Some turns of a call in one request. A crash leaves SENT: mirror.settle decides what became of it."""

    SENT = "sent"  # committed before the request; answer unknown. Marker found → CONFIRMED; absent → ABSENT
    CONFIRMED = "confirmed"  # Letta said so, or the marker was found; the cursor moved in the same transaction. Final
    ABSENT = "absent"  # it never arrived; its turns go out again in a batch of their own. Final
    VOID = "void"  # its conversation was given up for a new one. Final


NEXT: dict[BatchState, tuple[BatchState, ...]] = {
    BatchState.SENT: (BatchState.CONFIRMED, BatchState.ABSENT, BatchState.VOID),
    BatchState.CONFIRMED: (BatchState.VOID,),
    BatchState.ABSENT: (),
    BatchState.VOID: (),
}


class Mode(StrEnum):
    """How a conversation's turns are stored; fixed when it is created."""

    NULL_MODEL = "null"  # in batches while the call is on, by a model that adds nothing


class Point(StrEnum):
    """Where a crash would leave something half done; a test stops or kills the syncer there."""

    AGENT_CREATED = "agent created"  # in Letta, not in the store: found by tag
    CONVERSATION_CREATED = "conversation created"  # in Letta, not in the store: found by its title
    INTENT_COMMITTED = "intent committed"  # batch SENT, request not sent: marker absent, sent again
    POSTED = "posted"  # in Letta, batch SENT: marker found
    ACKNOWLEDGED = "acknowledged"  # batch CONFIRMED, cursor moved
    EDITS_LOGGED = "edits logged"  # Letta's edits are in the profile, the block's base is old: the same edits again
    BLOCK_INTENT = "block intent"  # `sending` committed, block not put
    BLOCK_PUT = "block put"  # in Letta, `exchanged` is old: recognised by `sending`


Signal = Callable[[Point], None]


def no_signal(_point: Point) -> None:
    """What happens at a point when nobody is testing."""
