"""Every claimed requirement names tests that exist."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[1]
CLAIMED: dict[str, list[str]] = tomllib.loads((ROOT / "tests" / "requirements.toml").read_text())


def functions_in(path: Path) -> set[str]:
    return {
        n.name
        for n in ast.walk(ast.parse(path.read_text()))
        if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) and n.name.startswith("test_")
    }


@pytest.mark.parametrize("claim", sorted(CLAIMED))
def test_a_claimed_requirement_has_a_test(claim: str) -> None:
    assert re.fullmatch(r"R-\d\d|S\d-\d+", claim)
    assert CLAIMED[claim]
    for node in CLAIMED[claim]:
        path, name = node.split("::")
        assert name in functions_in(ROOT / path), f"{claim}: {node} does not exist"
