"""Joining a call touches an index in every query, so that its time does not grow with the number of customers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, event

from voicectl.memory import calls, effects, profile, recall
from voicectl.memory.recorder import Role, Turn, write_turn
from voicectl.memory.search import search
from voicectl.memory.store.engine import Store

pytestmark = pytest.mark.unit
Statement = tuple[str, Any]
BY_WORDS = re.compile(r"SCAN turn_index VIRTUAL TABLE INDEX \d+:M")  # M: by MATCH; without, FTS5 reads all its rows


@contextmanager
def watched(store: Store) -> Iterator[list[Statement]]:
    """What is asked of the database meanwhile."""
    asked: list[Statement] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        if statement.lstrip().upper().startswith(("SELECT", "WITH")):
            asked.append((statement, parameters))

    event.listen(store.engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(store.engine, "before_cursor_execute", note)


def scans(connection: Connection, statement: str, parameters: Any) -> list[str]:
    """Steps of a plan that read a whole table."""
    if connection.dialect.name == "sqlite":
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        return [r[3] for r in plan if r[3].startswith("SCAN") and not BY_WORDS.match(r[3])]
    plan = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
    return [r[0] for r in plan if "Seq Scan" in r[0]]


def fill(store: Store) -> None:
    """Enough rows that a planner would not rather read the table."""
    call = calls.open_call(store, customer="user:1", room="r1", desk="assistant", fence=1)
    with store.write() as connection:
        write_turn(connection, call, Turn("item_1", Role.USER, "hello", 1))
    profile.put(store, "user:1", "likes teal", profile.Origin(profile.Source.TOOL, call.id, "item_1"))
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) "
    with store.write() as connection:
        for statement in (
            f"INSERT INTO customers (key, generation, created_ms) {many} SELECT 'other:' || i, 1, 0 FROM n",
            "INSERT INTO calls (id, customer, generation, room, desk, state, fence, started_ms) "
            f"{many} SELECT 'c-' || i, 'other:' || i, 1, 'r' || i, 'assistant', 'ended', 1, i FROM n",
            "INSERT INTO turns (call_id, seq, item_id, role, text, at_ms) "
            f"{many} SELECT 'c-' || i, 1, 'item', 'user', 'words', i FROM n",
            "INSERT INTO tool_effects (key, call_id, turn_item, tool, arguments, state, at_seq, at_ms) "
            f"{many} SELECT 'k' || i, 'c-' || i, 'item', 'order', '', 'started', 1, i FROM n",
            "INSERT INTO profile_ops (customer, generation, block, op, line, source, at_ms) "
            f"{many} SELECT 'other:' || i, 1, 'profile', 'add', 'line', 'tool', i FROM n",
            "INSERT INTO profile_lines (customer, block, position, line, op_id) "
            "SELECT customer, block, id, line, id FROM profile_ops WHERE customer LIKE 'other:%%'",
        ):
            connection.exec_driver_sql(statement if not store.is_sqlite else statement.replace("%%", "%"))
        connection.exec_driver_sql("ANALYZE")


@pytest.mark.parametrize(
    ("work", "at_least"),
    [
        (lambda s: recall.read(s, "user:1", but_call="c-1"), 3),
        (lambda s: recall.said_in(s, "c-1", 40), 1),
        (lambda s: search(s, "user:1", "hello there"), 2),
        (lambda s: search(s, "user:1", "what did I say"), 3),
        (lambda s: calls.open_call_of_room(s, "r1"), 1),
        (lambda s: effects.unsettled(s, "c-1"), 1),
    ],
    ids=["join", "history", "search", "search for nothing", "room", "effects"],
)
def test_no_query_of_a_call_reads_a_whole_table(store: Store, work: Callable[[Store], object], at_least: int) -> None:
    fill(store)

    with watched(store) as asked:
        work(store)

    assert len(asked) >= at_least
    with store.read() as connection:
        found = {s.split("FROM")[1][:40]: scans(connection, s, p) for s, p in asked}
    assert all(steps == [] for steps in found.values()), found


def test_words_are_looked_up_in_their_index(store: Store) -> None:
    fill(store)

    with watched(store) as asked:
        search(store, "user:1", "hello there")

    statement, parameters = next((s, p) for s, p in asked if "turn_index" in s or "tsquery" in s)
    with store.read() as connection:
        if store.is_sqlite:
            steps = [r[3] for r in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            assert BY_WORDS.match(steps[0])
            assert all(step.startswith("SEARCH") or "ORDER BY" in step for step in steps[1:]), steps
        else:
            steps = [r[0] for r in connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)]
            assert any("Bitmap Index Scan on ix_turns_words" in step for step in steps), steps


def test_a_plan_without_an_index_is_seen(store: Store) -> None:
    fill(store)

    with store.read() as connection:
        text = "SELECT * FROM turns WHERE text = 'x'"

        assert scans(connection, text, () if store.is_sqlite else None) != []
