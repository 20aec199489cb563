"""One order of sources; bad values and unknown names are refused with a way out."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from voicectl.memory.config import (
    UnknownNames,
    checkout,
    explain,
    load,
    read_state,
    state_path,
    unknown_names,
    write_state,
)
from voicectl.memory.errors import SettingError
from voicectl.voice.config import VoiceSettings

pytestmark = pytest.mark.unit


@pytest.fixture
def dotenv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    path = tmp_path / "test.env"
    monkeypatch.setenv("VOICE_ENV_FILE", str(path))
    return path


def source(name: str) -> str:
    (row,) = explain(VoiceSettings, name)
    return row.source


def test_the_environment_beats_the_dotenv_file_beats_the_state_file_beats_the_default(
    monkeypatch: pytest.MonkeyPatch, dotenv: Path, tmp_path: Path
) -> None:
    assert (load(VoiceSettings).http_port, source("VOICE_HTTP_PORT")) == (9000, "default")

    write_state(tmp_path / "home", voice_http_port=9001)
    assert (load(VoiceSettings).http_port, source("VOICE_HTTP_PORT")) == (9001, str(tmp_path / "home" / "state.json"))

    dotenv.write_text("VOICE_HTTP_PORT=9002\n")
    assert (load(VoiceSettings).http_port, source("VOICE_HTTP_PORT")) == (9002, str(dotenv))

    monkeypatch.setenv("VOICE_HTTP_PORT", "9003")
    assert (load(VoiceSettings).http_port, source("VOICE_HTTP_PORT")) == (9003, "environment")


def test_values_with_blanks_quotes_hashes_and_equals_survive_the_dotenv_file(dotenv: Path) -> None:
    dotenv.write_text("VOICE_CLOSING_LINE=\"it's = 100 % # done\"\nOPENAI_API_KEY='sk a=b#c'\n")

    settings = load(VoiceSettings)

    assert settings.closing_line == "it's = 100 % # done"
    assert settings.openai_api_key.get_secret_value() == "sk a=b#c"


def test_a_value_out_of_bounds_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICE_HTTP_PORT", "99000")

    with pytest.raises(SettingError, match=r"VOICE_HTTP_PORT='99000'.*65535.*voicectl config explain VOICE_HTTP_PORT"):
        load(VoiceSettings)


def test_a_placeholder_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPGRAM_API_KEY", "your-key-here")

    with pytest.raises(SettingError, match="DEEPGRAM_API_KEY"):
        load(VoiceSettings)


def test_an_empty_value_is_none_except_where_it_says_something(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OPENAI_API_KEY=\nDEEPGRAM_API_KEY=''\nVOICE_HTTP_PORT=\nVOICE_FILLER_LINE=\n")
    monkeypatch.setenv("VOICE_ENV_FILE", str(tmp_path / ".env"))
    monkeypatch.setenv("LIVEKIT_URL", "")
    monkeypatch.setenv("VOICE_CLOSING_LINE", "")
    write_state(load(VoiceSettings).home, livekit_url="ws://127.0.0.1:7999")

    settings = load(VoiceSettings)
    sources = {e.env: e.source for e in explain(VoiceSettings)}

    assert settings.llm_is_local()
    assert settings.stt_is_local()
    assert settings.http_port == 9000
    assert settings.livekit_url == "ws://127.0.0.1:7999"
    assert (settings.filler_line, settings.closing_line) == ("", "")
    assert sources["OPENAI_API_KEY"] == "default"
    assert sources["LIVEKIT_URL"].endswith("state.json")
    assert sources["VOICE_CLOSING_LINE"] == "environment"


@pytest.mark.parametrize("named", ["relative", "~/relative"])
def test_a_relative_home_is_one_place_wherever_voicectl_is_called_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: str
) -> None:
    monkeypatch.setenv("VOICE_HOME", named)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    expected = tmp_path if named.startswith("~") else checkout()
    assert load(VoiceSettings).home == expected / "relative"


def test_a_dotenv_file_that_is_no_text_is_refused_with_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_bytes("VOICE_HTTP_PORT=1".encode("utf-16"))
    monkeypatch.setenv("VOICE_ENV_FILE", str(tmp_path / ".env"))

    with pytest.raises(SettingError, match="UTF-8"):
        load(VoiceSettings)


def test_a_home_that_is_a_file_is_named_as_such(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VOICE_HOME", str(tmp_path / "file"))

    with pytest.raises(SettingError, match="VOICE_HOME"):
        load(VoiceSettings)


def test_an_unknown_name_with_our_prefix_is_refused_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICE_HTTP_PROT", "1")

    with pytest.raises(UnknownNames, match=r"VOICE_HTTP_PROT \(did you mean VOICE_HTTP_PORT\?\)"):
        unknown_names([VoiceSettings])


def test_names_that_look_like_a_field_are_not_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nowhere")
    monkeypatch.setenv("LOCAL", "true")
    monkeypatch.setenv("CAPACITY", "7")

    settings = load(VoiceSettings)

    assert (settings.local, settings.capacity) == (False, 0)
    assert "nowhere" not in str(settings.home)


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-topsecret")

    shown = repr(explain(VoiceSettings)) + repr(load(VoiceSettings))

    assert "topsecret" not in shown


def test_generated_values_are_for_the_owner_only(tmp_path: Path) -> None:
    write_state(tmp_path, livekit_api_secret="s")
    write_state(tmp_path, livekit_url="ws://127.0.0.1:1")

    assert read_state(tmp_path) == {"livekit_api_secret": "s", "livekit_url": "ws://127.0.0.1:1"}
    assert stat.S_IMODE(state_path(tmp_path).stat().st_mode) == 0o600


def test_a_broken_state_file_says_how_to_get_rid_of_it(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{")

    with pytest.raises(SettingError, match="rm "):
        read_state(tmp_path)
