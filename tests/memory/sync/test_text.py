"""Blocks as text: what counts as an edit, what does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicectl.memory import profile
from voicectl.memory.identity import hashed
from voicectl.memory.profile import MAX_LINE, Block, Origin, Source
from voicectl.memory.store.engine import Store
from voicectl.memory.sync.text import Edit, agent_spec, edits, lines_of, render

pytestmark = pytest.mark.unit


def test_a_block_is_its_lines_in_order(store: Store) -> None:
    profile.put(store, "user:1", "name: Rahim", Origin(Source.RULE))
    profile.put(store, "user:1", "call in the evening", Origin(Source.OPERATOR), Block.OPERATOR_NOTES)
    profile.put(store, "user:1", "likes tea", Origin(Source.TOOL))

    present = profile.lines(store, "user:1")

    assert render(present, Block.PROFILE) == "name: Rahim\nlikes tea"
    assert render(present, Block.OPERATOR_NOTES) == "call in the evening"
    assert render(present, Block.LAST_CALL) == ""


def test_an_agent_is_named_by_the_hash_and_described_by_the_name_unless_names_are_hidden(store: Store) -> None:
    profile.put(store, "+8801700000001", "name: Rahim", Origin(Source.RULE))
    present = profile.lines(store, "+8801700000001")

    shown = agent_spec("+8801700000001", 1, present, hide_names=False)
    hidden = agent_spec("+8801700000001", 1, present, hide_names=True)

    assert shown.customer == hashed("+8801700000001")
    assert "Rahim" in shown.description
    assert "Rahim" not in hidden.description
    assert "880" not in shown.description


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ("a\nb", "a\nb", []),
        ("a\nb", "- a\n\n*  b ", []),
        ("a\nb", "b\na", []),
        ("a", "a\nc", [Edit(None, "c")]),
        ("a\nb", "b", [Edit("a", None)]),
        ("a\nb", "a\nc", [Edit("b", "c")]),
        ("a\nb", "", [Edit("a", None), Edit("b", None)]),
        (None, "a", [Edit(None, "a")]),
        (None, "", []),
    ],
)
def test_what_somebody_changed_is_found_line_by_line(before: str | None, after: str, found: list[Edit]) -> None:
    assert edits(before, after) == found


def test_a_long_paragraph_becomes_lines_that_fit_and_loses_no_word() -> None:
    paragraph = " ".join(f"word{n}" for n in range(200))

    lines = lines_of(paragraph)

    assert max(len(line) for line in lines) <= MAX_LINE
    assert " ".join(lines) == paragraph


@given(st.lists(st.sampled_from("abcdef"), unique=True), st.lists(st.sampled_from("abcdef"), unique=True))
def test_the_edits_of_two_texts_turn_the_lines_of_one_into_those_of_the_other(old: list[str], new: list[str]) -> None:
    present = set(old)

    for edit in edits("\n".join(old), "\n".join(new)):
        present.discard(edit.old or "")
        present |= {edit.new} if edit.new else set()

    assert present == set(new)
