"""The profile is a log of line operations; a line knows what taught it."""

from __future__ import annotations

from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from voicectl.memory import calls, profile
from voicectl.memory.errors import Refused
from voicectl.memory.profile import Origin, Source
from voicectl.memory.recorder import Role, Turn, write_turn
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import profile_ops

pytestmark = pytest.mark.unit
TOOL = Origin(Source.TOOL)


def texts(store: Store, customer: str = "user:1") -> list[str]:
    return [line.text for line in profile.lines(store, customer)]


def test_a_fact_is_kept_with_the_sentence_that_taught_it(store: Store) -> None:
    call = calls.open_call(store, customer="user:1", room="r", desk="assistant", fence=1)
    with store.write() as connection:
        write_turn(connection, call, Turn("item_1", Role.USER, "please note I like teal", 1))

    profile.put(store, "user:1", "likes teal", Origin(Source.TOOL, call.id, "item_1"))

    (line,) = profile.lines(store, "user:1")
    assert (line.text, line.because, line.source) == ("likes teal", "please note I like teal", Source.TOOL)


def test_a_newer_fact_on_the_same_subject_takes_the_place_of_the_older(store: Store) -> None:
    profile.put(store, "user:1", "favourite colour is teal", TOOL)
    profile.put(store, "user:1", "has a dog", TOOL)
    profile.put(store, "user:1", "My favorite colour is red", TOOL)

    assert texts(store) == ["My favorite colour is red", "has a dog"]


def test_the_log_keeps_what_was_replaced(store: Store) -> None:
    profile.put(store, "user:1", "name: Rahim", TOOL)
    profile.put(store, "user:1", "name: Karim", TOOL)

    with store.read() as connection:
        rows = connection.execute(select(profile_ops.c.op, profile_ops.c.line, profile_ops.c.old_line)).all()
    assert [tuple(r) for r in rows] == [("add", "name: Rahim", None), ("replace", "name: Karim", "name: Rahim")]


def test_the_same_line_again_changes_nothing(store: Store) -> None:
    first = profile.put(store, "user:1", "likes teal", TOOL)

    assert profile.put(store, "user:1", "Likes  teal", TOOL) == first
    assert texts(store) == ["likes teal"]


def test_a_forgotten_line_is_gone_and_the_log_says_who_took_it_away(store: Store) -> None:
    op_id = profile.put(store, "user:1", "likes teal", TOOL)

    assert profile.remove(store, "user:1", op_id, Origin(Source.PAGE)) == "likes teal"
    assert profile.remove(store, "user:1", op_id, Origin(Source.PAGE)) is None
    assert texts(store) == []
    with store.read() as connection:
        assert connection.execute(select(profile_ops.c.source)).scalars().all() == ["tool", "page"]


def test_another_customers_line_cannot_be_taken_away(store: Store) -> None:
    op_id = profile.put(store, "user:1", "likes teal", TOOL)

    assert profile.remove(store, "user:2", op_id, Origin(Source.PAGE)) is None
    assert texts(store) == ["likes teal"]


def test_a_full_block_refuses_and_trims_nothing(store: Store) -> None:
    for number in range(13):
        profile.put(store, "user:1", f"{number} " + "x" * 290, TOOL)

    with pytest.raises(Refused, match="4000 fit"):
        profile.put(store, "user:1", "y" * 290, TOOL)
    assert len(texts(store)) == 13


@pytest.mark.parametrize("bad", ["", "   ", "x" * 301])
def test_an_empty_or_endless_line_is_refused(store: Store, bad: str) -> None:
    with pytest.raises(Refused):
        profile.put(store, "user:1", bad, TOOL)


@pytest.mark.parametrize(
    ("line", "subject"),
    [
        ("favourite colour is teal", "favourite colour"),
        ("My favorite colour is now red", "favourite colour"),
        ("caller's sister's birthday is 3 May", "sister's birthday"),
        ("name: Rahim", "name"),
        ("He is vegetarian.", None),
        ("is allergic to nuts", None),
        ("likes jazz", None),
    ],
)
def test_the_subject_of_a_line(line: str, subject: str | None) -> None:
    assert profile.subject_of(line) == subject


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(facts=st.lists(st.sampled_from(["a is 1", "a is 2", "b is 1", "likes c", "name: x", "name: y"]), max_size=8))
def test_no_two_present_lines_ever_share_a_subject(store: Store, facts: list[str]) -> None:
    customer = f"user:{uuid4()}"

    for fact in facts:
        profile.put(store, customer, fact, TOOL)

    subjects = [s for s in (profile.subject_of(t) for t in texts(store, customer)) if s]
    assert len(subjects) == len(set(subjects))
    assert len(subjects) == len({profile.subject_of(f) for f in facts} - {None})
