"""What every test shares: an installation in a temporary folder, and nothing of the environment around it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from voicectl.memory.config import MemorySettings, load
from voicectl.memory.store.engine import Store, open_store

FOREIGN = ("LIVEKIT_", "LETTA_", "OPENAI_", "DEEPGRAM_", "CARTESIA_", "DATABASE_URL", "VOICE_", "MEMORY_")


@pytest.hookimpl(optionalhook=True)  # absent where xdist is
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    from tests.support.sharing import Sharing

    return Sharing(config, log)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keys of the shell and the checkout's .env must not decide a test."""
    for name in list(os.environ):
        if name.startswith(FOREIGN) and not name.startswith("VOICE_TEST_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("VOICE_ENV_FILE", str(tmp_path / "none.env"))
    monkeypatch.setenv("VOICE_HOME", str(tmp_path / "home"))


@pytest.fixture
def settings(tmp_path: Path) -> MemorySettings:
    return load(MemorySettings, home=tmp_path / "home")


@pytest.fixture
def store(settings: MemorySettings) -> Iterator[Store]:
    opened = open_store(settings)
    yield opened
    opened.close()
