"""A reply that is slow to begin is bridged once; one that flows is left alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from livekit.agents import FlushSentinel
from livekit.agents.llm import ChatChunk, ChatContext, ChoiceDelta

from voicectl.voice.patience import Piece, patiently, without_filler

pytestmark = pytest.mark.unit

FILLER = "One moment, please."
EMPTY = ChatChunk(id="c", delta=ChoiceDelta(content=""))


class Model:
    """Gives what a test lets it give, when it lets it."""

    def __init__(self) -> None:
        self.given: asyncio.Queue[Piece | None] = asyncio.Queue()
        self.closed = False

    async def reply(self) -> AsyncIterator[Piece]:
        try:
            while (piece := await self.given.get()) is not None:
                yield piece
        finally:
            self.closed = True


def heard(pieces: list[Piece]) -> list[str]:
    return ["/" if isinstance(p, FlushSentinel) else p for p in pieces if not isinstance(p, ChatChunk)]


async def test_a_model_without_a_word_is_bridged_once_and_its_words_follow() -> None:
    model, pieces = Model(), []
    async for piece in patiently(model.reply(), FILLER, quiet_s=0.05):
        pieces.append(piece)
        if isinstance(piece, FlushSentinel):
            for word in ("Your order", " is here.", None):
                model.given.put_nowait(word)

    assert heard(pieces) == [f"{FILLER} ", "/", "Your order", " is here."]


async def test_a_reply_that_stalls_in_mid_sentence_is_let_out_as_far_as_it_came() -> None:
    model, pieces = Model(), []
    model.given.put_nowait("Your order has")
    async for piece in patiently(model.reply(), FILLER, quiet_s=0.05):
        pieces.append(piece)
        if isinstance(piece, FlushSentinel):
            model.given.put_nowait(None)

    assert heard(pieces) == ["Your order has", "/"]


async def test_a_reply_that_flows_is_left_alone() -> None:
    model = Model()
    for word in ("Yes,", " it is.", None):
        model.given.put_nowait(word)

    assert heard([p async for p in patiently(model.reply(), FILLER, quiet_s=60)]) == ["Yes,", " it is."]


@pytest.mark.parametrize(("empty_is_life", "expected"), [(True, ["Yes."]), (False, [f"{FILLER} ", "/", "Yes."])])
async def test_chunks_without_words_are_life_only_for_the_model_here(empty_is_life: bool, expected: list[str]) -> None:
    async def reply() -> AsyncIterator[Piece]:
        for _ in range(12):
            await asyncio.sleep(0.1)
            yield EMPTY
        yield "Yes."

    pieces = [p async for p in patiently(reply(), FILLER, quiet_s=1.0, empty_is_life=empty_is_life)]

    assert heard(pieces) == expected


async def test_what_fails_in_the_model_is_not_swallowed_and_a_closed_reply_closes_the_model() -> None:
    async def reply() -> AsyncIterator[Piece]:
        yield "Yes"
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        _ = [p async for p in patiently(reply(), FILLER)]

    model = Model()
    bridged = patiently(model.reply(), FILLER, quiet_s=0.01)
    assert await anext(bridged) == f"{FILLER} "
    await bridged.aclose()  # type: ignore[attr-defined]
    assert model.closed


def test_the_model_does_not_read_fillers_and_the_history_keeps_them() -> None:
    history = ChatContext.empty()
    history.add_message(role="user", content=FILLER)
    said = history.add_message(role="assistant", content=f"{FILLER} It is green.")

    shown = without_filler(history, FILLER)

    assert [m.text_content for m in shown.messages()] == [FILLER, "It is green."]
    assert said.text_content == f"{FILLER} It is green."
