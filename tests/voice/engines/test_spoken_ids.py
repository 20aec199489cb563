"""Ids are spelled for the voice, whatever the pieces they arrive in."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from voicectl.voice.engines.tts import spell_ids, spell_ids_transform

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("Order O302 has shipped.", "Order O, 3, 0, 2 has shipped."),
        ("It is o417, or AB-129?", "It is O, 4, 1, 7, or A, B, 1, 2, 9?"),
        ("INV-2024-001", "I, N, V, 2, 0, 2, 4, 0, 0, 1"),
        ("Call 555-0147.", "Call 5, 5, 5, 0, 1, 4, 7."),
        ("+8801700000001", "plus, 8, 8, 0, 1, 7, 0, 0, 0, 0, 0, 0, 0, 1"),
    ],
)
def test_id_is_spelled(written: str, spoken: str) -> None:
    assert spell_ids(written) == spoken


@pytest.mark.parametrize(
    "text",
    [
        "It costs $129.99, or 1,299,000 in all.",
        "Friday the 14th at 10am, 2 MP3 players.",
        "On 2026-11-14, version 2.10, an x86 with Qwen2.5.",
        "In 2026 it was 14 percent.",
        "COVID-19",
    ],
)
def test_prices_dates_and_words_stay(text: str) -> None:
    assert spell_ids(text) == text


@pytest.mark.parametrize("pieces", [["Order O", "30", "2 has", " shipped."], ["Order ", "O302", " has shipped."]])
async def test_id_that_arrives_in_pieces_is_spelled_whole(pieces: list[str]) -> None:
    async def arriving() -> AsyncIterator[str]:
        for piece in pieces:
            yield piece

    spoken = [piece async for piece in spell_ids_transform(arriving())]

    assert "".join(spoken) == "Order O, 3, 0, 2 has shipped."
    assert len(spoken) > 1, "speech must not wait for the whole reply"
