"""Processes killed at the commit of each step of a call's life: the step is there whole or not at all, and goes on.

The points are the two of every write (`WriteSignals`): before the commit, and after it before the caller knows.
"""

from __future__ import annotations

import pytest
from sqlalchemy import select

from tests.support.crash import die, killed
from voicectl.memory import calls, effects
from voicectl.memory.calls import CallState
from voicectl.memory.config import MemorySettings
from voicectl.memory.store.engine import Store, WriteSignals, open_store
from voicectl.memory.store.schema import calls as calls_table

pytestmark = pytest.mark.process


def child(settings: MemorySettings, step: str, point: str) -> None:
    store = open_store(settings)

    def arm() -> None:
        store.signals = WriteSignals(**{point: die})

    def begin(fence: int) -> calls.Call:
        return calls.open_call(store, customer="user:1", room="r1", desk="assistant", fence=fence)

    if step == "open":
        arm()
    call = begin(1)
    if step == "begun":
        arm()
        effects.begin(store, call, "item_1", "order", {})
    if step == "done":
        effect = effects.begin(store, call, "item_1", "order", {})
        arm()
        effects.done(store, call, effect, "made")
    if step == "continue":
        arm()
        begin(2)
    if step == "ending":
        arm()
    calls.begin_ending(store, call, "bye")
    arm()
    if step == "abandon":
        calls.abandon(store, "r1", 1)
    calls.finish(store, call, "bye")


def crash(settings: MemorySettings, step: str, point: str) -> Store:
    killed(child, settings, step, point)
    return open_store(settings)


def state_of(store: Store) -> tuple[str, int] | None:
    with store.read() as connection:
        rows = connection.execute(select(calls_table.c.state, calls_table.c.fence)).all()
    assert len(rows) <= 1
    return (str(rows[0].state), int(rows[0].fence)) if rows else None


@pytest.mark.parametrize(
    ("step", "before", "after"),
    [
        ("open", None, (CallState.OPEN, 1)),
        ("continue", (CallState.OPEN, 1), (CallState.OPEN, 2)),
        ("ending", (CallState.OPEN, 1), (CallState.ENDING, 1)),
        ("finish", (CallState.ENDING, 1), (CallState.ENDED, 1)),
        ("abandon", (CallState.ENDING, 1), (CallState.ENDED, 1)),
    ],
)
@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
def test_a_step_of_a_call_is_there_whole_or_not_at_all(
    settings: MemorySettings, step: str, before: tuple[str, int] | None, after: tuple[str, int], point: str
) -> None:
    store = crash(settings, step, point)

    assert state_of(store) == (before if point == "before_commit" else after)
    calls.abandon(store, "r1", fence=0)  # as any reconciler does for a room that nobody is in, and that has no lease
    assert calls.rooms_of_open_calls(store) == [], "a call that nobody came back to ends, whenever it was left"
    store.close()


@pytest.mark.parametrize(
    ("step", "point", "ours", "state"),
    [
        ("begun", "before_commit", True, "started"),  # nothing was noted, so nothing was made: the successor makes it
        ("begun", "after_commit", False, "started"),  # it may have been made: ask by the key
        ("done", "before_commit", False, "started"),
        ("done", "after_commit", False, "done"),
    ],
)
def test_a_successor_knows_how_far_an_effect_came(
    settings: MemorySettings, step: str, point: str, ours: bool, state: str
) -> None:
    store = crash(settings, step, point)

    call = calls.open_call(store, customer="user:1", room="r1", desk="assistant", fence=2)
    again = effects.begin(store, call, "item_1", "order", {})

    assert (again.ours, again.state) == (ours, state)
    store.close()
