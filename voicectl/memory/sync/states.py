"""What a batch, a call and a conversation can be on the way to Letta, and the points at which a crash is tried.

Only a syncer that holds the customer's lease moves these.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class MirrorState(StrEnum):
    """Where a call is on its way to Letta (`calls.mirror`)."""

    OPEN = "open"  # turns are still to come or to be sent. Ended, sent, compared and equal → DONE; twice not → DEAD
    AGAIN = "again"  # a person asked for another go: its conversation is dropped, then OPEN from the first turn
    DONE = "done"  # Letta's list of markers equals the store's. Letta lost it, or a late request doubled it → OPEN
    DEAD = "dead"  # needs a person: dead_letters says why. Nothing more is sent. voicectl sync retry → AGAIN


class LetterState(StrEnum):
    """What a person has decided about a turn or call that Letta does not take (`dead_letters.state`)."""

    DEAD = "dead"  # nothing yet. voicectl sync retry removes the row; voicectl sync drop → DROPPED
    DROPPED = "dropped"  # it stays in the store alone, on purpose. retry still removes the row


class Outage(StrEnum):
    """What keeps turns from being mirrored (`sync_status.state`)."""

    UP = "up"  # nothing
    DOWN = "down"  # Letta does not answer, or errs
    MODEL = "model"  # Letta answers; the model behind it refuses, is limited or silent
    FAILING = "failing"  # of one customer: tried again with longer and longer waits


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
