"""One memory step of one call: intent, question, effect; each committed before the next begins.

    result = learn(store, call_id, Asking(Strategy.EXTRACT, llm))
    result.operations, result.refused

Whoever calls this holds the customer's lease, or is alone (a test, an evaluation). Not here: which call is due and what
happens when it fails (runner.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import select

from voicectl.memory.backends import Backend, BackendFault, BackendUnavailable, LlmEndpoint
from voicectl.memory.errors import CallOver, MemoryFault, StoreUnavailable
from voicectl.memory.learning import agent, due, extract, sentences
from voicectl.memory.learning.applying import Taken, apply
from voicectl.memory.learning.due import Due, Intent
from voicectl.memory.learning.proposal import GaveWay, ModelFailed, Proposal
from voicectl.memory.learning.states import Point, Signal, no_signal
from voicectl.memory.learning.strategy import Strategy
from voicectl.memory.lines import Block
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import calls

ANSWER_S = 60.0  # for one request; a large model needs 5 to 20 s for a call
UNAVAILABLE_S = 30.0  # Letta is away, which may take as long as it takes
LOCAL_MODEL = "the local model"


@dataclass(frozen=True)
class Asking:
    """How a step is taken.

    Args:
        strategy: EXTRACT or AGENT.
        llm: The language model; for AGENT the one behind Letta, for the log.
        backend: Letta; only for AGENT.
        answer_s: How long one request may take, in seconds.
        give_way: Whether to stop now.
        signal: Called at each crash point; for tests.
    """

    strategy: Strategy
    llm: LlmEndpoint
    backend: Backend | None = None
    answer_s: float = ANSWER_S
    give_way: Callable[[], bool] = lambda: False
    signal: Signal = no_signal

    @property
    def model(self) -> str:
        """What the log calls the model."""
        return LOCAL_MODEL if self.llm.local else self.llm.model or "the language model"


def learn(store: Store, call_id: str, asking: Asking) -> Taken | None:
    """Take the memory step of a call that has ended, now and whatever has failed before.

    Args:
        store: The store.
        call_id: The call.
        asking: How.

    Returns:
        What was learnt and what was refused; None when there was nothing to do: learnt already, or not a word of the
        customer's.

    Raises:
        CallOver: There is no such call.
        ModelFailed: The model gave nothing that can be used; the step is as before.
        BackendFault: Letta did not.
        GaveWay: `give_way` said so.
        StoreUnavailable: Nothing was changed.
    """
    with store.read() as connection:
        customer = connection.execute(select(calls.c.customer).where(calls.c.id == call_id)).scalar()
    if customer is None:
        raise CallOver(call_id, "unknown")
    return take(store, Due(call_id, str(customer)), asking)


def take(store: Store, chosen: Due, asking: Asking) -> Taken | None:
    """As `learn`, of a call that is due; failures are written down for `due` and raised all the same."""
    intent = due.begin(store, chosen, asking.strategy, asking.model, asking.answer_s)
    if intent is None:
        return None
    try:
        asking.signal(Point.INTENT_COMMITTED)
        proposal = _propose(store, intent, asking)
        asking.signal(Point.ANSWERED)
        taken = apply(store, intent, proposal, asking.signal)
    except GaveWay as e:
        due.put_off(store, intent, e.why, e.wait_s)
        raise
    except BackendUnavailable as e:
        due.put_off(store, intent, str(e), UNAVAILABLE_S)
        raise
    except StoreUnavailable:
        raise  # nothing can be written down; the next attempt finds this one where it stopped
    except MemoryFault as e:
        due.failed(store, intent, str(e))
        raise
    except Exception as e:
        due.failed(store, intent, f"a fault of ours: {type(e).__name__}")
        raise
    asking.signal(Point.APPLIED)
    if asking.backend is not None and asking.strategy == Strategy.AGENT:
        clear(store, asking.backend, chosen.call_id)
    return taken


def _propose(store: Store, intent: Intent, asking: Asking) -> Proposal:
    if asking.strategy == Strategy.AGENT:
        if asking.backend is None:
            raise ModelFailed("there is no Letta to ask")
        return agent.edit_copies(store, asking.backend, intent, asking.answer_s, asking.give_way, asking.signal)
    known = [line.text for line in intent.base if line.block == Block.PROFILE]
    read = sentences.extract if asking.llm.local else extract.extract
    return read(asking.llm, intent.said, known, asking.answer_s, asking.give_way)


def clear(store: Store, backend: Backend, call_id: str | None = None) -> None:
    """Delete from Letta what steps that are over have left there; what cannot be deleted now stays noted."""
    for left, _customer, conversation_id in due.left_in_letta(store):
        if call_id not in (None, left):
            continue
        try:
            backend.drop_conversation(conversation_id)
        except BackendFault:
            continue  # the runner comes by again
        due.copy_dropped(store, left, conversation_id)
