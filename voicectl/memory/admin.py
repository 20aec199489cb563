"""What operators ask of memory: who is known, what is known of one customer and why.

Not here: how it is printed (cli/commands/memory.py), changing it (profile.py).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select

from voicectl.memory import profile
from voicectl.memory.errors import CustomerUnknown
from voicectl.memory.identity import normalise
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import calls, customers, profile_lines, turns


@dataclass(frozen=True)
class Shown:
    """All that is remembered of one customer."""

    customer: str
    calls: int
    turns: int
    lines: list[profile.Line]


def show(store: Store, customer: str) -> Shown:
    """What is remembered of a customer.

    Raises:
        CustomerUnknown: There is no such customer.
        StoreUnavailable: The store did not answer.
    """
    key = normalise(customer)
    with store.read() as connection:
        if connection.execute(select(customers.c.key).where(customers.c.key == key)).first() is None:
            raise CustomerUnknown(key)
        count = connection.execute(select(func.count()).select_from(calls).where(calls.c.customer == key)).scalar_one()
        said = connection.execute(
            select(func.count()).select_from(turns.join(calls)).where(calls.c.customer == key)
        ).scalar_one()
        return Shown(key, int(count), int(said), profile.read_lines(connection, key))


def as_json(shown: Shown) -> dict[str, Any]:
    """The same as plain values."""
    return {
        "customer": shown.customer,
        "calls": shown.calls,
        "turns": shown.turns,
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
