"""What `up` chooses, and what it refuses, with the ports and servers of the machine played."""

from __future__ import annotations

from typing import Any

import pytest

from voicectl.cli.errors import NotRunning, Refused
from voicectl.cli.system.choices import Situation, choose, forwards_tcp_only
from voicectl.cli.system.ports import Owner, PortTaken
from voicectl.cli.system.probes import Answer
from voicectl.memory.config import load
from voicectl.memory.errors import SettingError
from voicectl.voice.config import VoiceSettings

pytestmark = pytest.mark.unit

STRANGER = Owner(4242, "livekit-server --dev")
KEYS = {"livekit_api_key": "APIours", "livekit_api_secret": "s" * 40}


def situation(
    held: dict[int, Owner] | None = None, sources: dict[str, str] | None = None, status: int = 401, ours: int = 0
) -> Situation:
    holders = held or {}
    return Situation(
        sources=sources or {},
        is_ours=lambda pid: pid == ours,
        running=frozenset(),
        owner=lambda port, udp=False: holders.get(-port if udp else port),
        free=lambda preferred, udp=False, taken=(): preferred + 10,
        accepts=lambda url, key, secret: Answer(status, "refused"),
    )


def chosen(now: Situation, environment: dict[str, str] | None = None, **given: Any) -> Any:
    return choose(load(VoiceSettings, **given), now, environment or {})


def test_keys_are_generated_long_enough_for_the_server_and_never_devkey() -> None:
    one, two = chosen(situation()), chosen(situation())

    assert one.start_livekit
    assert len(one.state["livekit_api_secret"]) >= 32
    assert one.state["livekit_api_key"] != "devkey"
    assert one.state["livekit_api_secret"] != two.state["livekit_api_secret"]


def test_keys_chosen_before_stay() -> None:
    assert not {"livekit_api_key", "livekit_api_secret"} & chosen(situation(), **KEYS).state.keys()


def test_only_one_half_of_the_key_pair_is_refused() -> None:
    with pytest.raises(SettingError, match="LIVEKIT_API_SECRET"):
        chosen(situation(), livekit_api_key="APIhalf")


def test_a_free_preferred_port_is_taken() -> None:
    assert "livekit_url" not in chosen(situation(), **KEYS).state


def test_a_foreign_livekit_on_the_port_is_left_alone_and_another_port_recorded() -> None:
    choice = chosen(situation({7880: STRANGER}), **KEYS)

    assert choice.start_livekit
    assert choice.state["livekit_url"] == "ws://127.0.0.1:7890"
    assert "pid 4242 (livekit-server --dev)" in choice.notes[0]


def test_our_own_livekit_on_the_port_is_kept() -> None:
    choice = chosen(situation({7880: Owner(77, "livekit-server")}, ours=77), **KEYS)

    assert choice.start_livekit
    assert "livekit_url" not in choice.state


def test_a_server_that_takes_our_key_is_used_and_none_is_started() -> None:
    choice = chosen(situation({7880: STRANGER}, status=200), **KEYS)

    assert not choice.start_livekit
    assert "already runs" in choice.notes[0]


def test_a_foreign_server_at_an_address_that_a_person_set_is_refused_by_name() -> None:
    now = situation({7880: STRANGER}, {"LIVEKIT_URL": "environment"})

    with pytest.raises(PortTaken, match=r"7880 is held by pid 4242 \(livekit-server --dev\)") as caught:
        chosen(now, livekit_url="ws://127.0.0.1:7880", **KEYS)

    assert caught.value.code == 5


def test_a_server_elsewhere_is_used_and_its_faults_are_told_apart() -> None:
    url = "wss://calls.example.org"

    assert not chosen(situation(status=200), livekit_url=url, **KEYS).start_livekit
    with pytest.raises(Refused, match="refuses LIVEKIT_API_KEY"):
        chosen(situation(status=401), livekit_url=url, **KEYS)
    with pytest.raises(NotRunning, match="does not answer"):
        chosen(situation(status=0), livekit_url=url, **KEYS)
    with pytest.raises(SettingError, match="LIVEKIT_API_KEY"):
        chosen(situation(status=200), livekit_url=url)


def test_a_taken_media_port_is_replaced_unless_a_person_set_it() -> None:
    held = {-7882: STRANGER}

    assert chosen(situation(held), **KEYS).state["voice_rtc_udp_port"] == 7892
    with pytest.raises(PortTaken, match="VOICE_RTC_UDP_PORT"):
        chosen(situation(held, {"VOICE_RTC_UDP_PORT": "environment"}), **KEYS)


def test_the_local_model_gets_an_address_and_a_key_once() -> None:
    first = chosen(situation(), **KEYS).state
    again = chosen(
        situation(),
        local_llm_url=first["voice_local_llm_url"],
        local_llm_key=first["voice_local_llm_key"],
        worker_port=first["voice_worker_port"],
        **KEYS,
    )

    assert first["voice_local_llm_url"].startswith("http://127.0.0.1:")
    assert len(first["voice_local_llm_key"]) >= 32
    assert again.state == {}


def test_a_recorded_port_that_somebody_else_took_meanwhile_is_replaced() -> None:
    now = situation({7950: STRANGER, 7901: STRANGER}, {"VOICE_LOCAL_LLM_URL": "/x/state.json"})

    choice = chosen(now, local_llm_url="http://127.0.0.1:7950", local_llm_key="k" * 32, worker_port=7901, **KEYS)

    assert choice.state == {"voice_local_llm_url": "http://127.0.0.1:7970", "voice_worker_port": 7910}


def test_with_a_provider_for_language_no_local_model_is_chosen() -> None:
    assert not any("llm" in name for name in chosen(situation(), openai_api_key="sk-real", **KEYS).state)


def test_in_an_ssh_session_media_may_use_tcp_and_the_person_is_told_that_it_listens_everywhere(tmp_path: Any) -> None:
    choice = chosen(situation(), {"SSH_CONNECTION": "1.2.3.4 5 6.7.8.9 22"}, **KEYS)

    assert choice.state["voice_rtc_tcp_port"] == 7891
    assert "all interfaces" in choice.notes[0]
    (tmp_path / "version").write_text("Linux version 5.15-Microsoft-standard-WSL2")
    assert forwards_tcp_only({}, tmp_path / "version") == "WSL"
    (tmp_path / "version").write_text("Linux version 6.1")
    assert forwards_tcp_only({}, tmp_path / "version") == ""


def test_a_secret_of_another_project_that_is_too_short_is_refused_at_once() -> None:
    with pytest.raises(Refused, match="LIVEKIT_API_SECRET has 6 characters") as caught:
        chosen(situation(), livekit_api_key="devkey", livekit_api_secret="secret")

    assert "unset LIVEKIT_API_KEY LIVEKIT_API_SECRET" in caught.value.remedy
