"""The table of what others offer names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[1]
TABLE = (ROOT / "docs" / "peers.md").read_text()


def test_every_test_named_in_it_exists() -> None:
    named = re.findall(r"`((?:tests|bench)/[\w/]+\.py)(?:::(\w+))?`", TABLE)

    assert len(named) > 30
    for path, test in named:
        assert (ROOT / path).exists(), path
        assert not test or f"def {test}(" in (ROOT / path).read_text(), f"{path}::{test}"
