"""The page's own checks: types, and the unit tests of its pure parts."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]
PAGE = Path(__file__).resolve().parents[2] / "page"


def test_the_pages_types_and_unit_tests_are_green(tmp_path: Path) -> None:
    npm = shutil.which("npm")
    assert npm is not None, "npm is needed on PATH for this test: https://nodejs.org/en/download"
    copy = tmp_path / "page"
    shutil.copytree(PAGE, copy, ignore=shutil.ignore_patterns("node_modules"))

    for command in (["ci", "--ignore-scripts", "--no-audit", "--no-fund"], ["run", "check"]):
        done = subprocess.run([npm, *command], cwd=copy, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "passed" in done.stdout
