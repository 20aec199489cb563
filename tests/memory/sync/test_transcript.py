"""Rows of turns as messages: tools and hand-offs are inside the answer that follows, whatever was sent before."""

from __future__ import annotations

import pytest

from voicectl.memory.recorder import Role
from voicectl.memory.sync.transcript import WORDLESS, Row, messages

pytestmark = pytest.mark.unit

ROWS = [
    Row(1, Role.USER, "order two pizzas"),
    Row(2, Role.TOOL, '{"tool": "order", "arguments": "{\\"n\\": 2}", "result": "ok"}'),
    Row(3, Role.HANDOFF, "waiter -> cashier"),
    Row(4, Role.USER, "hello?"),
    Row(5, Role.ASSISTANT, "Done."),
    Row(6, Role.USER, " "),
    Row(7, Role.TOOL, "not json"),
]


def test_tools_and_hand_offs_are_told_in_the_answer_that_follows() -> None:
    found = messages("c1", ROWS)

    assert [(m.marker, m.role, m.text) for m in found] == [
        ("c1#1", "user", "order two pizzas"),
        ("c1#4", "user", "hello?"),
        ("c1#5", "assistant", '[tool order {"n": 2} → ok]\n[hand-off waiter -> cashier]\nDone.'),
        ("c1#6", "user", WORDLESS),
    ]


@pytest.mark.parametrize("cursor", range(8))
def test_a_message_is_the_same_wherever_the_batch_before_it_ended(cursor: int) -> None:
    whole = messages("c1", ROWS)
    last_answer = max((r.seq for r in ROWS if r.seq <= cursor and r.role == Role.ASSISTANT), default=0)

    rest = messages("c1", [r for r in ROWS if r.seq > last_answer], cursor)

    assert rest == [m for m in whole if int(m.marker[3:]) > cursor]
