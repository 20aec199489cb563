"""Journals that were left are replayed one by one: one that is broken keeps none of the others from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import select

from voicectl.memory.calls import open_call
from voicectl.memory.journal import Journal, replay_left_journals
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import turns
from voicectl.memory.turns import Role, Turn

pytestmark = pytest.mark.unit


def test_a_broken_journal_is_moved_aside_and_the_others_are_written(store: Store, tmp_path: Path) -> None:
    ids = sorted(open_call(store, customer="user:1", room=f"r{n}", desk="", fence=1).id for n in range(3))
    texts = ["one", cast(Any, None), "three"]
    for call_id, text in zip(ids, texts, strict=True):
        Journal(tmp_path / f"{call_id}.jsonl", 1).append([Turn("item", Role.USER, text, 1)])

    assert replay_left_journals(store, tmp_path) == 2
    assert replay_left_journals(store, tmp_path) == 0

    with store.read() as connection:
        assert sorted(connection.execute(select(turns.c.text)).scalars()) == ["one", "three"]
    aside = list(tmp_path.glob("*.broken"))
    assert [p.name.split(".")[0] for p in aside] == [ids[1]]
    assert '"text": null' in aside[0].read_text()
    assert list(tmp_path.glob("*.jsonl")) == []
