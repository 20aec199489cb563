"""What a successor of a dead job does first: it has what was said, knows what was done, and owes what was not answered.

A result that nobody spoke is in the conversation as the tool's answer, and a question that nobody answered is answered;
otherwise the customer is told that the line was cut. An effect of which nothing is known is looked up by its key in the
business database before it is made again.
Not here: who is a successor (rooms/reconciler.py), how an effect is made once (once.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from livekit.agents.llm import ChatContext, FunctionCall, FunctionCallOutput

from voicectl.memory import effects, recall
from voicectl.memory.calls import Call
from voicectl.memory.effects import Effect, EffectState
from voicectl.memory.store.engine import Store

HISTORY_ITEMS = 20


@dataclass(frozen=True)
class Left:
    """What a dead job left.

    Args:
        history: What was said, and results that were not spoken.
        last_user_item: LiveKit's id of the customer's last turn; what tools do in answer to it is known by it.
        owes_answer: Nobody has answered that turn, or said what came of it.
        unknown: Effects that were begun; whether they were made is not known here.
    """

    history: ChatContext
    last_user_item: str | None
    owes_answer: bool
    unknown: tuple[Effect, ...]


def left_in(store: Store, call: Call) -> Left:
    """Read what the call's earlier job left; blocking.

    Raises:
        StoreUnavailable: The store did not answer.
    """
    said = recall.said_in(store, call.id, HISTORY_ITEMS)
    history = ChatContext.empty()
    for turn in said:
        role: Literal["user", "assistant"] = "user" if turn.role == "user" else "assistant"
        history.add_message(role=role, content=turn.text, created_at=turn.at_ms / 1000)
    unsettled = effects.unsettled(store, call.id)
    for effect in unsettled:
        if effect.state == EffectState.DONE:
            add_result(history, effect)
    users = [turn.item_id for turn in said if turn.role == "user"]
    unanswered = bool(said) and said[-1].role == "user"
    unknown = tuple(e for e in unsettled if e.state == EffectState.STARTED)
    return Left(history, users[-1] if users else None, unanswered or bool(unsettled), unknown)


def add_result(history: ChatContext, effect: Effect) -> None:
    """The model sees the call of the tool and its answer, as if its own job had made it."""
    made = FunctionCall(call_id=f"call_{effect.key[:24]}", name=effect.tool, arguments=effect.arguments)
    answer = FunctionCallOutput(call_id=made.call_id, name=effect.tool, output=effect.result, is_error=False)
    history.insert([made, answer])
