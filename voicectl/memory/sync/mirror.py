"""One customer's turns into Letta, each once and in order.

One batch is in flight at a time. Its intent is committed before the request; whatever ends without a clear answer is
settled first (settling.py). A turn that Letta refuses is found by sending one at a time, becomes a dead letter, and the
others go on. An ended call's markers are compared with the store's before it counts as done.
Not here: who holds the customer's lease and when to try again (syncer.py), the profile (blocks.py).
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import NoReturn

from voicectl.memory import desks
from voicectl.memory.backends import Ambiguous, BackendUnavailable, Failed, Message, NotThere, Rejected
from voicectl.memory.identity import hashed
from voicectl.memory.sync import foreign, ledger
from voicectl.memory.sync.agents import ensure_agent, is_lost, lost
from voicectl.memory.sync.ledger import CallRow
from voicectl.memory.sync.settling import settle, until
from voicectl.memory.sync.states import MirrorState, Point
from voicectl.memory.sync.tools import APPEND_S, Later, Tools
from voicectl.memory.sync.transcript import messages

log = logging.getLogger(__name__)

BATCH_TURNS = 50  # 100 messages in one request took 145 ms (letta.md 4)
FROZEN_MS = 2000  # between the intent and its request we stood still: somebody else may hold the customer by now
CONVERSATIONS = 2  # that may turn out unequal to the store until a person must look
LONE_TRIES = 8  # from BATCH_TURNS down to one turn are six; then it was tried alone
REFUSED_TURNS = 10  # of one call; more are no accident of single turns


def sync_turns(tools: Tools, customer: str) -> int:
    """Send what is not in Letta yet and complete ended calls. Returns how many turns were confirmed.

    Raises:
        Later: A batch must be settled first.
        BackendFault: Letta does not answer, or not as it should.
        FencedOut: Somebody else has the customer's lease.
        StoreUnavailable: The store does not answer.
    """
    generation = ledger.generation(tools.store, customer)
    if is_lost(tools, customer):
        ensure_agent(tools, customer)
    for batch in ledger.open_batches(tools.store, customer):
        settle(tools, batch)
    confirmed = 0
    for call in ledger.open_calls(tools.store, customer, generation):
        if call.again:
            _into_a_new_one(tools, call, "a person asked for another go", forgiven=True)
        try:
            confirmed += _send(tools, customer, call)
            if call.ended:
                _complete(tools, call)
        except NotThere as e:  # somebody deleted it, or Letta lost its database
            other = call.agent_id if call.conversation_id else desks.agent_for(tools.store, call.desk)
            if other:
                foreign.look(tools, call, other)
            lost(tools, customer)
            raise Later(0.5, f"looking what Letta still has: {e}") from e
    return confirmed


def _send(tools: Tools, customer: str, call: CallRow) -> int:
    buried = ledger.buried(tools.store, call.id)
    found = messages(call.id, ledger.rows(tools.store, call.id, call.mirrored_seq), call.mirrored_seq)
    waiting = [m for m in found if _seq(m) not in buried]
    if not waiting:
        return 0
    conversation = call.conversation_id or _conversation(tools, customer, call)
    confirmed = 0
    while waiting:
        # A batch that never gets an answer may be too much for one request: half as much each time.
        seq = _seq(waiting[0])
        absent = ledger.times_absent(tools.store, conversation, seq)
        if absent >= LONE_TRIES and ledger.stored_others_since(tools.store, conversation, seq):
            ledger.bury_turn(tools.store, call.id, seq, f"Letta did not store it in {absent} tries, and others it did")
            log.error("Letta does not store a turn; see: voicectl sync list", extra={"call": call.id, "seq": seq})
            waiting = waiting[1:]
            continue
        size = max(1, BATCH_TURNS >> absent)
        batch, waiting = waiting[:size], waiting[size:]
        sent = _send_batch(tools, call, conversation, batch)
        if sent is None:
            return confirmed
        confirmed += sent
    return confirmed


def _send_batch(tools: Tools, call: CallRow, conversation: str, batch: list[Message]) -> int | None:
    """Send turns in one request, or one by one if one of them is refused.

    Returns:
        How many are in Letta now; None when the customer was forgotten and nothing may be sent any more.
    """
    try:
        return _request(tools, call, conversation, batch)
    except Rejected as e:
        if len(batch) == 1:
            return _refused(tools, call, conversation, batch[0], e)
        log.warning("a batch was refused; sending its turns one by one", extra={"call": call.id, "why": e.why})
    confirmed = 0
    for message in batch:
        sent = _send_batch(tools, call, conversation, [message])
        if sent is None:
            return None
        confirmed += sent
    return confirmed


def _request(tools: Tools, call: CallRow, conversation: str, batch: list[Message]) -> int | None:
    tools.renew()
    deadline = tools.clock_ms() + round(APPEND_S * 1000)
    intent = ledger.intend(tools.store, call, conversation, _seq(batch[0]), _seq(batch[-1]), deadline)
    if intent is None:
        return None
    tools.signal(Point.INTENT_COMMITTED)
    if tools.clock_ms() > deadline - APPEND_S * 1000 + FROZEN_MS:
        ledger.absent(tools.store, intent)  # it was not sent, and if somebody settled it, it stays as settled
        raise Later(0.1, "this process stood still before it could send")
    try:
        tools.backend.append_turns(conversation, batch)
    except (BackendUnavailable, NotThere, Rejected):
        ledger.absent(tools.store, intent)  # it certainly was not stored
        raise
    except Ambiguous as e:
        log.warning("unclear whether turns arrived", extra={"call": call.id, "why": e.why})
        if isinstance(e, Failed):
            ledger.answered(tools.store, intent, tools.clock_ms())
            raise Later(0.5, e.why, e) from e
        raise Later(until(tools, intent), e.why, e) from e
    tools.signal(Point.POSTED)
    if not ledger.confirm(tools.store, intent):
        # We were frozen in the request, somebody else sent the turns meanwhile: they are there twice.
        ledger.suspect(tools.store, call.id)
        raise Later(0.1, "the batch had been settled by another syncer")
    tools.signal(Point.ACKNOWLEDGED)
    return len(batch)


def _refused(tools: Tools, call: CallRow, conversation: str, message: Message, first: Rejected) -> int | None:
    """One turn was refused: by a Letta that has all it needs, and a second time, it is the turn itself."""
    tools.backend.health()
    try:
        return _request(tools, call, conversation, [message])
    except Rejected as e:
        buried = ledger.buried(tools.store, call.id)
        if len(buried) >= REFUSED_TURNS:
            why = f"more than {REFUSED_TURNS} of its turns were refused, the last: {e.why}"
            ledger.close_call(tools.store, call, MirrorState.DEAD, why)
            log.error("call given up; its turns are safe in the store", extra={"call": call.id, "why": why})
            raise Later(0.5, "the call was given up") from first
        ledger.bury_turn(tools.store, call.id, _seq(message), f"Letta refused it: {e.why}")
        log.error(
            "Letta refuses a turn; it is safe in the store. See: voicectl sync list",
            extra={"call": call.id, "seq": _seq(message), "why": e.why, "length": len(message.text)},
        )
        return 0


def _conversation(tools: Tools, customer: str, call: CallRow) -> str:
    own = ensure_agent(tools, customer)  # also where the turns go elsewhere: there operators see the profile
    other = desks.agent_for(tools.store, call.desk)
    began = datetime.fromtimestamp(call.started_ms / 1000, UTC)
    # In a desk's agent lie everybody's calls. No name: what Letta deletes of a conversation it only hides.
    title = f"{call.desk}, {began:%Y-%m-%d %H:%M} UTC{f', customer {hashed(customer)}' if other else ''}"
    tools.renew()
    found = tools.backend.ensure_conversation(other or own, key_of(call), title)
    tools.signal(Point.CONVERSATION_CREATED)
    ledger.record_conversation(tools.store, call, found, other)
    return found


def key_of(call: CallRow) -> str:
    """By what the call's present conversation is found in Letta."""
    return call.id if call.attempt == 1 else f"{call.id}/{call.attempt}"


def _seq(message: Message) -> int:
    return int(message.marker.rpartition("#")[2])


def _complete(tools: Tools, call: CallRow) -> None:
    """Compare an ended call with its conversation, row by row."""
    buried = ledger.buried(tools.store, call.id)
    mirrored = [m for m in messages(call.id, ledger.rows(tools.store, call.id)) if _seq(m) not in buried]
    wanted = [(m.marker, m.role) for m in mirrored]
    conversation = ledger.conversation(tools.store, call.id)
    if wanted and conversation is None:
        return  # its customer was forgotten, or its turns wait
    tools.renew()
    found = [(m.marker, m.role) for m in tools.backend.list_turns(conversation)] if conversation else []
    if found != wanted:
        _into_a_new_one(tools, call, _difference(wanted, found), failed=True)
    ledger.close_call(tools.store, call, MirrorState.DONE)
    log.info("call complete in Letta", extra={"call": call.id, "turns": len(wanted)})


def _difference(wanted: list[tuple[str, str]], found: list[tuple[str, str]]) -> str:
    ours = {marker for marker, _ in wanted}
    markers = [marker for marker, _ in found if marker in ours]
    counts = {
        "missing": len(ours - set(markers)),
        "doubled": len(markers) - len(set(markers)),
        "not ours": len(found) - len(markers),
        "not shown": len([role for marker, role in found if marker in ours and role not in ("user", "assistant")]),
    }
    parts = ", ".join(f"{number} {what}" for what, number in counts.items())
    return f"{len(wanted)} turns wanted, {len(found)} found: {parts}"


def _into_a_new_one(tools: Tools, call: CallRow, why: str, *, failed: bool = False, forgiven: bool = False) -> NoReturn:
    """Give a conversation up for a new one with the whole call; the call itself when that did not help either.

    Raises:
        Later: Always.
    """
    if failed and call.failures + 1 >= CONVERSATIONS:
        ledger.close_call(tools.store, call, MirrorState.DEAD, why)
        log.error("call given up; its turns are safe in the store", extra={"call": call.id, "why": why})
        raise Later(0.5, "the call was given up")
    log.warning("call goes into a new conversation", extra={"call": call.id, "why": why})
    old = ledger.conversation(tools.store, call.id)
    if old is not None:
        tools.renew()
        tools.backend.drop_conversation(old)  # first: a crash after it finds it gone, not a second one beside it
    ledger.restart_call(tools.store, call.id, why, failed=failed, forgiven=forgiven)
    raise Later(0.5, "the call goes into a new conversation")
