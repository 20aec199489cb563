"""`up`, `restart`, `status`, `down`, `uninstall` end to end, on an installation whose processes are stand-ins."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tests.cli.system.rig import STANDIN, free_port
from voicectl.cli.commands import down, logs, restart, status, uninstall, up
from voicectl.cli.errors import NotFound, NotRunning, Refused, Usage
from voicectl.cli.system import converge, disk, install, lifecycle, livekit_server, preflight, probes, provider_keys
from voicectl.cli.system.home import Home
from voicectl.cli.system.ports import PortTaken
from voicectl.cli.system.preflight import MB, Machine
from voicectl.cli.system.probes import Answer
from voicectl.cli.system.processes import Part
from voicectl.memory.config import read_state, write_state
from voicectl.memory.errors import SettingError, StoreForeign

pytestmark = pytest.mark.process

app = typer.Typer()
for module, name in ((up, "up"), (down, "down"), (restart, "restart"), (status, "status"), (logs, "logs")):
    app.command(name)(getattr(module, name))
app.command("uninstall")(uninstall.uninstall)


def voicectl(*words: str) -> Any:
    return CliRunner().invoke(app, list(words), catch_exceptions=False)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Home]:
    """An installation with nothing left to fetch, and a table of stand-ins for LiveKit, the worker and the page."""
    home = Home(tmp_path / "home")
    ports = {name: free_port() for name in ("livekit", "worker", "web")}
    monkeypatch.setenv("VOICE_HTTP_PORT", str(ports["web"]))
    monkeypatch.setenv("MEMORY_BACKEND", "embedded")
    monkeypatch.setenv("VOICE_WORKER_PORT", str(ports["worker"]))
    server = tmp_path / "livekit-server"
    server.write_text(f"#!/bin/sh\necho version {livekit_server.VERSION}\n")
    server.chmod(0o755)
    monkeypatch.setenv("VOICE_LIVEKIT_SERVER_BIN", str(server))
    # A port of our own instead of LiveKit's usual one, as another LiveKit may run on this machine.
    write_state(home.root, livekit_url=f"ws://127.0.0.1:{ports['livekit']}", voice_rtc_udp_port=free_port())

    def table(settings: Any, home: Home, program: Path | None, **_: bool) -> list[Part]:
        return [
            Part(
                name,
                (sys.executable, str(STANDIN), str(port)),
                probes.answers(f"http://127.0.0.1:{port}/"),
                kept=name == "livekit",
                needs=() if name == "livekit" else ("livekit",),
            )
            for name, port in ports.items()
        ]

    monkeypatch.setattr(converge, "table", table)
    monkeypatch.setattr("voicectl.cli.system.survey.table", table)
    monkeypatch.setattr(install, "page_is_missing", lambda: False)
    monkeypatch.setattr(preflight, "model_names", lambda settings: [])
    monkeypatch.setattr(preflight, "machine", lambda home: Machine(100_000 * MB, 100_000 * MB, None))
    monkeypatch.setattr(disk, "checkout", lambda: tmp_path / "nowhere")
    yield home
    lifecycle.stop_all(home, lambda _: None)


def pids() -> dict[str, int]:
    return {r["name"]: r["pid"] for r in json.loads(voicectl("status", "--json").stdout)["processes"]}


def test_up_ends_with_the_table_and_a_second_one_changes_nothing(machine: Home) -> None:
    first = json.loads(voicectl("up", "--json").stdout)
    before = pids()
    state = read_state(machine.root)

    voicectl("up")

    assert first["schema_version"] == 1
    assert {p["part"] for p in first["parts"]} == {"page", "rooms", "ear", "brain", "voice", "memory"}
    assert pids() == before
    assert before.keys() == {"supervisord", "livekit", "worker", "web"}
    assert read_state(machine.root) == state


def test_status_says_what_runs_since_when_under_which_build(machine: Home) -> None:
    voicectl("up")

    seen = json.loads(voicectl("status", "--json").stdout)

    assert seen["schema_version"] == 1
    assert seen["ready"] is True
    assert {r["state"] for r in seen["processes"]} == {"ready"}
    assert all(r["build"] == seen["build"] for r in seen["processes"] if r["name"] != "supervisord")
    assert all(r["uptime_s"] >= 0 and r["pid"] for r in seen["processes"])
    assert "worker" in voicectl("status").stdout


def test_restart_renews_all_but_livekit_and_twice_in_a_row_leaves_one_of_each(machine: Home) -> None:
    voicectl("up")
    first = pids()

    voicectl("restart")
    second = pids()
    voicectl("restart")
    third = pids()

    assert first["livekit"] == second["livekit"] == third["livekit"]
    assert len({first["worker"], second["worker"], third["worker"]}) == 3
    assert len({first["web"], second["web"], third["web"]}) == 3
    workers = [f for f in lifecycle.belonging(machine) if f.part == "worker"]
    assert [f.process.pid for f in workers] == [third["worker"]]


def test_a_restart_keeps_a_warm_model_only_while_code_and_settings_are_the_same(
    machine: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = converge.table
    monkeypatch.setattr(
        converge,
        "table",
        lambda *a, **k: [replace(p, kept_if_same=True) if p.name == "web" else p for p in table(*a, **k)],
    )
    voicectl("up")
    first = pids()

    said = voicectl("restart").stderr
    same = pids()
    monkeypatch.setenv("VOICE_CLOSING_LINE", "Bye.")
    voicectl("restart")
    other_settings = pids()
    monkeypatch.setattr(converge, "build_id", lambda: "0.1.0+newcode")
    voicectl("restart")

    assert "kept as it runs: livekit, web" in said
    assert same["web"] == first["web"]
    assert other_settings["web"] != same["web"]
    assert pids()["web"] != other_settings["web"]


def test_up_leaves_older_code_running_and_says_so(machine: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    voicectl("up")
    before = pids()
    monkeypatch.setattr(converge, "build_id", lambda: "0.1.0+newcode")

    said = voicectl("up").stderr

    assert "worker runs with older code; to change that: voicectl restart" in said
    assert "livekit runs" not in said
    assert pids() == before


def test_restart_all_renews_livekit_too(machine: Home) -> None:
    voicectl("up")
    before = pids()

    voicectl("restart", "--all")

    assert pids()["livekit"] != before["livekit"]


def test_restart_of_a_stopped_installation_starts_it(machine: Home) -> None:
    voicectl("restart")

    assert pids()["worker"]


def test_a_kept_part_that_no_longer_does_its_work_is_renewed_by_up(
    machine: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    voicectl("up")
    before = pids()
    table = converge.table
    refused = iter(["refuses our key"])

    def useless(*args: Any, **chosen: bool) -> list[Part]:
        first, *others = table(*args, **chosen)
        return [replace(first, missing=lambda: next(refused, "") or first.missing()), *others]

    monkeypatch.setattr(converge, "table", useless)
    voicectl("up")

    assert pids()["livekit"] != before["livekit"]
    assert pids()["worker"] == before["worker"]


def test_down_stops_everything_and_says_what(machine: Home) -> None:
    voicectl("up")

    stopped = json.loads(voicectl("down", "--json").stdout)["stopped"]

    assert stopped == ["livekit", "supervisord", "web", "worker"]
    assert json.loads(voicectl("down", "--json").stdout)["stopped"] == []
    with pytest.raises(NotRunning):
        voicectl("status")


def test_a_start_over_the_remains_of_a_killed_supervisor_leaves_one_of_each(machine: Home) -> None:
    voicectl("up")
    os.kill(pids()["supervisord"], 9)

    voicectl("up")

    parts = [f.part for f in lifecycle.belonging(machine)]
    assert sorted(parts) == ["livekit", "supervisord", "web", "worker"]


def test_a_page_port_in_use_is_refused_before_anything_is_written(machine: Home) -> None:
    state = read_state(machine.root)
    environment = {k: v for k, v in os.environ.items() if k != "VOICE_HOME"}
    with subprocess.Popen(
        [sys.executable, str(STANDIN), os.environ["VOICE_HTTP_PORT"]], env=environment, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        wait_for_listener(int(os.environ["VOICE_HTTP_PORT"]))
        try:
            with pytest.raises(PortTaken, match=f"pid {other.pid}"):
                voicectl("up")

            assert other.poll() is None
        finally:
            other.kill()

    assert read_state(machine.root) == state
    assert lifecycle.belonging(machine) == []


def wait_for_listener(port: int) -> None:
    deadline = time.monotonic() + 10
    while probes.ask(f"http://127.0.0.1:{port}/").status != 200:
        assert time.monotonic() < deadline, f"nobody answers at {port}"
        time.sleep(0.02)


def test_a_stray_database_url_with_foreign_tables_is_refused(
    machine: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE invoices (id INTEGER)")
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{foreign}")

    with pytest.raises(StoreForeign, match="invoices"):
        voicectl("up")

    assert lifecycle.belonging(machine) == []


def test_a_full_disk_is_told_with_the_figure_before_the_store_is_asked_to_write(
    machine: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def store(settings: Any) -> None:
        raise AssertionError("the store was opened first: its words are `disk I/O error`")

    monkeypatch.setattr(preflight, "machine", lambda home: Machine(2 * MB, 100_000 * MB, None))
    monkeypatch.setattr(converge, "open_store", store)

    with pytest.raises(Refused, match="2 MB are free"):
        voicectl("up")


def test_a_wrong_provider_key_is_refused_and_local_ignores_it(machine: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-stray")
    monkeypatch.setattr(provider_keys.check, "__defaults__", (lambda url, headers: Answer(401, "no"),))

    with pytest.raises(Refused, match="OPENAI_API_KEY is refused") as caught:
        voicectl("up")
    assert "sk-stray" not in str(caught.value)
    rows = json.loads(voicectl("up", "--local", "--json").stdout)["parts"]

    assert next(r for r in rows if r["part"] == "brain")["key"] == "OPENAI_API_KEY ignored (--local)"
    assert read_state(machine.root)["voice_local"] is True
    voicectl("restart")  # stays local until told otherwise
    spec = json.loads(machine.launch_file("worker").read_text())
    assert "VOICE_LOCAL" not in spec["env"], "the state file says it; the shell does not"


def test_an_unknown_name_with_our_prefix_is_refused_before_anything_starts(
    machine: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOICE_HTTP_PROT", "9001")

    with pytest.raises(SettingError, match="did you mean VOICE_HTTP_PORT"):
        voicectl("up")

    assert lifecycle.belonging(machine) == []


def test_short_memory_is_refused_before_anything_starts(machine: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "machine", lambda home: Machine(100_000 * MB, 10 * MB, None))

    with pytest.raises(Refused, match="10 MB of memory"):
        voicectl("up")

    assert lifecycle.belonging(machine) == []


def test_a_dead_proxy_matters_only_when_something_is_to_be_fetched(
    machine: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    voicectl("up")

    monkeypatch.setattr(install, "page_is_missing", lambda: True)
    with pytest.raises(Refused, match="HTTPS_PROXY names a proxy"):
        voicectl("restart")


def test_logs_of_one_and_of_all_and_of_none(machine: Home) -> None:
    voicectl("up")

    assert "standin speaks" in voicectl("logs", "worker").stdout
    assert "web         standin speaks" in voicectl("logs").stdout
    document = json.loads(voicectl("logs", "worker", "-n", "1", "--json").stdout)
    assert len(document["logs"]["worker"]["lines"]) == 1
    with pytest.raises(NotFound, match=r"There are: .*worker"):
        voicectl("logs", "wrker")
    with pytest.raises(Usage):
        voicectl("logs", "--json", "-f")


def test_uninstall_refuses_without_a_terminal_and_removes_everything_with_yes(machine: Home) -> None:
    voicectl("up")

    with pytest.raises(Refused, match="nobody confirmed") as caught:
        voicectl("uninstall")
    assert caught.value.code == 5
    assert pids()["worker"]
    voicectl("uninstall", "--yes")

    assert not machine.root.exists()
    assert lifecycle.belonging(machine) == []


def test_an_install_step_that_fails_is_told_and_ends_the_others(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make()
    environment = {"VOICE_HOME": str(home.root), "VOICECTL_PART": livekit_server.BUILDING, "PATH": os.environ["PATH"]}
    builder = subprocess.Popen(["sleep", "60"], env=environment)

    def build() -> None:
        builder.wait()

    def broken() -> None:
        raise OSError("No space left on device")

    with pytest.raises(install.Failed, match="installing models: No space left"):
        install.run({"livekit-server": build, "models": broken}, home)

    assert builder.poll() is not None
