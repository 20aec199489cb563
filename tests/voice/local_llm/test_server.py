"""The model's server refuses clearly what it cannot do."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from voicectl.memory.config import load
from voicectl.memory.errors import SettingError
from voicectl.voice.config import VoiceSettings
from voicectl.voice.engines.local_llm.errors import CpuTooOld, ModelMissing
from voicectl.voice.engines.local_llm.server import address, check_cpu, model_file, serve

pytestmark = pytest.mark.unit


def test_a_missing_model_names_the_folder_and_the_command(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing) as refused:
        model_file(tmp_path)

    assert str(tmp_path / "models" / "qwen2.5-coder-1.5b") in str(refused.value)
    assert "voicectl models pull" in str(refused.value)


def test_two_models_in_the_folder_are_refused_and_one_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "qwen2.5-coder-1.5b"
    folder.mkdir(parents=True)
    (folder / "a.gguf").touch()
    assert model_file(tmp_path) == folder / "a.gguf"

    (folder / "b.gguf").touch()
    with pytest.raises(ModelMissing, match=r"2 \.gguf files"):
        model_file(tmp_path)


def test_an_x86_processor_without_avx2_is_refused_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    check_cpu(lambda: "flags : sse4_2 avx avx2 fma")
    with pytest.raises(CpuTooOld, match=r"no avx2.*OPENAI_API_KEY"):
        check_cpu(lambda: "flags : sse4_2 avx")

    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    check_cpu(lambda: "Features : asimd")


@pytest.mark.parametrize("url", [None, "http://127.0.0.1", "http://10.0.0.7:8080"])
def test_an_address_that_is_not_a_loopback_port_is_refused(url: str | None, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="VOICE_LOCAL_LLM_URL"):
        address(load(VoiceSettings, home=tmp_path, local_llm_url=url))


def test_serving_without_a_key_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "qwen2.5-coder-1.5b"
    folder.mkdir(parents=True)
    (folder / "a.gguf").touch()

    with pytest.raises(SettingError, match="VOICE_LOCAL_LLM_KEY"):
        serve(load(VoiceSettings, home=tmp_path, local_llm_url="http://127.0.0.1:18811"))
