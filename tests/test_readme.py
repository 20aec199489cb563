"""The README tells the truth: its commands exist, its files and symbols are there, its example is the example."""

from __future__ import annotations

import ast
import contextlib
import re
import shlex
from pathlib import Path

import pytest
import typer

from voicectl.cli.main import app

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PLACES = re.findall(r"^\| [^|]+ \| (`voicectl/.*) \|$", README, re.MULTILINE)


def defined(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {
                f"{node.name}.{n.name}" for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
            }
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


@pytest.mark.parametrize("row", PLACES)
def test_every_place_in_the_where_is_table_exists(row: str) -> None:
    pairs = re.findall(r"`(voicectl/[^`]+)` `([^`]+)`", row)

    assert pairs
    for path, symbol in pairs:
        assert symbol in defined(ROOT / path), f"{path} has no {symbol}"


def test_the_table_answers_what_a_newcomer_asks() -> None:
    assert len(PLACES) >= 12


def commands() -> dict[str, set[str]]:
    click_app = typer.main.get_command(app)
    return {name: set(getattr(c, "commands", {})) for name, c in click_app.commands.items()}


def test_every_voicectl_command_in_the_readme_exists() -> None:
    known = commands()
    text = re.findall(r"`(?:uv run )?voicectl ([^`]+)`|^\.venv/bin/voicectl (\S+)", README, re.MULTILINE)

    asked = [shlex.split(a or b) for a, b in text]

    assert len(asked) > 8
    for words in asked:
        assert words[0].strip(",") in known, words
        if known[words[0]]:
            assert words[1] in known[words[0]], words


def python_shown() -> list[str]:
    return [part.split("```")[0] for part in README.split("```python")[1:]]


@pytest.mark.parametrize(("number", "name"), [(0, "plain_agent.py"), (2, "test_front_desk.py")])
def test_the_lines_of_livekit_agents_shown_in_the_readme_are_those_of_the_examples(number: int, name: str) -> None:
    example = (ROOT / "examples" / name).read_text()  # run by tests/live/test_plain_agent.py

    for line in python_shown()[number].splitlines():
        code = line.split("  #")[0].strip()
        assert code in example, code


def test_memory_alone_as_the_readme_shows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.chdir(tmp_path):
        exec(compile(python_shown()[1], "README.md", "exec"), {})

    assert "- name: Ada\n- keeps bees\n" in capsys.readouterr().out


def test_every_dotenv_name_is_a_setting() -> None:
    from voicectl.memory.config import env_names
    from voicectl.voice.config import VoiceSettings

    known = {e for n, f in VoiceSettings.model_fields.items() for e in env_names(n, f)}
    named = re.findall(r"^#?([A-Z][A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)

    assert len(named) > 10
    assert set(named) <= known
