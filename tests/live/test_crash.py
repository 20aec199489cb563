"""Nothing is lost, doubled or out of order whatever is killed: the short run of bench/crash.py, every point once."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from bench.crash import RECORDER_POINTS, SYNCER_POINTS, Plan, bad, run
from tests.support.letta_server import real_letta

pytestmark = [pytest.mark.letta, pytest.mark.timeout(900)]

SHORT = Plan(turns=100, kills=2, letta_kills=0, each_point=1, moods=1, mood_s=1.0, customers=6, finish_s=300)


def test_every_turn_is_in_letta_once_and_in_order_whatever_is_killed_frozen_or_down(tmp_path: Path) -> None:
    seed = secrets.token_hex(4)
    print(f"seed {seed}: python bench/crash.py --seed {seed}")

    with real_letta(tmp_path / "letta") as letta:
        result = run(SHORT, seed, tmp_path / "home", letta)

    print(result)
    assert bad(result) == {}
    assert result["turns"] >= SHORT.turns
    # A point may not come within the patience of the short run; the full one hits each twenty times.
    assert len(result["points_hit"]) >= len(RECORDER_POINTS) + len(SYNCER_POINTS) - 3
