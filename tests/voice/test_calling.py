"""The fixture that calls an agent: where it keeps its voice and ear."""

from __future__ import annotations

from pathlib import Path

import pytest

from voicectl.voice import calling, pytest_plugin

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("named", "home"), [("", calling.HOME), ("/srv/voice", Path("/srv/voice"))])
def test_an_empty_voice_home_is_none(monkeypatch: pytest.MonkeyPatch, named: str, home: Path) -> None:
    asked: list[Path] = []

    def speech_at(home: Path) -> tuple[None, None]:
        asked.append(home)
        return None, None

    monkeypatch.setattr(calling, "speech_at", speech_at)
    for name in (*pytest_plugin.WANTED, "VOICE_HOME"):
        monkeypatch.setenv(name, named if name == "VOICE_HOME" else "given")

    pytest_plugin.call_agent.__wrapped__()  # type: ignore[attr-defined]  # what pytest would call

    assert asked == [home]
