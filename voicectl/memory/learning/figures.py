"""How memory steps are getting on, for people: figures, those that failed for good, another go, what was not taken.

Not here: printing (cli/commands/sync.py), which calls are due (due.py).
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, func, select, update

from voicectl.memory.calls import now_ms
from voicectl.memory.learning.due import customers_own, unlearnt
from voicectl.memory.learning.proposal import Refusal
from voicectl.memory.learning.states import Learnt, StepState
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import calls, customers, memory_steps


@dataclass(frozen=True)
class Step:
    """A memory step that is not over, or failed, for people."""

    customer: str
    call: str
    state: StepState
    failures: int
    why: str
    at_ms: int


def _of(name: str | None) -> ColumnElement[bool]:
    ids = select(calls.c.id).join(customers, customers_own())
    if name is not None:
        ids = ids.where((calls.c.id == name) | (calls.c.customer == name))
    return memory_steps.c.call_id.in_(ids)


def dead(store: Store, name: str | None = None) -> list[Step]:
    """Steps that failed too often, the oldest first.

    Args:
        store: The store.
        name: Of this customer or call; None: all.
    """
    statement = (
        select(memory_steps, calls.c.customer)
        .join(calls, calls.c.id == memory_steps.c.call_id)
        .where(_of(name), memory_steps.c.state == StepState.DEAD)
        .order_by(memory_steps.c.at_ms, memory_steps.c.call_id)
    )
    with store.read() as connection:
        return [
            Step(r.customer, r.call_id, StepState(r.state), int(r.failures), r.why, int(r.at_ms))
            for r in connection.execute(statement)
        ]


def retry(store: Store, name: str | None = None) -> list[str]:
    """Give dead steps another go, and of who or what is named also calls that were passed over; returns the calls."""
    found = [step.call for step in dead(store, name)]
    now = now_ms()
    passed: list[str] = []
    values = {"state": StepState.WAITING, "failures": 0, "due_ms": now, "at_ms": now}
    with store.write() as connection:
        mine = and_(memory_steps.c.call_id.in_(found), memory_steps.c.state == StepState.DEAD)
        connection.execute(update(memory_steps).where(mine).values(values))
        if name is not None:  # all of them at once may be years of calls, which cost money
            theirs = (calls.c.id == name) | (calls.c.customer == name)
            again = update(calls).where(calls.c.learnt == Learnt.PASSED_OVER, theirs).values(learnt=Learnt.NO)
            passed = list(connection.execute(again.returning(calls.c.id)).scalars())
    return [*found, *sorted(passed)]


@dataclass(frozen=True)
class StepFigures:
    """How memory steps are getting on.

    Args:
        waiting: Calls whose step is due or under way.
        dead: Steps that need a person.
        done: Steps that were taken.
        learnt: Operations that took effect.
        refused: Changes that a model proposed and code did not take.
        why: Why the step that failed last failed; "" when none waits for that reason.
        passed_over: Calls that ended before memory steps were on, and are not learnt from.
    """

    waiting: int
    dead: int
    done: int
    learnt: int
    refused: int
    why: str
    passed_over: int


def figures(store: Store) -> StepFigures:
    """The figures now.

    Raises:
        StoreUnavailable: The store did not answer.
    """
    sums = (func.sum(memory_steps.c.learnt), func.sum(memory_steps.c.refused))
    by_state = select(memory_steps.c.state, func.count(), *sums).group_by(memory_steps.c.state)
    why = select(memory_steps.c.why).where(memory_steps.c.failures > 0, memory_steps.c.state != StepState.DONE)
    with store.read() as connection:
        waiting = int(connection.execute(select(func.count()).select_from(unlearnt().subquery())).scalar_one())
        counts = {r[0]: (int(r[1]), int(r[2] or 0), int(r[3] or 0)) for r in connection.execute(by_state)}
        passed = select(func.count()).select_from(calls.join(customers, customers_own()))
        passed_over = int(connection.execute(passed.where(calls.c.learnt == Learnt.PASSED_OVER)).scalar_one())
        last = connection.execute(why.order_by(memory_steps.c.at_ms.desc()).limit(1)).scalar()
    done, learnt, refused = counts.get(StepState.DONE, (0, 0, 0))
    return StepFigures(
        waiting=waiting,
        dead=counts.get(StepState.DEAD, (0, 0, 0))[0],
        done=done,
        learnt=learnt,
        refused=refused,
        why=str(last or ""),
        passed_over=passed_over,
    )


def refusals(store: Store, call_id: str) -> list[Refusal]:
    """What was not taken of a call, each with the reason."""
    with store.read() as connection:
        found = connection.execute(select(memory_steps.c.refusals).where(memory_steps.c.call_id == call_id)).scalar()
    return [Refusal(**item) for item in json.loads(found or "[]")]
