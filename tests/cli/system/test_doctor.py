"""Each check of the doctor against a patient that has what it looks for, and one remedy each."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cli.system.rig import Rig, free_port
from voicectl.cli.system import doctor, preflight, provider_keys
from voicectl.cli.system.doctor import Finding, Patient, Verdict
from voicectl.cli.system.home import Home
from voicectl.cli.system.ports import Owner
from voicectl.cli.system.preflight import MB, Machine
from voicectl.cli.system.probes import Answer
from voicectl.memory.config import load, write_state
from voicectl.voice.config import VoiceSettings

pytestmark = pytest.mark.process

KEYS = {"livekit_api_key": "APIx", "livekit_api_secret": "s" * 40}


@pytest.fixture
def well(home: Home) -> Patient:
    """Everything as it should be, nothing running."""
    settings = load(VoiceSettings, livekit_url=f"ws://127.0.0.1:{free_port()}", http_port=free_port(), **KEYS)
    return Patient(
        home=home,
        settings=settings,
        environment={},
        machine=Machine(100_000 * MB, 100_000 * MB, frozenset({"avx2"})),
        parts=[],
        models_ready=lambda name: True,
        connects=lambda host, port: True,
    )


def worst(patient: Patient, check: doctor.Check) -> Finding:
    findings = doctor.examine(patient, [check])
    order = [Verdict.OK, Verdict.WARNING, Verdict.FAILED]
    return max(findings, key=lambda f: order.index(f.verdict))


def test_a_well_patient_has_no_failed_check(well: Patient) -> None:
    failed = [f for f in doctor.examine(well) if f.verdict is Verdict.FAILED]

    assert failed == []


def test_an_old_python_fails(well: Patient) -> None:
    found = worst(replace(well, python=(3, 10)), doctor.python)

    assert found.verdict is Verdict.FAILED
    assert "uv sync" in found.remedy


def test_a_folder_that_cannot_be_written_to_fails(well: Patient, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    found = worst(replace(well, home=Home(tmp_path / "file" / "home")), doctor.folder)

    assert found.verdict is Verdict.FAILED
    assert "VOICE_HOME=/path" in found.remedy


def test_an_environment_without_the_engines_of_local_models_fails(
    well: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight.check_engines, "__defaults__", (lambda name: None,))

    found = worst(well, doctor.engines)

    assert found.verdict is Verdict.FAILED
    assert "./restart_voice_system.sh" in found.remedy


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        (Machine(10 * MB, 100_000 * MB, frozenset({"avx2"})), "10 MB are free on the disk"),
        (Machine(100_000 * MB, 10 * MB, frozenset({"avx2"})), "10 MB of memory"),
        (Machine(100_000 * MB, 100_000 * MB, frozenset({"sse"})), "no AVX2"),
    ],
)
def test_a_machine_that_is_too_small_fails(well: Patient, machine: Machine, said: str) -> None:
    found = worst(replace(well, machine=machine), doctor.machine)

    assert found.verdict is Verdict.FAILED
    assert said in found.text
    assert "voicectl up" in found.remedy


def test_a_dead_proxy_fails(well: Patient) -> None:
    ill = replace(well, environment={"https_proxy": "http://127.0.0.1:9"}, connects=lambda host, port: False)

    assert "unset https_proxy" in worst(ill, doctor.proxy).remedy


def test_a_dead_proxy_is_a_warning_when_nothing_is_to_be_fetched(
    well: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ill = replace(well, environment={"https_proxy": "http://127.0.0.1:9"}, connects=lambda host, port: False)
    assert worst(ill, doctor.proxy).verdict is Verdict.FAILED

    monkeypatch.setattr(doctor, "_to_fetch", lambda p: [])

    assert worst(ill, doctor.proxy).verdict is Verdict.WARNING


def test_a_state_file_that_others_can_read_fails(well: Patient) -> None:
    write_state(well.home.root, livekit_api_key="x")
    (well.home.root / "state.json").chmod(0o644)

    found = worst(well, doctor.state_file)

    assert found.verdict is Verdict.FAILED
    assert found.remedy == f"chmod 600 {well.home.root / 'state.json'}"


def test_a_foreign_database_fails(well: Patient, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE invoices (id INTEGER)")
    ill = replace(well, settings=load(VoiceSettings, database_url=f"sqlite:///{foreign}", **KEYS))

    assert "invoices" in worst(ill, doctor.store).text


def test_missing_models_fail(well: Patient) -> None:
    found = worst(replace(well, models_ready=lambda name: not name.startswith("qwen")), doctor.model_files)

    assert found.verdict is Verdict.FAILED
    assert "qwen" in found.text
    assert found.remedy == "voicectl models pull"


def test_a_key_that_the_provider_refuses_fails_and_is_not_told(well: Patient, monkeypatch: Any) -> None:
    monkeypatch.setattr(provider_keys, "ask_provider", lambda url, headers: Answer(401, "no"))
    monkeypatch.setattr(provider_keys.check, "__defaults__", (provider_keys.ask_provider,))
    ill = replace(well, settings=load(VoiceSettings, openai_api_key="sk-very-secret", **KEYS))

    found = worst(ill, doctor.keys)

    assert found.verdict is Verdict.FAILED
    assert "OPENAI_API_KEY" in found.text
    assert "sk-very-secret" not in str(found)


def test_a_page_port_that_somebody_holds_fails_and_names_him(well: Patient) -> None:
    ill = replace(well, owner=lambda port: Owner(4242, "python -m http.server"))

    found = worst(ill, doctor.page_port)

    assert found.verdict is Verdict.FAILED
    assert "pid 4242 (python -m http.server)" in found.text
    assert "kill 4242" in found.remedy


def test_processes_without_a_supervisor_fail(well: Patient) -> None:
    rig = Rig(well.home)
    rig.start(rig.part("one", "child"))
    pid = rig.supervisor.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], 5)

    found = worst(well, doctor.supervisor)

    assert found.verdict is Verdict.FAILED
    assert "one" in found.text
    assert found.remedy == "voicectl restart"


def test_a_process_that_does_not_run_or_is_not_ready_fails(well: Patient) -> None:
    rig = Rig(well.home)
    good, stopped, deaf = rig.part("good"), rig.part("stopped", optional=True), rig.part("deaf")
    rig.start(good, stopped, deaf)
    rig.supervisor.ask_to_stop("stopped")
    ill = replace(well, parts=[good, stopped, replace(deaf, missing=lambda: "the model is loading")])

    findings = {f.check: f for f in doctor.examine(ill, [doctor.processes])}

    assert findings["good"].verdict is Verdict.OK
    assert findings["stopped"].verdict is Verdict.FAILED
    assert "the model is loading" in findings["deaf"].text
    assert "voicectl logs deaf" in findings["deaf"].remedy


def test_what_nobody_waits_for_and_was_not_started_is_no_failure(well: Patient) -> None:
    rig = Rig(well.home)
    good, letta = rig.part("good"), rig.part("letta", optional=True)
    rig.start(good)

    found = worst(replace(well, parts=[good, letta]), doctor.processes)

    assert (found.check, found.verdict, found.remedy) == ("letta", Verdict.WARNING, "voicectl up")


def test_older_code_and_other_settings_are_warned_of(well: Patient) -> None:
    rig = Rig(well.home)
    part = rig.part("one")
    rig.start(part)  # under build "b1"
    ill = replace(well, parts=[part], environment={**os.environ, "OPENAI_API_KEY": "sk-new"})

    findings = doctor.examine(ill, [doctor.drift])

    assert [f.check for f in findings] == ["code", "settings"]
    assert "b1" in findings[0].text
    assert "OPENAI_API_KEY" in findings[1].text
    assert "sk-new" not in str(findings)


@pytest.fixture
def refusing_livekit() -> Iterator[int]:
    import http.server
    import threading

    class Refuse(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(401)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Refuse) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_livekit_that_refuses_our_key_fails(well: Patient, refusing_livekit: int) -> None:
    ill = replace(well, settings=load(VoiceSettings, livekit_url=f"ws://127.0.0.1:{refusing_livekit}", **KEYS))

    found = worst(ill, doctor.livekit)

    assert found.verdict is Verdict.FAILED
    assert "not ours" in found.text
    assert "voicectl restart" in found.remedy


def test_a_check_that_breaks_does_not_stop_the_others(well: Patient) -> None:
    (well.home.root / "state.json").write_text(json.dumps({"livekit_api_key": "x"}))
    (well.home.root / "state.json").chmod(0o644)
    ill = replace(well, owner=lambda port: Owner(1, "x"))

    names = {f.check for f in doctor.examine(ill, [doctor.page_port, doctor.state_file])}

    assert names == {"page port", "state file"}
