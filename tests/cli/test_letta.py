"""Letta as a part of the installation: what is chosen, when it is left out, what its row in the table says."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from voicectl.cli.system import letta, letta_install
from voicectl.cli.system.choices import Situation
from voicectl.cli.system.home import Home
from voicectl.cli.system.letta_processes import Access, LettaServer, drop_dead_lock
from voicectl.cli.system.ports import Owner
from voicectl.cli.system.preflight import Machine
from voicectl.memory.config import load, write_state
from voicectl.voice.config import VoiceSettings

pytestmark = pytest.mark.unit

BIG = Machine(disk_bytes=50_000_000_000, memory_bytes=20_000_000_000, cpu_flags=None)


def situation(taken: tuple[int, ...] = (), **sources: str) -> Situation:
    def owner(port: int, *, udp: bool = False) -> Owner | None:
        return Owner(1, "somebody's letta server") if port in taken else None

    def free(preferred: int, **_: Any) -> int:
        return next(p for p in range(preferred, preferred + 9) if p not in taken)

    return Situation(sources, lambda _pid: False, frozenset(), owner=owner, free=free)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def settings(home: Path, **given: Any) -> VoiceSettings:
    return load(VoiceSettings, home=home, **given)


def test_a_server_of_ours_gets_an_address_ports_and_passwords_once(home: Path) -> None:
    first, notes = letta.choose(settings(home), situation())
    write_state(home, **first)

    again, _ = letta.choose(settings(home), situation())

    assert first["letta_base_url"] == "http://127.0.0.1:8283"
    assert len(str(first["letta_api_key"])) >= 24
    assert first["letta_api_key"] != first["letta_postgres_password"]
    assert (notes, again) == ([], {})
    assert letta.is_ours(settings(home))


def test_a_foreign_server_on_the_port_is_left_alone_and_named(home: Path) -> None:
    state, notes = letta.choose(settings(home), situation(taken=(8283,)))

    assert state["letta_base_url"] == "http://127.0.0.1:8284"
    assert "somebody's letta server" in notes[0]


def test_a_server_that_a_person_named_is_used_and_none_is_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LETTA_BASE_URL", "http://letta.example:8283")

    state, _ = letta.choose(settings(home), situation(LETTA_BASE_URL="environment"))

    assert state == {}
    assert [p.name for p in letta.parts(settings(home), Home(home))] == ["syncer"]


def test_without_letta_nothing_is_chosen_and_only_the_learner_runs(home: Path) -> None:
    embedded = settings(home, backend="embedded")

    assert letta.choose(embedded, situation()) == ({}, [])
    learner = letta.parts(embedded, Home(home))
    assert [(p.name, p.optional, p.missing()) for p in learner] == [("syncer", True, "")]  # it learns from calls
    assert letta.parts(settings(home, backend="embedded", memory_step="off"), Home(home)) == []


@pytest.mark.parametrize(
    ("machine", "why"),
    [
        (BIG, ""),
        (Machine(3_000_000_000, 20_000_000_000, None), "3,000 MB of disk are free, 4,000 MB are needed"),
        (Machine(50_000_000_000, 5_000_000_000, None), "5,000 MB of memory are free, 6,000 are needed"),
    ],
)
def test_a_small_machine_is_told_one_reason_with_its_figure(
    home: Path, machine: Machine, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letta_install, "can_be_postgres", lambda: "")

    assert letta.why_not(settings(home), machine) == why


def test_calls_never_wait_for_letta_unless_asked(home: Path) -> None:
    write_state(home, **letta.choose(settings(home), situation())[0])

    usual = letta.parts(settings(home), Home(home))
    waited_for = letta.parts(settings(home), Home(home), wait=True)

    assert [(p.name, p.optional, p.nice) for p in usual] == [("letta", True, 19), ("syncer", True, 0)]
    assert not any(p.optional for p in waited_for)
    assert "not started yet" in usual[0].missing()


def test_agents_answer_operators_with_the_model_of_the_calls(home: Path) -> None:
    local = letta.llm_endpoint(settings(home, local_llm_url="http://127.0.0.1:7960", local_llm_key="k"))
    keyed = letta.llm_endpoint(settings(home, openai_api_key="sk-1", openai_base_url="http://llm/v1", llm_model="m"))

    assert local is not None
    assert keyed is not None
    assert (local.base_url, local.api_key) == ("http://127.0.0.1:7960/v1", "k")
    assert (keyed.base_url, keyed.api_key, keyed.model) == ("http://llm/v1", "sk-1", "m")
    assert "sk-1" not in repr(keyed)
    assert letta.llm_endpoint(settings(home)) is None


def test_lettas_environment_holds_no_key_of_the_shell(home: Path) -> None:
    shell = {"OPENAI_API_KEY": "sk-stray", "LETTA_PG_URI": "elsewhere", "SSL_CERT_FILE": "/certs", "HOME": "/root"}

    server = LettaServer(letta_install.files(home), Access(1, "a", 2, "b"), home, print, shell=shell)

    environment = server.environment
    assert "sk-stray" not in environment.values()
    assert "LETTA_PG_URI" not in environment
    assert environment["SSL_CERT_FILE"] == "/certs"
    assert environment["HOME"] == str(home / "letta" / "home")
    assert "127.0.0.1" in environment["NO_PROXY"]


def test_the_lock_of_a_killed_database_is_dropped_and_that_of_a_live_one_kept(tmp_path: Path) -> None:
    lock = tmp_path / "postmaster.pid"
    with subprocess.Popen(["true"]) as gone:
        os.waitid(os.P_PID, gone.pid, os.WEXITED | os.WNOWAIT)  # dead, not reaped
        lock.write_text(f"{gone.pid}\n/data\n")
        drop_dead_lock(tmp_path)
        assert not lock.exists()
    lock.write_text(f"{os.getpid()}\n/data\n")

    drop_dead_lock(tmp_path)

    assert lock.exists()


def test_a_start_without_letta_leaves_out_what_only_serves_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from voicectl.cli.system import roster

    write_state(tmp_path, letta_base_url="http://127.0.0.1:8283", letta_api_key="k" * 24, null_model_port=8330)
    monkeypatch.setenv("VOICE_HOME", str(tmp_path))
    keys = {"livekit_api_key": "key", "livekit_api_secret": "s" * 40}

    def names(**chosen: bool) -> set[str]:
        settings = load(VoiceSettings, home=tmp_path, **keys)
        return {p.name for p in roster.table(settings, Home(tmp_path), None, **chosen)}

    assert {"letta", "syncer"} <= names()
    assert names(start_letta=False) == names() - {"letta", "syncer"}
