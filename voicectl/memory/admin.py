"""What operators ask of memory: who is known, what is known of one customer and why.

Not here: how it is printed (cli/commands/memory.py), changing it (profile.py), who taught what (history.py).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, func, select

from voicectl.memory import profile
from voicectl.memory.errors import CustomerUnknown, Refused
from voicectl.memory.identity import clean, normalise
from voicectl.memory.learning.states import Learnt
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import calls, customers, profile_lines, profile_ops, turns

MOST_WORDS = 100  # of a search; SQLite refuses a condition of 1,000
MOST_CHARACTERS = 10_000  # SQLite refuses a pattern of 50,000 bytes


@dataclass(frozen=True)
class Shown:
    """All that is remembered of one customer."""

    customer: str
    calls: int
    turns: int
    lines: list[profile.Line]
    passed_over: int = (
        0  # calls that ended before memory steps were on: their words are kept, nothing is learnt of them
    )


def key_of(connection: Connection, customer: str) -> str:
    """The customer key that is meant by what a person typed.

    Raises:
        CustomerUnknown: There is no such customer.
    """
    key = normalise(customer)
    if connection.execute(select(customers.c.key).where(customers.c.key == key)).first() is None:
        raise CustomerUnknown(key)
    return key


def show(store: Store, customer: str) -> Shown:
    """What is remembered of a customer.

    Raises:
        CustomerUnknown: There is no such customer.
        StoreUnavailable: The store did not answer.
    """
    with store.read() as connection:
        key = key_of(connection, customer)
        count = connection.execute(select(func.count()).select_from(calls).where(calls.c.customer == key)).scalar_one()
        said = connection.execute(
            select(func.count()).select_from(turns.join(calls)).where(calls.c.customer == key)
        ).scalar_one()
        old = select(func.count()).where(calls.c.customer == key, calls.c.learnt == Learnt.PASSED_OVER)
        passed_over = int(connection.execute(old).scalar_one())
        return Shown(key, int(count), int(said), profile.read_lines(connection, key), passed_over)


def as_json(shown: Shown) -> dict[str, Any]:
    """The same as plain values."""
    return {
        "customer": shown.customer,
        "calls": shown.calls,
        "turns": shown.turns,
        "passed_over": shown.passed_over,
        "lines": [asdict(x) for x in shown.lines],
    }


def customers_known(store: Store, limit: int = 1000) -> list[dict[str, Any]]:
    """The customers, latest call first: key, name, number of calls, time of the last.

    Raises:
        StoreUnavailable: The store did not answer.
    """
    name = (
        select(profile_lines.c.line)
        .where(profile_lines.c.customer == customers.c.key, profile_lines.c.line.ilike("name:%"))
        .limit(1)
        .scalar_subquery()
    )
    last = func.max(calls.c.started_ms)
    statement = (
        select(customers.c.key, name.label("name"), func.count(calls.c.id).label("calls"), last.label("last"))
        .outerjoin(calls, calls.c.customer == customers.c.key)
        .group_by(customers.c.key)
        .order_by(last.desc())
        .limit(limit)
    )
    with store.read() as connection:
        rows = connection.execute(statement).all()
    return [
        {
            "customer": r.key,
            "name": r.name.split(":", 1)[1].strip() if r.name else None,
            "calls": int(r.calls),
            "last_call": datetime.fromtimestamp(r.last / 1000, UTC).isoformat(timespec="seconds") if r.last else None,
        }
        for r in rows
    ]


@dataclass(frozen=True)
class Found:
    """A line or a turn with the words that were looked for.

    Args:
        customer: Whose.
        where: The block, or `turn`.
        who: Who taught the line, or said the turn.
        text: The line or the turn.
        at_ms: When, in milliseconds since 1970.
        call_id: In which call; None outside of one.
    """

    customer: str
    where: str
    who: str
    text: str
    at_ms: int
    call_id: str | None


def search(store: Store, words: str, customer: str | None = None, *, limit: int = 50) -> list[Found]:
    """Present lines and past turns that hold all the words, lines first, the newest first.

    Args:
        store: The store.
        words: What to look for, in any order; parts of words count.
        customer: Only of this one.
        limit: How many of each, at most.

    Raises:
        CustomerUnknown: There is no such customer.
        Refused: There is no word to look for, or more than a database compares.
        StoreUnavailable: The store did not answer.
    """
    wanted = list(dict.fromkeys(clean(words).split()))
    if not wanted:
        raise Refused("search", "there is no word to look for")
    if len(wanted) > MOST_WORDS or sum(map(len, wanted)) > MOST_CHARACTERS:
        why = f"it has {len(wanted)} words of {sum(map(len, wanted))} characters, {MOST_WORDS} of {MOST_CHARACTERS} fit"
        raise Refused("search", why, "Give fewer: all of them must occur.")
    lines = (
        select(profile_lines, profile_ops.c.source, profile_ops.c.at_ms, profile_ops.c.call_id)
        .join(profile_ops, profile_ops.c.id == profile_lines.c.op_id)
        .where(*(profile_lines.c.line.icontains(w, autoescape=True) for w in wanted))
        .order_by(profile_ops.c.at_ms.desc())
        .limit(limit)
    )
    said = (
        select(turns, calls.c.customer)
        .join(calls, calls.c.id == turns.c.call_id)
        .where(turns.c.role.in_(["user", "assistant"]), *(turns.c.text.icontains(w, autoescape=True) for w in wanted))
        .order_by(turns.c.at_ms.desc())
        .limit(limit)
    )
    with store.read() as connection:
        if customer is not None:
            key = key_of(connection, customer)
            lines, said = lines.where(profile_lines.c.customer == key), said.where(calls.c.customer == key)
        facts = [Found(r.customer, r.block, r.source, r.line, r.at_ms, r.call_id) for r in connection.execute(lines)]
        spoken = [Found(r.customer, "turn", r.role, r.text, r.at_ms, r.call_id) for r in connection.execute(said)]
    return [*facts, *spoken]
