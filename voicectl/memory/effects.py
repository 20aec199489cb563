"""Tools with effects: `started` is committed before the effect and `done` with its result after it.

A successor of a killed job sees what was begun and does it at most once: done = say the result; started = ask the
business database by the key, which is unique there too. The framework's own event comes after all tools and the speech
before them, which is too late.

    effect = effects.begin(store, call, turn_item, "place_order", {"dish": "pizza"})
    if effect.ours:
        effects.done(store, call, effect, orders.place(key=effect.key, dish="pizza"))

Not here: the tools (voice/agents/), that a call's tools run one after the other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, exists, select, update

from voicectl.memory.calls import Call, CallState, now_ms
from voicectl.memory.errors import CallOver, FencedOut
from voicectl.memory.identity import clean
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import calls, tool_effects, turns
from voicectl.memory.turns import Role, row_id


class EffectState(StrEnum):
    """Where an effect is. Only the job that holds the call moves it."""

    STARTED = "started"  # about to be made, or made. Job → DONE or FAILED; crash: ask the business database by the key
    DONE = "done"  # made; the result is known. Final; a crash before it was spoken: the successor says it
    FAILED = "failed"  # certainly not made. Job that tries again → STARTED


@dataclass(frozen=True)
class Effect:
    """One effect of one tool in one turn."""

    key: str  # unique in the business database too
    call_id: str
    tool: str
    arguments: str  # canonical JSON
    state: EffectState
    result: str
    ours: bool = False  # nobody has begun it: the caller makes it now


def canonical(arguments: Mapping[str, Any]) -> str:
    """Arguments as text that does not depend on their order."""
    return json.dumps(arguments, sort_keys=True, separators=(",", ":"), default=str)


def key_of(call_id: str, turn_item: str, tool: str, arguments: Mapping[str, Any]) -> str:
    """What makes an effect this one: call, the customer's turn, tool, arguments."""
    parts = json.dumps([call_id, row_id(turn_item), tool, canonical(arguments)])
    return hashlib.sha256(parts.encode()).hexdigest()


def begin(store: Store, call: Call, turn_item: str, tool: str, arguments: Mapping[str, Any]) -> Effect:
    """Note that an effect is about to be made; durable on return.

    Args:
        store: Where it is kept.
        call: The call, with the fence that may write it.
        turn_item: LiveKit's id of the customer's turn that led to it.
        tool: The tool's name.
        arguments: What it was called with.

    Returns:
        The effect. With `ours` the caller makes it now; without, it was begun before: its state says how far it came.

    Raises:
        FencedOut: Another job has the call.
        CallOver: It has ended.
        StoreUnavailable: Nothing was noted; do not make the effect.
    """
    key = key_of(call.id, turn_item, tool, arguments)
    with store.write() as connection:
        last_seq = _holding(connection, call)
        row = connection.execute(select(tool_effects).where(tool_effects.c.key == key)).first()
        if row is not None and row.state != EffectState.FAILED:
            return _effect(row)
        if row is not None:
            connection.execute(
                update(tool_effects).where(tool_effects.c.key == key).values(state=EffectState.STARTED, result="")
            )
            return replace(_effect(row), state=EffectState.STARTED, result="", ours=True)
        new = {"key": key, "call_id": call.id, "tool": clean(tool)[:100], "arguments": clean(canonical(arguments))}
        state = EffectState.STARTED
        connection.execute(
            tool_effects.insert().values(
                **new, turn_item=row_id(turn_item), state=state, at_seq=last_seq, at_ms=now_ms()
            )
        )
        return Effect(**new, state=state, result="", ours=True)


def done(store: Store, call: Call, effect: Effect, result: str) -> None:
    """The effect was made; durable on return.

    Args:
        store: Where it is kept.
        call: The call, with the fence that may write it.
        effect: As `begin` returned it.
        result: What the tool said, as JSON text.

    Raises:
        FencedOut: A successor has the call; it asks the business database by the key.
        CallOver: It has ended.
        StoreUnavailable: Not noted; the key tells.
    """
    _move(store, call, effect, EffectState.DONE, result)


def failed(store: Store, call: Call, effect: Effect, why: str) -> None:
    """The effect was certainly not made, so that it may be tried again; durable on return.

    Raises:
        FencedOut: A successor has the call.
        CallOver: It has ended.
        StoreUnavailable: Not noted.
    """
    _move(store, call, effect, EffectState.FAILED, why)


def unsettled(store: Store, call_id: str) -> list[Effect]:
    """What a successor has to see to, oldest first: effects without a known end, and results nobody has spoken.

    Raises:
        StoreUnavailable: The store did not answer.
    """
    spoken = exists().where(
        turns.c.call_id == tool_effects.c.call_id,
        turns.c.seq > tool_effects.c.at_seq,
        turns.c.role == Role.ASSISTANT,
    )
    open_ = (tool_effects.c.state == EffectState.STARTED) | ((tool_effects.c.state == EffectState.DONE) & ~spoken)
    statement = select(tool_effects).where(tool_effects.c.call_id == call_id, open_)
    with store.read() as connection:
        rows = connection.execute(statement.order_by(tool_effects.c.at_ms, tool_effects.c.key)).all()
    return [_effect(r) for r in rows]


def _move(store: Store, call: Call, effect: Effect, state: EffectState, result: str) -> None:
    with store.write() as connection:
        last_seq = _holding(connection, call)
        connection.execute(
            update(tool_effects)
            .where(tool_effects.c.key == effect.key, tool_effects.c.state == EffectState.STARTED)
            .values(state=state, result=clean(result), at_seq=last_seq)
        )


def _holding(connection: Connection, call: Call) -> int:
    """The call's last sequence number, if it is still ours to write; nobody takes it until the transaction ends."""
    row = connection.execute(
        select(calls.c.fence, calls.c.state, calls.c.last_seq).where(calls.c.id == call.id).with_for_update()
    ).first()
    if row is None or row.state == CallState.ENDED:
        raise CallOver(call.id, "unknown" if row is None else str(row.state))
    if row.fence != call.fence:
        raise FencedOut(f"call {call.id}", call.fence, int(row.fence))
    return int(row.last_seq)


def _effect(row: Row[Any]) -> Effect:
    return Effect(row.key, row.call_id, row.tool, row.arguments, EffectState(row.state), row.result)
