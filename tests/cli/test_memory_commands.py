"""`voicectl memory`: exit codes, JSON, what is asked first, and texts that are never lost."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.support.letta_stub import LettaStub
from voicectl.cli.faults import explained
from voicectl.cli.main import app
from voicectl.memory import edit, in_letta, profile
from voicectl.memory.calls import open_call
from voicectl.memory.config import MemorySettings
from voicectl.memory.profile import Origin, Source
from voicectl.memory.recorder import Role, Turn, write_turn
from voicectl.memory.store.engine import Store
from voicectl.memory.store.leases import LeaseState, open_leases

pytestmark = pytest.mark.unit
KEY = "user:42"


@pytest.fixture(autouse=True)
def _embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_BACKEND", "embedded")


@pytest.fixture
def teal(store: Store) -> int:
    """A customer who said that they like teal; the operation that learnt it."""
    call = open_call(store, customer=KEY, room="room-1", desk="assistant", fence=1)
    with store.write() as connection:
        write_turn(connection, call, Turn("item-1", Role.USER, "I do like teal", 1))
    return profile.put(store, KEY, "likes teal", Origin(Source.TOOL, call.id, "item-1"))


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ("memory", *words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        answer = explained(result.exception)  # as main() does
        assert answer is not None, result.exception
        return answer.code, answer.text
    return result.exit_code, result.stdout


def document(*words: str) -> Any:
    code, said = run(*words)
    assert code == 0
    found = json.loads(said)
    assert found["schema_version"] == 1
    return found


def texts(store: Store) -> list[str]:
    return [line.text for line in profile.lines(store, KEY)]


@pytest.mark.parametrize(
    "words",
    [
        ("history", "user:9"),
        ("blame", "user:9"),
        ("undo", "user:9", "1"),
        ("edit", "user:9"),
        ("set", "user:9", "likes tea"),
        ("search", "tea", "--customer", "user:9"),
        ("export", "user:9"),
        ("forget", "user:9", "--yes"),
    ],
)
def test_an_unknown_customer_is_exit_4_and_not_made(store: Store, words: tuple[str, ...]) -> None:
    code, said = run(*words)

    assert (code, "user:9" in said) == (4, True)
    assert run("show", "user:9")[0] == 4


def test_history_and_blame_say_where_a_line_came_from(store: Store, teal: int) -> None:
    versions = document("history", KEY, "--json")["versions"]
    (line,) = document("blame", KEY, str(teal), "--json")["lines"]

    assert [(v["id"], v["line"], v["because"]) for v in versions] == [(teal, "likes teal", "I do like teal")]
    assert (line["sentence"], line["source"]) == ("I do like teal", "tool")
    assert "+ likes teal" in run("history", KEY)[1]
    assert "I do like teal" in run("blame", KEY, "teal")[1]
    assert run("blame", KEY, "nothing")[0] == 4


def test_undo_takes_one_back_and_a_second_time_is_exit_5(store: Store, teal: int) -> None:
    assert run("undo", KEY, str(teal)) == (0, "removed: likes teal\n")
    assert texts(store) == []
    code, said = run("undo", KEY, str(teal))
    assert (code, "touched the line later" in said) == (5, True)
    assert run("undo", KEY, "999")[0] == 4
    assert "undone by" in run("history", KEY)[1]


def test_set_adds_or_replaces_and_refuses_what_it_cannot(store: Store, teal: int) -> None:
    assert run("set", KEY, "name: Rahim")[0] == 0
    assert run("set", KEY, "name: Karim")[0] == 0
    assert run("set", KEY, "VIP", "--block", "operator_notes")[0] == 0
    assert sorted(texts(store)) == ["VIP", "likes teal", "name: Karim"]
    assert run("set", KEY, "x" * 301)[0] == 5
    assert run("set", KEY, "x", "--block", "nowhere")[0] == 2


def test_search_finds_lines_and_turns(store: Store, teal: int) -> None:
    found = document("search", "teal", "like", "--json")["found"]

    assert [(f["where"], f["text"]) for f in found] == [("profile", "likes teal"), ("turn", "I do like teal")]
    assert document("search", "nothing", "--json")["found"] == []


@pytest.fixture
def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An editor that does what a shell script says to the file."""

    def make(script: str) -> None:
        path = tmp_path / "editor.sh"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o700)
        monkeypatch.setenv("EDITOR", str(path))

    monkeypatch.delenv("VISUAL", raising=False)
    return make


def kept(settings: MemorySettings) -> list[Path]:
    return sorted((settings.home / "edits").glob("*"))


def test_edit_saves_what_the_editor_left_and_keeps_no_copy(
    store: Store, settings: MemorySettings, teal: int, editor
) -> None:
    editor('sed -i "s/likes teal/likes red/" "$1"')

    assert run("edit", KEY) == (0, "1 line changed\n")

    assert texts(store) == ["likes red"]
    assert kept(settings) == []


def test_the_second_of_two_editors_is_refused_with_its_text_kept_for_its_owner_alone(
    store: Store, settings: MemorySettings, teal: int, editor, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor('sed -i "s/likes teal/likes blue/" "$1"')
    whole = edit.save

    def late(store: Store, opened: edit.Opened, text: str) -> int:
        other = edit.open_text(store, KEY)
        whole(store, other, other.text.replace("teal", "red"))
        return whole(store, opened, text)

    monkeypatch.setattr(edit, "save", late)

    code, said = run("edit", KEY)

    (path,) = kept(settings)
    assert code == 5
    assert "somebody changed it" in said
    assert str(path) in said
    assert "likes blue" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert texts(store) == ["likes red"]


def test_an_edit_beyond_the_limit_loses_nothing(store: Store, settings: MemorySettings, teal: int, editor) -> None:
    editor('for i in $(seq 20); do printf "%0290d\\n" $i; done >> "$1"')

    code, said = run("edit", KEY)

    assert (code, "4000 fit" in said) == (5, True)
    assert "likes teal" in kept(settings)[0].read_text()
    assert texts(store) == ["likes teal"]


def test_an_editor_that_fails_or_is_missing_changes_nothing(
    store: Store, settings: MemorySettings, teal: int, editor, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor('echo x >> "$1"; exit 3')
    code, said = run("edit", KEY)
    assert (code, "status 3" in said, str(kept(settings)[0]) in said) == (1, True, True)
    monkeypatch.setenv("EDITOR", "/no/such/editor")
    assert run("edit", KEY)[0] == 1
    monkeypatch.delenv("EDITOR")
    assert run("edit", KEY)[0] == 5  # nobody at the terminal
    assert len(kept(settings)) == 1
    assert texts(store) == ["likes teal"]


def test_import_says_first_and_does_it_when_asked(store: Store, tmp_path: Path, teal: int) -> None:
    file = tmp_path / "crm.csv"
    file.write_text(f"customer,line\n{KEY},has a dog\n{KEY},\n")

    dry = document("import", str(file), "--json")
    assert (dry["applied"], dry["added"], dry["bad"]) == (False, 1, [{"number": 3, "why": "line is missing"}])
    code, said = run("import", str(file), "--apply")
    assert (code, "nothing was imported" in said) == (5, True)
    assert texts(store) == ["likes teal"]

    done = document("import", str(file), "--apply", "--skip-bad", "--json")

    assert (done["applied"], done["added"], len(done["bad"])) == (True, 1, 1)
    assert texts(store) == ["likes teal", "has a dog"]
    assert run("import", str(tmp_path / "none.csv"))[0] == 4


def test_a_refused_import_lists_every_bad_row(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "crm.csv"
    file.write_text("customer,line\n,a\n,b\n")

    result = CliRunner().invoke(app, ["memory", "import", str(file), "--apply"])

    assert "crm.csv:2: customer is missing\ncrm.csv:3: customer is missing" in result.stdout


def test_export_is_one_document_and_its_fields_are_the_documented_ones(store: Store, teal: int) -> None:
    found = document("export", KEY)

    described = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
    for name in (*found, *found["customer"], *found["profile"][0], *found["history"][0], *found["calls"][0]):
        assert f"`{name}`" in described or f"[].{name}`" in described, name
    for name in found["calls"][0]["turns"][0]:
        assert f"`{name}`" in described, name


def test_forget_asks_and_without_anybody_to_answer_refuses(store: Store, teal: int) -> None:
    code, said = run("forget", KEY)

    assert (code, "--yes" in said) == (5, True)
    assert texts(store) == ["likes teal"]


def test_forget_prints_a_receipt_of_what_went_and_what_stays(store: Store, settings: MemorySettings, teal: int) -> None:
    code, said = run("forget", KEY, "--yes")

    assert code == 0
    for words in (f"forgotten: {KEY}", "1 rows of turns", "Letta is none", "stays: logs in", "stays: backups"):
        assert words in said, words
    assert run("show", KEY)[0] == 4
    again = document("forget", KEY, "--yes", "--json")
    assert (again["rows"], again["left"], again["generation"]) == ({}, [], 2)


def test_forget_refuses_a_live_call_unless_it_may_end_it(
    store: Store, settings: MemorySettings, teal: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from voicectl.cli.system import forgetting

    closed: list[str] = []
    monkeypatch.setattr(forgetting, "_close", lambda _settings, rooms: closed.extend(rooms) or "")
    leases = open_leases(settings)
    leases.claim("room:room-1", "job", 60, LeaseState.HELD)
    leases.close()

    code, said = run("forget", KEY, "--yes")
    assert (code, "--end-calls" in said) == (5, True)
    assert texts(store) == ["likes teal"]

    assert run("forget", KEY, "--yes", "--end-calls")[0] == 0
    assert closed == ["room-1"]


def test_forget_says_when_the_files_of_our_own_letta_could_not_be_written_anew(
    store: Store, teal: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from voicectl.cli.system import forgetting

    monkeypatch.setenv("MEMORY_BACKEND", "letta")
    monkeypatch.setattr("voicectl.memory.forget.EMPTY_S", 0.0)
    monkeypatch.setattr(in_letta, "EMPTY_S", 0.0)
    monkeypatch.setattr(forgetting.letta, "is_ours", lambda _settings: True)
    with LettaStub() as letta:
        monkeypatch.setenv("LETTA_BASE_URL", letta.url)

        code, said = run("forget", KEY, "--yes")

    assert code == 1
    assert "Letta is clear" in said
    assert "not done: the files of Letta's database still hold deleted rows; run it again with Letta up" in said


def test_forget_with_letta_away_says_who_does_the_rest_and_is_not_exit_0(
    store: Store, teal: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORY_BACKEND", "letta")
    monkeypatch.setattr(in_letta, "EMPTY_S", 0.0)
    with LettaStub() as letta:
        letta.down = True
        monkeypatch.setenv("LETTA_BASE_URL", letta.url)

        code, said = run("forget", KEY, "--yes")

    assert (code, "not done: agents in Letta" in said) == (1, True)
    assert "stays: write-ahead log and backups of Letta" in said
    assert texts(store) == []
