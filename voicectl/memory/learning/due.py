"""The ledger of memory steps: which calls are due, what was intended, what became of it.

A step is due for every ended call in which the customer said something, the customer's oldest call first; but not for
those that ended over a day before memory steps were switched on: who gets them with an update, or names a model later,
does not pay for years of calls at once. Every change is one transaction and names the attempt that makes it.
Not here: the effect on the profile (applying.py), when and by whom a step is taken (runner.py), what people are told of
it (figures.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, and_, delete, func, insert, not_, or_, select, update

from voicectl.memory import own_calls
from voicectl.memory.calls import CallState, now_ms
from voicectl.memory.learning.quoted import Heard, heard
from voicectl.memory.learning.states import Learnt, StepState
from voicectl.memory.learning.strategy import Strategy
from voicectl.memory.lines import Line
from voicectl.memory.profile import read_lines
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import calls, customers, memory_steps, profile_ops, sync_status, turns
from voicectl.memory.turns import Role

LATER_CALLS = 10  # that are looked through for a request to forget
WAITS_S = (5.0, 20.0, 80.0, 320.0, 1280.0)  # after each failure; one more failure and a person must look
RECENT_MS = 86_400_000  # before memory steps were switched on: such calls are learnt from all the same
ON = "learning"  # the row in sync_status that says since when they are on
_OVER = (StepState.DONE, StepState.DEAD)


@dataclass(frozen=True)
class Due:
    """A call that has something to teach."""

    call_id: str
    customer: str


@dataclass(frozen=True)
class Intent:
    """An attempt, as it was committed before anybody was asked.

    Args:
        call_id: The call.
        customer: Customer key.
        attempt: Its number; the effect of an earlier one is refused.
        strategy: How.
        model: Which model is asked, for the log.
        base_op: The profile's last operation then.
        base: The profile's lines then.
        said: The call.
        since: What was said in later calls: what the customer asks to forget there is not learnt of this one.
        started_ms: When the call began.
        deadline_ms: The model is not asked beyond this.
        conversation_id: What an earlier attempt left in Letta.
    """

    call_id: str
    customer: str
    attempt: int
    strategy: Strategy
    model: str
    base_op: int
    base: tuple[Line, ...]
    said: tuple[Heard, ...]
    since: tuple[Heard, ...]
    started_ms: int
    deadline_ms: int
    conversation_id: str | None


def customers_own() -> ColumnElement[bool]:
    """Calls of the present generation: those of who was forgotten are nobody's business."""
    return and_(customers.c.key == calls.c.customer, customers.c.generation == calls.c.generation)


def unlearnt() -> Select[tuple[str, str]]:
    """Calls that must have a step and have had none that is over."""
    spoke = select(turns.c.seq).where(turns.c.call_id == calls.c.id, turns.c.role == Role.USER).exists()
    return (
        select(calls.c.id, calls.c.customer)
        .join(customers, customers_own())
        .outerjoin(memory_steps, memory_steps.c.call_id == calls.c.id)
        .where(calls.c.learnt == Learnt.NO, calls.c.state == CallState.ENDED, spoke)
        .where(or_(memory_steps.c.state.is_(None), memory_steps.c.state.not_in(_OVER)))
    )


def switched_on(store: Store) -> int:
    """Note that memory steps are taken from now on, unless they were before; before any is due.

    Returns:
        How many calls are passed over, as they ended too long before.

    Raises:
        StoreUnavailable: Nothing was noted.
    """
    now = now_ms()
    with store.write() as connection:
        store.lock(connection, ON)
        if connection.execute(select(sync_status.c.name).where(sync_status.c.name == ON)).first() is not None:
            return 0
        values = {"state": "on", "since_ms": now, "at_ms": now}
        connection.execute(insert(sync_status).values(name=ON, **values))
        # One that was tried already is not forgotten because steps were off for an hour.
        old = unlearnt().where(calls.c.ended_ms < now - RECENT_MS, memory_steps.c.state.is_(None)).subquery()
        passed = update(calls).where(calls.c.id.in_(select(old.c.id)))
        return connection.execute(passed.values(learnt=Learnt.PASSED_OVER)).rowcount


def switched_off(store: Store) -> bool:
    """Note that no memory steps are taken; True when it is noted.

    Raises:
        StoreUnavailable: It is not.
    """
    with store.write() as connection:
        connection.execute(delete(sync_status).where(sync_status.c.name == ON))
    return True


def due(store: Store, limit: int, at_ms: int | None = None) -> list[Due]:
    """Calls whose step may be taken now, one a customer: what they said first is learnt first.

    Args:
        store: The store.
        limit: How many.
        at_ms: Now, in milliseconds since 1970.
    """
    first = func.row_number().over(partition_by=calls.c.customer, order_by=(calls.c.started_ms, calls.c.id))
    waiting = unlearnt().add_columns(
        memory_steps.c.due_ms, memory_steps.c.state, calls.c.started_ms, first.label("place")
    )
    # In the database, before the limit: one customer's many calls behind a waiting one must not hide the others'.
    w = waiting.subquery()
    now = now_ms() if at_ms is None else at_ms
    may = or_(w.c.state.is_(None), w.c.state != StepState.WAITING, w.c.due_ms <= now)
    statement = select(w.c.id, w.c.customer).where(w.c.place == 1, may).order_by(w.c.started_ms, w.c.id)
    with store.read() as connection:
        return [Due(row.id, row.customer) for row in connection.execute(statement.limit(limit))]


def quiet(store: Store, for_s: float, at_ms: int | None = None) -> bool:
    """Whether there is no call anywhere, and has been none for a while."""
    now = now_ms() if at_ms is None else at_ms
    on = calls.c.state.in_([CallState.OPEN, CallState.ENDING])
    open_ = select(calls.c.id).where(on, not_(own_calls.silent(now))).limit(1)
    # A call that has just ended is not learnt yet: by its mark it is found without reading the others.
    just = select(calls.c.id).where(
        calls.c.learnt == Learnt.NO, calls.c.state == CallState.ENDED, calls.c.ended_ms > now - round(for_s * 1000)
    )
    with store.read() as connection:
        if connection.execute(open_).first() is not None:
            return False
        return for_s <= 0 or connection.execute(just.limit(1)).first() is None


def begin(store: Store, due: Due, strategy: Strategy, model: str, limit_s: float) -> Intent | None:
    """Commit that a step is about to be taken; None when there is nothing to do any more.

    Raises:
        StoreUnavailable: Nothing was committed.
    """
    now = now_ms()
    mine = memory_steps.c.call_id == due.call_id
    with store.write() as connection:
        store.lock(connection, "memory step", due.call_id)  # of two that begin at once the second sees the first's row
        if connection.execute(unlearnt().where(calls.c.id == due.call_id)).first() is None:
            return None
        before = connection.execute(select(memory_steps).where(mine)).first()
        last = select(func.max(profile_ops.c.id)).where(profile_ops.c.customer == due.customer)
        base_op = int(connection.execute(last).scalar() or 0)
        began = connection.execute(select(calls.c.started_ms).where(calls.c.id == due.call_id)).scalar_one()
        values = {
            "state": StepState.RUNNING,
            "attempt": 1 if before is None else int(before.attempt) + 1,
            "strategy": strategy,
            "model": model[:100],
            "base_op": base_op,
            "due_ms": now,
            "deadline_ms": now + round(limit_s * 1000),
            "at_ms": now,
        }
        if before is None:
            connection.execute(insert(memory_steps).values(call_id=due.call_id, **values))
        else:
            connection.execute(update(memory_steps).where(mine).values(values))
        later = select(calls.c.id).where(
            calls.c.customer == due.customer, calls.c.started_ms >= began, calls.c.id != due.call_id
        )
        since = connection.execute(later.order_by(calls.c.started_ms.desc()).limit(LATER_CALLS)).scalars().all()
        return Intent(
            call_id=due.call_id,
            customer=due.customer,
            attempt=int(str(values["attempt"])),
            strategy=strategy,
            model=model,
            base_op=base_op,
            base=tuple(read_lines(connection, due.customer)),
            said=tuple(heard(connection, due.call_id)),
            since=tuple(turn for call_id in since for turn in heard(connection, str(call_id))),
            started_ms=int(began),
            deadline_ms=now + round(limit_s * 1000),
            conversation_id=None if before is None else before.conversation_id,
        )


def of_attempt(intent: Intent) -> ColumnElement[bool]:
    """The step's row, while it is this attempt's."""
    return and_(
        memory_steps.c.call_id == intent.call_id,
        memory_steps.c.attempt == intent.attempt,
        memory_steps.c.state == StepState.RUNNING,
    )


def note_copy(store: Store, intent: Intent, conversation_id: str) -> bool:
    """Record what this attempt made in Letta; False when somebody else has the step by now."""
    with store.write() as connection:
        done = connection.execute(
            update(memory_steps).where(of_attempt(intent)).values(conversation_id=conversation_id)
        )
        return done.rowcount == 1


def copy_dropped(store: Store, call_id: str, conversation_id: str) -> None:
    """It is not in Letta any more."""
    mine = and_(memory_steps.c.call_id == call_id, memory_steps.c.conversation_id == conversation_id)
    with store.write() as connection:
        connection.execute(update(memory_steps).where(mine).values(conversation_id=None))


def left_in_letta(store: Store, limit: int = 5) -> list[tuple[str, str, str]]:
    """Conversations of steps that are over: call, customer, conversation."""
    statement = (
        select(memory_steps.c.call_id, calls.c.customer, memory_steps.c.conversation_id)
        .join(calls, calls.c.id == memory_steps.c.call_id)
        .where(memory_steps.c.state.in_(_OVER), memory_steps.c.conversation_id.is_not(None))
        .limit(limit)
    )
    with store.read() as connection:
        return [(str(r[0]), str(r[1]), str(r[2])) for r in connection.execute(statement)]


def put_off(store: Store, intent: Intent, why: str, wait_s: float = 0.0) -> None:
    """The attempt is given up through no fault: it counts for nothing."""
    now = now_ms()
    values = {"state": StepState.WAITING, "why": why, "due_ms": now + round(wait_s * 1000), "at_ms": now}
    with store.write() as connection:
        connection.execute(update(memory_steps).where(of_attempt(intent)).values(values))


def failed(store: Store, intent: Intent, why: str) -> StepState:
    """The attempt failed: later again, or a person must look."""
    now = now_ms()
    with store.write() as connection:
        count = connection.execute(select(memory_steps.c.failures).where(of_attempt(intent))).scalar()
        if count is None:
            return StepState.WAITING  # another attempt's by now
        state = StepState.WAITING if count < len(WAITS_S) else StepState.DEAD
        wait_s = WAITS_S[count] if count < len(WAITS_S) else 0.0
        values = {"state": state, "failures": count + 1, "why": why, "at_ms": now}
        connection.execute(
            update(memory_steps).where(of_attempt(intent)).values(due_ms=now + round(wait_s * 1000), **values)
        )
    return state
