"""What a customer types: answered, cut where no model reads on, never lost to a line that cannot be interrupted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from voicectl.voice import call

pytestmark = pytest.mark.unit


class Session:
    """What of a session a typed turn touches."""

    def __init__(self, *, uninterruptible: bool = False) -> None:
        self.asked: list[str] = []
        self._uninterruptible = uninterruptible

    async def interrupt(self) -> None:
        if self._uninterruptible:
            raise RuntimeError("This generation handle does not allow interruptions")

    def generate_reply(self, *, user_input: str) -> None:
        self.asked.append(user_input)


@pytest.mark.parametrize("uninterruptible", [False, True])
async def test_a_typed_turn_is_answered_whatever_is_being_said(uninterruptible: bool) -> None:
    session = Session(uninterruptible=uninterruptible)

    await typed(session, "  Where is my pizza?\n")

    assert session.asked == ["Where is my pizza?"]


async def test_nothing_is_no_turn_and_a_book_is_cut() -> None:
    session = Session()

    await typed(session, " \n")
    await typed(session, "x" * 1_000_000)

    assert [len(text) for text in session.asked] == [call.MAX_TYPED]


async def typed(session: Session, text: str) -> None:
    await call._typed(cast(Any, session), cast(Any, SimpleNamespace(text=text)))
