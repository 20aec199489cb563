"""Which engine is chosen and why, with which options; no model is loaded here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from voicectl.memory.config import load
from voicectl.voice import engines, models
from voicectl.voice.config import VoiceSettings
from voicectl.voice.engines import llm, tts
from voicectl.voice.proxies import proxy_for

pytestmark = pytest.mark.unit

KEYS = {"deepgram_api_key": "dg", "cartesia_api_key": "ca", "openai_api_key": "sk"}


def chosen(tmp_path: Path, **given: object) -> VoiceSettings:
    return load(VoiceSettings, home=tmp_path, **given)


def test_without_a_key_everything_is_embedded_and_needs_its_models(tmp_path: Path) -> None:
    settings = chosen(tmp_path)

    names = engines.describe(settings)

    assert "faster-whisper" in names["stt"]
    assert "piper" in names["tts"]
    assert "Qwen" in names["llm"]
    assert all("embedded" in names[role] for role in ("stt", "llm", "tts"))
    assert engines.needed_models(settings) == [models.EAR, models.VOICE, models.LANGUAGE]


def test_with_keys_providers_are_used_and_no_model_is_needed(tmp_path: Path) -> None:
    settings = chosen(tmp_path, **KEYS)

    names = engines.describe(settings)

    assert [names["stt"], names["tts"]] == ["Deepgram nova-3 (DEEPGRAM_API_KEY)", "Cartesia sonic-3 (CARTESIA_API_KEY)"]
    assert "OPENAI_API_KEY" in names["llm"]
    assert engines.needed_models(settings) == []


def test_local_ignores_every_key(tmp_path: Path) -> None:
    settings = chosen(tmp_path, local=True, **KEYS)

    assert all("VOICE_LOCAL" in engines.describe(settings)[role] for role in ("stt", "llm", "tts"))
    assert len(engines.needed_models(settings)) == 3


async def test_providers_are_built_with_their_addresses_and_without_loading_anything(tmp_path: Path) -> None:
    settings = chosen(
        tmp_path,
        **KEYS,
        deepgram_base_url="http://127.0.0.1:1/v1",
        cartesia_base_url="http://127.0.0.1:2",
        openai_base_url="http://127.0.0.1:3/v1",
    )

    made = engines.build(settings, keyterms=lambda: ["Rahim"])

    assert made.stt._opts.endpoint_url == "http://127.0.0.1:1/v1/listen"  # type: ignore[attr-defined]
    assert made.stt._opts.keyterm == ["Rahim"]  # type: ignore[attr-defined]
    assert made.tts._opts.base_url == "http://127.0.0.1:2"  # type: ignore[attr-defined]
    assert made.llm.provider == "127.0.0.1:3"
    await made.aclose()


@pytest.mark.parametrize(
    ("url", "strict"), [(None, True), ("https://api.openai.com/v1", True), ("http://127.0.0.1:3/v1", False)]
)
async def test_strict_tool_schemas_are_for_openai_alone(tmp_path: Path, url: str | None, strict: bool) -> None:
    watched = llm.remote(chosen(tmp_path, openai_api_key="sk", openai_base_url=url))

    assert watched.inner._strict_tool_schema is strict  # type: ignore[attr-defined]
    await watched.aclose()


async def test_embedded_engine_without_its_model_says_which_command_brings_it(tmp_path: Path) -> None:
    with pytest.raises(models.ModelMissing, match=r"voicectl models pull whisper-tiny\.en"):
        engines.build(chosen(tmp_path, openai_api_key="sk"))


@pytest.mark.parametrize(("given", "early"), [({}, False), ({"openai_api_key": "sk"}, True)])
def test_replies_are_begun_early_only_where_a_remote_model_pays_for_it(
    tmp_path: Path, given: dict[str, str], early: bool
) -> None:
    options = engines.turn_handling(chosen(tmp_path, **given))

    assert options["preemptive_generation"]["enabled"] is early


def test_turns_are_decided_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # With these the framework's defaults would send callers' audio to its maker's gateway.
    monkeypatch.setenv("LIVEKIT_DEV_MODE", "1")
    monkeypatch.setenv("LIVEKIT_API_KEY", "k")
    monkeypatch.setenv("LIVEKIT_API_SECRET", "s")

    options = engines.turn_handling(chosen(tmp_path))

    assert options["turn_detection"].model == "turn-detector-v1-mini"  # type: ignore[union-attr]
    assert options["interruption"]["mode"] == "vad"


def test_failing_language_model_does_not_end_the_call_after_a_few_turns(tmp_path: Path) -> None:
    options = engines.connect_options(chosen(tmp_path, llm_timeout_s=2))

    assert options.max_unrecoverable_errors >= 10
    assert (options.llm_conn_options.max_retry, options.llm_conn_options.timeout) == (0, 2)


def test_proxy_of_the_environment_is_never_used_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "inside.example")

    assert proxy_for("wss://api.deepgram.com/v1") == "http://proxy:3128"
    assert proxy_for("https://inside.example/v1") is None
    assert [proxy_for(u) for u in ("http://127.0.0.1:1", "ws://localhost:2", "http://[::1]:3")] == [None] * 3


def test_what_a_worker_imports_before_it_forks_starts_no_threads_of_ours(tmp_path: Path) -> None:
    settings = [chosen(tmp_path), chosen(tmp_path, **KEYS)]
    names = sorted({m for s in settings for m in engines.plugin_modules(s)})
    count = "len(os.listdir('/proc/self/task'))"
    code = (
        f"import importlib, os, sys, livekit.agents; before = {count};"
        f"[importlib.import_module(m) for m in sys.argv[1:]]; print({count} - before)"
    )

    done = subprocess.run([sys.executable, "-c", code, *names], check=True, timeout=60, capture_output=True, text=True)

    assert "livekit.plugins.openai" in names
    assert done.stdout.strip() == "0", "a forked child would miss these threads"


@pytest.mark.parametrize("module", ["voicectl.voice.models", "voicectl.voice.engines"])
def test_import_is_light(module: str) -> None:
    heavy = "{'livekit', 'numpy', 'onnxruntime', 'faster_whisper', 'piper', 'aiohttp'}"
    code = f"import sys, {module}; found = {heavy} & set(sys.modules); assert not found, found"

    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_transform_is_what_the_session_takes() -> None:
    from livekit.agents.voice.transcription.text_transforms import _apply_text_transforms

    async def nothing():  # type: ignore[no-untyped-def]
        yield ""

    assert _apply_text_transforms(nothing(), [tts.spell_ids_transform])
