"""What became of a batch whose answer we did not get: looked up, never guessed.

A batch is absent when two look-ups, ABSENCE_S apart, after the request's deadline and on a server that answered
throughout, did not find its last marker. Only then may its turns be sent again: into the same conversation, or, while
Letta still lists a run of it, into a new one, where the old run's turns cannot come between.
Not here: sending (mirror.py).
"""

from __future__ import annotations

import logging

from voicectl.memory.backends import BackendUnavailable, NotThere
from voicectl.memory.sync import ledger
from voicectl.memory.sync.ledger import Batch
from voicectl.memory.sync.tools import ABSENCE_S, Later, Tools
from voicectl.memory.sync.transcript import marker

log = logging.getLogger(__name__)

# A run shows its turns only when it ends, and that of a killed server never does. Turns that come later than this end
# in a conversation that was deleted; Letta does not delete what is added to one afterwards.
GHOST_S = 30.0


def settle(tools: Tools, batch: Batch) -> None:
    """Find out what became of a batch.

    Raises:
        Later: It is too early to say that it never arrived.
        BackendUnavailable: Letta does not answer; what was seen before does not count any more.
    """
    there = _there(tools, batch)
    now = tools.clock_ms()
    if there:
        _arrived(tools, batch)
    elif now < batch.deadline_ms:
        raise Later(until(tools, batch), "the request may still be under way")
    elif batch.absent_ms is None:
        ledger.absent_since(tools.store, batch, now)
        raise Later(ABSENCE_S, "not found; looking once more")
    elif now - batch.absent_ms < ABSENCE_S * 1000:
        raise Later(ABSENCE_S - (now - batch.absent_ms) / 1000, "not found; looking once more")
    elif not _busy(tools, batch):
        # Looked at once more: the run may have ended between the first look and this.
        if _there(tools, batch):
            _arrived(tools, batch)
            return
        log.warning("turns had not arrived, sending again", extra={"call": batch.call_id, "seq": batch.last_seq})
        ledger.absent(tools.store, batch)
    elif now < batch.deadline_ms + GHOST_S * 1000:
        raise Later(ABSENCE_S, "not found, and its run has not ended")
    else:
        # Its model may hang, or the server was killed and the run is a ghost: from outside nobody can tell.
        why = "a request to its conversation never came to an end"
        log.warning("call goes into a new conversation", extra={"call": batch.call_id, "why": why})
        tools.renew()
        tools.backend.drop_conversation(batch.conversation_id)
        ledger.restart_call(tools.store, batch.call_id, why)


def _there(tools: Tools, batch: Batch) -> bool:
    try:
        return tools.backend.has_marker(batch.conversation_id, marker(batch.call_id, batch.last_seq))
    except BackendUnavailable:
        _forget_looks(tools, batch)
        raise
    except NotThere:
        return False  # with its conversation; sending it finds that out


def _busy(tools: Tools, batch: Batch) -> bool:
    try:
        return tools.backend.busy(batch.conversation_id)
    except BackendUnavailable:
        _forget_looks(tools, batch)
        raise


def _forget_looks(tools: Tools, batch: Batch) -> None:
    """Only a server that answered throughout can say that something is absent."""
    if batch.absent_ms is not None:
        ledger.absent_since(tools.store, batch, None)


def _arrived(tools: Tools, batch: Batch) -> None:
    log.info("turns had arrived", extra={"call": batch.call_id, "seq": batch.last_seq})
    if not ledger.confirm(tools.store, batch):
        ledger.suspect(tools.store, batch.call_id)


def until(tools: Tools, batch: Batch) -> float:
    """Seconds until the request is certainly over."""
    return max(0.1, (batch.deadline_ms - tools.clock_ms()) / 1000)
