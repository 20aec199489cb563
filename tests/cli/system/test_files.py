"""Folders, locks, logs, environment, configuration text: what needs no process of ours."""

from __future__ import annotations

import configparser
import json
import logging
import os
import stat
import threading
from pathlib import Path

import pytest

from voicectl.cli.errors import Refused
from voicectl.cli.system import disk, engines, log_files, probes, supervisor
from voicectl.cli.system.environment import for_child
from voicectl.cli.system.home import LONGEST_SOCKET, Home, exclusive
from voicectl.cli.system.logs import Lines
from voicectl.cli.system.processes import Part, in_order, table
from voicectl.cli.system.progress import Progress
from voicectl.memory.config import load, unknown_names
from voicectl.voice.config import VoiceSettings

pytestmark = pytest.mark.unit

KEYS = {"livekit_api_key": "APIx", "livekit_api_secret": "s" * 40}


def settings(**given: object) -> VoiceSettings:
    chosen = {"local_llm_url": "http://127.0.0.1:7960", "local_llm_key": "k" * 32, "worker_port": 7900, **KEYS}
    return load(VoiceSettings, **{**chosen, **given})


def names(given: VoiceSettings, server: Path | None = Path("/x/livekit-server")) -> list[str]:
    return [p.name for p in table(given, Home(Path("/h")), server)]


def test_the_table_holds_what_is_configured_and_nothing_else() -> None:
    assert names(settings()) == ["livekit", "llm", "worker", "web"]
    assert names(settings(openai_api_key="sk-1")) == ["livekit", "worker", "web"]
    assert names(settings(openai_api_key="sk-1", local=True)) == ["livekit", "llm", "worker", "web"]
    assert names(settings(livekit_url="wss://calls.example.org"), None) == ["llm", "worker", "web"]


def test_the_worker_waits_for_the_local_model_that_it_warms_up() -> None:
    def needs(given: VoiceSettings) -> dict[str, tuple[str, ...]]:
        return {p.name: p.needs for p in table(given, Home(Path("/h")), Path("/x/livekit-server"))}

    assert needs(settings())["worker"] == ("livekit", "llm")
    assert needs(settings(openai_api_key="sk-1"))["worker"] == ("livekit",)


def test_the_table_gives_a_configuration_that_supervisor_reads(tmp_path: Path) -> None:
    text = supervisor.config_text(Home(tmp_path), table(settings(), Home(tmp_path), Path("/x/s")), uid=0)

    read = configparser.RawConfigParser()
    read.read_string(text)

    assert [s for s in read.sections() if s.startswith("program:")] == [
        "program:livekit",
        "program:llm",
        "program:worker",
        "program:web",
    ]
    for section in read.sections():
        if section.startswith("program:"):
            assert read[section]["autostart"] == "false"
            assert read[section]["killasgroup"] == "true"
            assert int(read[section]["stdout_logfile_backups"]) > 0
    assert read["program:worker"]["stopasgroup"] == "false", "a signal to the group would end running calls"
    assert read["program:web"]["stopasgroup"] == "true"
    assert str(tmp_path) not in text, "paths with % or # would break the file"
    assert "user" not in configparser_of(supervisor.config_text(Home(tmp_path), [], uid=1000))["supervisord"]


def configparser_of(text: str) -> configparser.RawConfigParser:
    read = configparser.RawConfigParser()
    read.read_string(text)
    return read


def test_needs_that_cannot_be_met_are_refused() -> None:
    def part(name: str, *needs: str, optional: bool = False) -> Part:
        return Part(name, ("x",), lambda: "", needs=needs, optional=optional)

    assert [p.name for p in in_order([part("b", "a"), part("o", optional=True), part("a")])] == ["a", "b", "o"]
    with pytest.raises(ValueError, match="cannot be met"):
        in_order([part("a", "b"), part("b", "a")])


def test_a_socket_path_that_would_be_too_long_moves_to_a_short_private_folder(tmp_path: Path) -> None:
    short, long = Home(Path("/tmp/h")), Home(tmp_path / ("x" * 120))

    assert short.socket == Path("/tmp/h/run/supervisor.sock")
    assert len(os.fsencode(long.socket)) <= LONGEST_SOCKET
    assert long.socket != Home(tmp_path / ("y" * 120)).socket
    long.make()
    assert stat.S_IMODE(long.socket_folder.stat().st_mode) == 0o700
    long.socket_folder.chmod(0o755)
    with pytest.raises(Refused, match="mode 755"):
        long.make()
    long.socket_folder.rmdir()


def test_folders_of_an_installation_are_for_their_owner_only(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make()

    assert {stat.S_IMODE(p.stat().st_mode) for p in (home.root, home.run, home.logs)} == {0o700}


def test_two_that_change_an_installation_wait_for_each_other(tmp_path: Path) -> None:
    home, said, order = Home(tmp_path / "home"), list[str](), list[str]()
    second_waits = threading.Event()

    def second() -> None:
        with exclusive(home, "down", lambda line: (said.append(line), second_waits.set())):  # type: ignore[arg-type,func-returns-value]
            order.append("second")

    with exclusive(home, "up", said.append):
        thread = threading.Thread(target=second)
        thread.start()
        assert second_waits.wait(30)
        order.append("first")
    thread.join(30)

    assert order == ["first", "second"]
    assert f"voicectl up (pid {os.getpid()})" in said[0]


def test_whoever_waits_too_long_is_told_who_holds_it(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")

    with (
        exclusive(home, "up", lambda _: None),
        pytest.raises(Refused, match="voicectl up"),
        exclusive(home, "down", lambda _: None, wait_s=0.1),
    ):
        pass


def test_what_uninstall_removes_is_ours_and_what_is_not_stays(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make()
    for name in ("state.json", "memory.db", "memory.db-wal", "livekit.yaml", "state.12.tmp", "precious.txt"):
        (home.root / name).write_text("x")
    (home.root / "models" / "m").mkdir(parents=True)
    target = tmp_path / "elsewhere"
    target.mkdir()
    (home.root / "cache").symlink_to(target)

    left = disk.remove(home)

    assert [p.name for p in left] == ["precious.txt"]
    assert target.exists(), "a link is removed, not what it leads to"
    (home.root / "precious.txt").unlink()
    disk.remove(home)
    assert not home.root.exists()


@pytest.fixture(autouse=True)
def _no_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(disk, "checkout", lambda: tmp_path / "nowhere")


def test_a_child_sees_settings_and_what_programs_need_and_nothing_else() -> None:
    shell = {"PATH": "/bin", "OPENAI_API_KEY": "k", "OPENAI_ORG_ID": "stray", "AWS_SECRET": "stray", "LC_ALL": "C"}

    got = for_child("worker", Path("/h"), shell, [VoiceSettings], {"VOICE_LOCAL": "true"})

    assert got.keys() - {"NO_PROXY", "no_proxy", "PYTHONUNBUFFERED"} == {
        "PATH",
        "OPENAI_API_KEY",
        "LC_ALL",
        "VOICE_HOME",
        "VOICE_LOCAL",
        "VOICECTL_PART",
    }
    assert got["VOICECTL_PART"] == "worker"


def test_the_mark_of_our_processes_is_not_taken_for_an_unknown_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in for_child("worker", Path("/h"), {}, [VoiceSettings], {}).items():
        monkeypatch.setenv(name, value)

    unknown_names([VoiceSettings])


def test_the_end_of_a_log_is_read_over_a_rotation(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    (tmp_path / "a.log.1").write_text("".join(f"old {n}\n" for n in range(100_000)))
    log.write_text("new 0\nnew 1\n")

    assert log_files.tail(log, 3) == ["old 99999", "new 0", "new 1"]
    assert log_files.tail(log, 0) == []
    assert log_files.tail(tmp_path / "none.log", 3) == []


def test_following_a_log_misses_nothing_over_a_rotation(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("before\n")
    follower = log_files.Follower(log)

    with log.open("a") as f:
        f.write("one\ntw")
    assert follower.new() == ["one"]
    with log.open("a") as f:
        f.write("o\nthree\n")
    log.rename(tmp_path / "a.log.1")
    log.write_text("four\n")
    assert follower.new() == ["two", "three", "four"]
    assert follower.new() == []


def test_a_log_line_carries_its_fields_and_no_secret() -> None:
    record = logging.makeLogRecord({"name": "voicectl.x", "msg": "joined %s", "args": ("room",), "levelno": 20})
    record.__dict__ |= {
        "levelname": "INFO",
        "customer": "a b",
        "token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl",
        "n": 3,
    }

    line = Lines(["topsecretvalue", "short"]).format(record)
    masked = Lines(["topsecretvalue"]).masked("key=topsecretvalue")

    assert line.endswith('INFO voicectl.x joined room customer="a b" token=*** n=3')
    assert masked == "key=***"


def test_progress_speaks_at_once_then_sparingly_and_adds_up(tmp_path: Path) -> None:
    now = [0.0]
    said: list[str] = []
    progress = Progress(said.append, tmp_path / "up.log", clock=lambda: now[0])

    for second in range(7):
        now[0] = float(second)
        progress.step("models", second * 1_000_000, 6_000_000, "fetching")
    progress.done("models")
    progress.total("ready")

    assert [line.split(" s")[0].split()[-1] for line in said[:3]] == ["0.0", "5.0", "6.0"]
    assert "5 of 6 MB" in said[1]
    assert said[-1].split() == ["ready", "after", "6.0", "s,", "6", "MB", "fetched"]
    assert len((tmp_path / "up.log").read_text().splitlines()) == len(said)


def test_the_table_of_engines_names_sources_of_keys_and_no_values() -> None:
    secret = "sk-do-not-show"
    keyed = settings(openai_api_key=secret, deepgram_api_key=secret, local=False)
    sources = {"OPENAI_API_KEY": "environment", "DEEPGRAM_API_KEY": "/c/.env", "LIVEKIT_API_KEY": "/h/state.json"}

    rows = {r.part: r for r in engines.rows(keyed, sources, own_livekit="1.13.5")}
    ignored = {r.part: r for r in engines.rows(settings(openai_api_key=secret, local=True), sources, own_livekit=None)}

    assert rows["brain"].key == "OPENAI_API_KEY from environment"
    assert rows["ear"].key == "DEEPGRAM_API_KEY from /c/.env"
    assert rows["rooms"].key == "LIVEKIT_API_KEY generated"
    assert rows["voice"].key == "none needed"
    assert ignored["brain"].key == "OPENAI_API_KEY ignored (--local)"
    assert secret not in str(rows) + str(ignored)


def test_what_the_control_plane_lacks_is_read_from_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.dumps({"ready": False, "missing": {"worker": "none is registered"}})
    monkeypatch.setattr(probes, "ask", lambda url: probes.Answer(503, body))

    assert probes.can_take_a_call("http://127.0.0.1:1")() == "worker: none is registered"
