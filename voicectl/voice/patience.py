"""What a customer hears while the language model has nothing to say: a short line instead of silence, once a reply.

A reply that has begun and stalls in mid-sentence is let out as far as it came. Not here: giving a model up (watchdog,
engines/llm.py), the apology (the call).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator

from livekit.agents import FlushSentinel
from livekit.agents.llm import ChatChunk, ChatContext, ChatItem, ChatMessage

# With 0.5 s until the end of speech is known and 0.3 s of voice, words are heard within 3 s.
QUIET_S = 1.5

Piece = ChatChunk | str | FlushSentinel


async def patiently(
    pieces: AsyncIterable[Piece], filler: str, *, quiet_s: float = QUIET_S, empty_is_life: bool = False
) -> AsyncIterator[Piece]:
    """A reply as it comes, and what bridges its first long silence.

    Args:
        pieces: What an `llm_node` gives.
        filler: Said when there was no word yet; empty: nothing is said.
        quiet_s: Seconds of silence that are too long.
        empty_is_life: Chunks without words count, as those of the small local model, which thinks in whole sentences.
    """
    source = aiter(pieces)
    begun, bridged = False, False
    coming = asyncio.ensure_future(_next(source))
    try:
        quiet_from = asyncio.get_running_loop().time()
        while True:
            left = quiet_from + quiet_s - asyncio.get_running_loop().time()
            await asyncio.wait([coming], timeout=None if bridged else max(left, 0))
            if not coming.done():
                bridged = True
                if not begun and filler:
                    yield filler + " "
                yield FlushSentinel()
                continue
            piece = coming.result()
            if piece is None:
                return
            coming = asyncio.ensure_future(_next(source))
            has_words = not isinstance(piece, ChatChunk) or piece.has_response()
            begun = begun or has_words
            if has_words or empty_is_life:
                quiet_from = asyncio.get_running_loop().time()
            yield piece
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
        if isinstance(source, AsyncGenerator):
            await source.aclose()


async def _next(source: AsyncIterator[Piece]) -> Piece | None:
    return await anext(source, None)


def without_filler(context: ChatContext, filler: str) -> ChatContext:
    """The conversation as the model shall read it: without fillers, which small models imitate. The given one stays."""
    return ChatContext([_unfilled(item, filler) for item in context.items]) if filler else context


def _unfilled(item: ChatItem, filler: str) -> ChatItem:
    if not isinstance(item, ChatMessage) or item.role != "assistant":
        return item
    text = item.text_content or ""
    rest = text.removeprefix(filler).lstrip()
    return item.model_copy(update={"content": [rest]}) if rest and rest != text else item
