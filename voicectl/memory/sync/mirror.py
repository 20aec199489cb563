"""One customer's turns into Letta, each once and in order.

One batch is in flight at a time. Its intent is committed before the request; whatever ends without a clear answer is
settled by looking for the batch's last marker, and sent again only when two look-ups, ABSENCE_S apart and after the
request's deadline, did not find it. An ended call's markers are compared with the store's before it counts as done.
Not here: who holds the customer's lease and when to try again (syncer.py), the profile (blocks.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn

from voicectl.memory.backends import Ambiguous, Backend, BackendUnavailable, Message, NotThere, Rejected
from voicectl.memory.calls import now_ms
from voicectl.memory.identity import hashed
from voicectl.memory.profile import lines
from voicectl.memory.store.engine import Store
from voicectl.memory.sync import ledger, ledger_agents
from voicectl.memory.sync.ledger import Batch, CallRow
from voicectl.memory.sync.states import MirrorState, Point, Signal, no_signal
from voicectl.memory.sync.text import agent_spec
from voicectl.memory.sync.transcript import marker, messages

log = logging.getLogger(__name__)

BATCH_TURNS = 50  # 100 messages in one request took 145 ms (letta.md 4)
APPEND_S = 10.0  # after this a request to Letta is given up; the adapter's timeout is the same
ABSENCE_S = 5.0  # a thawing server answers look-ups before it runs an older request
ATTEMPTS = 2  # conversations a call may take until a person must look


class Later(Exception):
    """The customer cannot be finished now.

    Args:
        seconds: When to try again.
        why: What is waited for.
    """

    def __init__(self, seconds: float, why: str) -> None:
        self.seconds, self.why = seconds, why
        super().__init__(f"again in {seconds:.1f} s: {why}")


@dataclass(frozen=True)
class Tools:
    """What syncing a customer needs.

    Args:
        store: The store.
        backend: The adapter.
        hide_names: Keep names out of descriptions.
        renew: Renews the customer's lease, or raises FencedOut.
        signal: Called at each crash point.
        clock_ms: Milliseconds since 1970.
    """

    store: Store
    backend: Backend
    hide_names: bool = False
    renew: Callable[[], None] = lambda: None
    signal: Signal = no_signal
    clock_ms: Callable[[], int] = now_ms


def sync_turns(tools: Tools, customer: str) -> int:
    """Send what is not in Letta yet and complete ended calls. Returns how many turns were confirmed.

    Raises:
        Later: A batch must be settled first.
        BackendFault: Letta does not answer, or not as it should.
        FencedOut: Somebody else has the customer's lease.
        StoreUnavailable: The store does not answer.
    """
    generation = ledger.generation(tools.store, customer)
    for batch in ledger.open_batches(tools.store, customer):
        settle(tools, batch)
    confirmed = 0
    for call in ledger.open_calls(tools.store, customer, generation):
        waiting = messages(call.id, ledger.rows(tools.store, call.id, call.mirrored_seq), call.mirrored_seq)
        if waiting:
            confirmed += _send(tools, customer, call, waiting)
        if call.ended:
            _complete(tools, customer, call)
    return confirmed


def ensure_agent(tools: Tools, customer: str) -> str:
    """The customer's agent in Letta, recorded in the store; its id.

    Raises:
        Later: Another syncer recorded another one, or the customer was forgotten: look again.
    """
    generation = ledger.generation(tools.store, customer)
    spec = agent_spec(customer, generation, lines(tools.store, customer), hide_names=tools.hide_names)
    known = ledger_agents.agent(tools.store, customer)
    model = tools.backend.model()
    if known is not None and known.agent_id is not None and known.generation == generation:
        if (known.description, known.model) != (spec.description, model):
            try:
                tools.backend.describe(known.agent_id, spec.description)
            except NotThere:
                ledger_agents.lose_agent(tools.store, customer)
                return ensure_agent(tools, customer)
            ledger_agents.described(tools.store, customer, model=model, description=spec.description)
        return known.agent_id
    agent = tools.backend.ensure_agent(spec)
    tools.signal(Point.AGENT_CREATED)
    recorded = ledger_agents.record_agent(
        tools.store, customer, generation, agent, model=model, description=spec.description, texts=spec.blocks
    )
    if not recorded:
        raise Later(1.0, "the customer's agent was recorded by somebody else, or the customer was forgotten")
    log.info("agent in Letta", extra={"customer": hashed(customer), "agent": agent.id, "new": agent.created})
    return agent.id


def _send(tools: Tools, customer: str, call: CallRow, waiting: list[Message]) -> int:
    confirmed = 0
    try:
        conversation = call.conversation_id or _conversation(tools, customer, call)
        while waiting:
            batch, waiting = waiting[:BATCH_TURNS], waiting[BATCH_TURNS:]
            if not _send_batch(tools, call, conversation, batch):
                return confirmed
            confirmed += len(batch)
    except NotThere as e:  # somebody deleted the agent or the conversation in Letta
        ledger_agents.lose_agent(tools.store, customer)
        _into_a_new_one(tools, call, str(e))
    return confirmed


def _send_batch(tools: Tools, call: CallRow, conversation: str, batch: list[Message]) -> bool:
    """Send one batch; False when the customer was forgotten and nothing may be sent any more."""
    first, last = (int(m.marker.rpartition("#")[2]) for m in (batch[0], batch[-1]))
    tools.renew()
    deadline = tools.clock_ms() + round(APPEND_S * 1000)
    intent = ledger.intend(tools.store, call, conversation, first, last, deadline)
    if intent is None:
        return False
    tools.signal(Point.INTENT_COMMITTED)
    try:
        tools.backend.append_turns(conversation, batch)
    except (BackendUnavailable, NotThere):
        ledger.absent(tools.store, intent)  # it certainly was not stored
        raise
    except Rejected as e:
        ledger.absent(tools.store, intent)
        _into_a_new_one(tools, call, str(e))
    except Ambiguous as e:
        log.warning("unclear whether turns arrived", extra={"call": call.id, "why": e.why})
        raise Later(_until(tools, intent), e.why) from e
    tools.signal(Point.POSTED)
    ledger.confirm(tools.store, intent)
    tools.signal(Point.ACKNOWLEDGED)
    return True


def _conversation(tools: Tools, customer: str, call: CallRow) -> str:
    agent_id = ensure_agent(tools, customer)
    began = datetime.fromtimestamp(call.started_ms / 1000, UTC)
    key = call.id if call.attempt == 1 else f"{call.id}/{call.attempt}"
    tools.renew()
    found = tools.backend.ensure_conversation(agent_id, key, f"{call.desk}, {began:%Y-%m-%d %H:%M} UTC")
    tools.signal(Point.CONVERSATION_CREATED)
    ledger.record_conversation(tools.store, call, found)
    return found


def _until(tools: Tools, batch: Batch) -> float:
    return max(0.1, (batch.deadline_ms - tools.clock_ms()) / 1000)


def settle(tools: Tools, batch: Batch) -> None:
    """Find out what became of a batch.

    Raises:
        Later: It is too early to say that it never arrived.
        BackendUnavailable: Letta does not answer; what was seen before does not count any more.
    """
    try:
        there = tools.backend.has_marker(batch.conversation_id, marker(batch.call_id, batch.last_seq))
    except BackendUnavailable:
        if batch.absent_ms is not None:
            ledger.absent_since(tools.store, batch, None)
        raise
    except NotThere:
        there = False  # with its conversation; sending it finds that out
    now = tools.clock_ms()
    if there:
        log.info("turns had arrived", extra={"call": batch.call_id, "seq": batch.last_seq})
        ledger.confirm(tools.store, batch)
    elif now < batch.deadline_ms:
        raise Later(_until(tools, batch), "the request may still be under way")
    elif batch.absent_ms is None:
        ledger.absent_since(tools.store, batch, now)
        raise Later(ABSENCE_S, "not found; looking once more")
    elif now - batch.absent_ms < ABSENCE_S * 1000:
        raise Later(ABSENCE_S - (now - batch.absent_ms) / 1000, "not found; looking once more")
    else:
        log.warning("turns had not arrived, sending again", extra={"call": batch.call_id, "seq": batch.last_seq})
        ledger.absent(tools.store, batch)


def _complete(tools: Tools, customer: str, call: CallRow) -> None:
    """Compare an ended call with its conversation, row by row."""
    wanted = [(m.marker, m.role) for m in messages(call.id, ledger.rows(tools.store, call.id))]
    conversation = ledger.conversation(tools.store, call.id)
    if wanted and conversation is None:
        return  # its customer was forgotten, or its turns wait
    try:
        found = [(m.marker, m.role) for m in tools.backend.list_turns(conversation)] if conversation else []
    except NotThere as e:
        ledger_agents.lose_agent(tools.store, customer)
        _into_a_new_one(tools, call, str(e))
    if found != wanted:
        _into_a_new_one(tools, call, _difference(wanted, found))
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


def _into_a_new_one(tools: Tools, call: CallRow, why: str) -> NoReturn:
    """Give a conversation up for a new one with the whole call; the call itself when that did not help either.

    Raises:
        Later: Always.
    """
    if call.attempt >= ATTEMPTS:
        ledger.close_call(tools.store, call, MirrorState.DEAD, why)
        log.error("call given up; its turns are safe in the store", extra={"call": call.id, "why": why})
        raise Later(0.5, "the call was given up")
    log.warning("call goes into a new conversation", extra={"call": call.id, "why": why})
    old = ledger.conversation(tools.store, call.id)
    if old is not None:
        tools.backend.drop_conversation(old)
    ledger.restart_call(tools.store, call, why)
    raise Later(0.5, "the call goes into a new conversation")
