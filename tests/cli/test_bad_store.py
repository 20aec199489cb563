"""A store that is locked, of a newer version or with one endless turn: commands say so; what is known is used."""

from __future__ import annotations

import pytest

from tests.cli.test_sync import run
from tests.support.locked import locked
from voicectl.memory import calls, profile, recall
from voicectl.memory.config import MemorySettings
from voicectl.memory.profile import Origin, Source
from voicectl.memory.recorder import Role, Turn, write_turn
from voicectl.memory.store.engine import VERSION_TABLE, Store

pytestmark = pytest.mark.unit
KEY = "user:42"


@pytest.fixture(autouse=True)
def _embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_BACKEND", "embedded")


def test_a_locked_store_is_read_all_the_same_and_a_change_is_refused_with_its_name(
    store: Store, settings: MemorySettings
) -> None:
    profile.put(store, KEY, "likes tea", Origin(Source.TOOL))

    with locked(settings.home / "memory.db"):
        shown = run("memory", "show", KEY)
        changed = run("memory", "set", KEY, "likes coffee")

    assert (shown[0], "likes tea" in shown[1]) == (0, True), shown
    assert (changed[0], "memory.db" in changed[1], "locked" in changed[1]) == (3, True, True), changed
    assert [x.text for x in profile.lines(store, KEY)] == ["likes tea"]


def test_a_store_of_a_newer_version_is_refused_by_every_command_and_left_as_it_is(store: Store) -> None:
    with store.write() as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")

    for command in (["memory", "list"], ["memory", "set", KEY, "x"], ["sync", "list"], ["sync", "retry", "--all"]):
        code, said = run(*command)
        assert (code, "9999, newer" in said) == (5, True), (command, said)

    with store.read() as connection:
        assert connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").scalar() == "9999"


def test_a_turn_of_200_000_characters_leaves_room_in_the_prompt_for_what_is_known(store: Store) -> None:
    profile.put(store, KEY, "name: Daniel", Origin(Source.RULE))
    call = calls.open_call(store, customer=KEY, room="r", desk="assistant", fence=1)
    with store.write() as connection:
        assert write_turn(connection, call, Turn("item-1", Role.USER, "word " * 40_000, 1))

    known = recall.read(store, KEY)

    text = recall.render(known, budget_tokens=100).text
    assert known.name == "Daniel"
    assert "name: Daniel" in text
    assert len(text) < 1000
