"""Rules of the house that no other tool checks."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.sharing import GROUPS

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
GPL = ("piper-tts", "phonemizer", "espeakng")


def test_livekit_is_pinned_to_one_release() -> None:
    pins = [d for d in PROJECT["dependencies"] if d.startswith("livekit")]

    assert len(pins) >= 5
    assert all("==" in pin for pin in pins)
    assert {p.split("==")[1] for p in pins if "agents" in p or "plugins" in p} == {"1.8.9"}


def test_the_base_install_names_nothing_under_the_gpl() -> None:
    assert [d for d in PROJECT["dependencies"] if d.startswith(GPL)] == []


def test_help_imports_neither_livekit_nor_a_model() -> None:
    code = "import sys, voicectl.cli.main; print([m for m in ('livekit', 'sqlalchemy', 'numpy') if m in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_no_file_of_ours_is_longer_than_one_sitting() -> None:
    long = {
        str(p.relative_to(ROOT)): n
        for p in (ROOT / "voicectl").rglob("*.py")
        if (n := len(p.read_text().splitlines())) > 420
    }

    assert long == {}


def test_the_tests_that_share_a_process_are_there() -> None:
    assert [path for path in GROUPS if not (ROOT / path).is_file()] == []


def test_no_secret_stands_in_a_tracked_file() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    looks = re.compile(rb"sk-[A-Za-z0-9]{20,}|eyJ[\w-]{20,}\.[\w-]{20,}|-----BEGIN [A-Z ]*PRIVATE KEY-----")

    found = [n for n in tracked if n and (p := ROOT / n.decode()).is_file() and looks.search(p.read_bytes())]

    assert found == []
