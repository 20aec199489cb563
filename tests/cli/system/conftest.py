"""Installations whose processes are ended after each test, whatever happened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.system.rig import Rig
from voicectl.cli.system import lifecycle
from voicectl.cli.system.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path / "home")
    made.make()
    yield made
    lifecycle.stop_all(made, lambda _: None)


@pytest.fixture
def rig(home: Home) -> Rig:
    return Rig(home)
