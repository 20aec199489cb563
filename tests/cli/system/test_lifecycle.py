"""Starting, stopping and restarting real processes under a real supervisord."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.cli.system.rig import STANDIN, Rig, free_port
from tests.support.waiting import wait_for
from voicectl.cli.errors import Failed, NotRunning
from voicectl.cli.system import lifecycle
from voicectl.cli.system.home import Home
from voicectl.cli.system.ports import owner
from voicectl.cli.system.strays import belonging

pytestmark = pytest.mark.process


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def with_home_in_environment(home: Home) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("VOICE_HOME") == str(home.root) and process.pid != os.getpid():
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def test_start_returns_when_every_part_answers_and_a_second_start_changes_nothing(rig: Rig) -> None:
    one, two = rig.part("one"), rig.part("two", needs=("one",))

    rig.start(one, two)
    pids = rig.pid("one"), rig.pid("two")
    rig.start(one, two)

    assert one.missing() == two.missing() == ""
    assert (rig.pid("one"), rig.pid("two")) == pids


def test_a_part_is_started_only_after_what_it_needs_is_ready(rig: Rig) -> None:
    seen: list[str] = []
    first = rig.part("first")
    second = rig.part("second", needs=("first",))
    slow = iter(["not yet", "not yet", "not yet"])

    def first_missing() -> str:
        seen.append(rig.supervisor.states()["second"].state)
        return next(slow, "") or first.missing()

    rig.start(first.__class__(**{**vars(first), "missing": first_missing}), second)

    assert set(seen) == {"STOPPED"}
    assert second.missing() == ""


def test_an_optional_part_that_never_gets_ready_does_not_hold_up_the_start(rig: Rig) -> None:
    rig.start(rig.part("page"), rig.part("mirror", "crash", optional=True))

    assert rig.supervisor.states()["page"].state in ("RUNNING", "STARTING")


@pytest.mark.parametrize("how", ["crash", "crash-later"])
def test_a_part_that_dies_is_reported_with_the_end_of_its_log(rig: Rig, how: str) -> None:
    begun = time.monotonic()

    with pytest.raises(Failed, match="standin speaks: .* " + how) as caught:
        rig.start(rig.part("broken", how, ready_s=60))

    assert "voicectl logs broken" in caught.value.remedy
    assert time.monotonic() - begun < 30


def test_values_with_spaces_quotes_and_signs_reach_the_process_and_strays_of_the_shell_do_not(
    rig: Rig, tmp_path: Path
) -> None:
    odd = """it's a "test" #not %(here)s %s ;comment = $HOME \\ \n second line"""
    file = tmp_path / "environment.json"

    rig.start(
        rig.part("odd", f"dump={file}", environment={"EXTRA": odd}),
        shell={"VOICE_CLOSING_LINE": odd, "OPENAI_ORG_ID": "stray", "PGHOST": "stray", "no_proxy": "example.org"},
    )

    got = json.loads(file.read_text())
    assert got["VOICE_CLOSING_LINE"] == got["EXTRA"] == odd
    assert got["VOICE_HOME"] == str(rig.home.root)
    assert got["NO_PROXY"] == got["no_proxy"] == "example.org,127.0.0.1,localhost,::1"
    assert "OPENAI_ORG_ID" not in got
    assert "PGHOST" not in got


def test_a_home_with_odd_characters_works(tmp_path: Path) -> None:
    odd = Home(tmp_path / "it's 100%s #1 ;x")
    rig = Rig(odd)
    try:
        rig.start(rig.part("one"))

        assert odd.log("one").read_text().startswith("standin speaks")
    finally:
        lifecycle.stop_all(odd, lambda _: None)


def test_a_home_whose_path_is_too_long_for_a_socket_works_and_leaves_no_folder(tmp_path: Path) -> None:
    long = Home(tmp_path / ("long" * 30))
    rig = Rig(long)
    try:
        rig.start(rig.part("one"))
        assert len(os.fsencode(long.socket)) < 100
        assert rig.pid("one") > 0
    finally:
        lifecycle.stop_all(long, lambda _: None)

    assert not long.socket_folder.exists()


def test_down_leaves_nothing_with_this_home_in_its_environment(rig: Rig) -> None:
    part = rig.part("one", "child")
    rig.start(part)
    assert len(with_home_in_environment(rig.home)) == 3

    stopped = lifecycle.stop_all(rig.home, lambda _: None)

    assert stopped == ["one", "supervisord"]
    assert with_home_in_environment(rig.home) == []
    assert owner(int(part.argv[2])) is None
    assert not list(rig.home.run.glob("*.launch.json")), "launch files may hold keys"


def test_down_after_the_supervisor_was_killed_leaves_nothing(rig: Rig) -> None:
    rig.start(rig.part("one", "child"), rig.part("two", "stubborn"))
    supervisor = rig.supervisor.pid()
    assert supervisor is not None
    os.kill(supervisor, signal.SIGKILL)
    wait_for(lambda: "still alive" if alive(supervisor) else "")
    said: list[str] = []

    stopped = lifecycle.stop_all(rig.home, said.append)

    assert {"one", "two"} <= set(stopped)
    assert "does not help" in said[0]
    assert with_home_in_environment(rig.home) == []


def test_down_of_a_frozen_supervisor_leaves_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voicectl.cli.system.supervisor.RPC_S", 0.5)
    rig.start(rig.part("one"))
    supervisor = rig.supervisor.pid()
    assert supervisor is not None
    os.kill(supervisor, signal.SIGSTOP)

    lifecycle.stop_all(rig.home, lambda _: None)

    assert with_home_in_environment(rig.home) == []


def test_a_decoy_of_the_same_command_and_a_shell_of_the_same_home_survive_down(rig: Rig) -> None:
    part = rig.part("one")
    rig.start(part)
    elsewhere = {k: v for k, v in os.environ.items() if k != "VOICE_HOME"}
    decoy = subprocess.Popen([sys.executable, str(STANDIN), str(free_port())], env=elsewhere, stdout=subprocess.DEVNULL)
    shell = subprocess.Popen(["sleep", "60"], env={**os.environ, "VOICE_HOME": str(rig.home.root)})
    try:
        lifecycle.stop_all(rig.home, lambda _: None)

        assert decoy.poll() is None
        assert shell.poll() is None
    finally:
        for mine in (decoy, shell):
            mine.kill()
            mine.wait()


def test_a_record_whose_pid_belongs_to_another_program_now_is_not_followed(rig: Rig) -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        record = {
            "pid": stranger.pid,
            "started": psutil.Process(stranger.pid).create_time() - 3600,
            "argv": ["sleep", "60"],
        }
        rig.home.record_file("one").write_text(json.dumps(record))

        assert belonging(rig.home) == []
        lifecycle.stop_all(rig.home, lambda _: None)

        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_restart_of_some_leaves_the_others_and_sweeps_what_the_old_ones_left(rig: Rig) -> None:
    kept, changed = rig.part("kept"), rig.part("changed", "child", drains_itself=True)
    rig.start(kept, changed)
    before = rig.pid("kept"), rig.pid("changed")
    children = psutil.Process(before[1]).children()
    assert len(children) == 1

    lifecycle.stop(rig.supervisor, ["changed"])
    rig.start(kept, changed)

    assert rig.pid("kept") == before[0]
    assert rig.pid("changed") != before[1]
    assert not alive(children[0].pid)
    assert [f.part for f in belonging(rig.home)].count("changed") == 2, "the new one and its child, no other"


def test_a_part_that_wants_two_signals_is_not_waited_for(rig: Rig) -> None:
    rig.start(rig.part("livekit", "twice", second_signal=True, drain_s=30))
    begun = time.monotonic()

    lifecycle.stop(rig.supervisor, ["livekit"])

    assert time.monotonic() - begun < 20, "of the 30 s of its drain"
    assert "SIGTERM 2" in rig.home.log("livekit").read_text()


def test_a_part_that_ignores_the_signal_is_killed_when_its_time_is_over(rig: Rig) -> None:
    rig.start(rig.part("worker", "stubborn", drain_s=1))
    pid = rig.pid("worker")

    lifecycle.stop(rig.supervisor, ["worker"])

    assert not alive(pid)


def test_a_part_outlives_those_that_need_it(rig: Rig) -> None:
    rig.start(rig.part("llm"), rig.part("worker", "stubborn", needs=("llm",), drain_s=1))
    order: list[set[str]] = []
    ask = rig.supervisor.ask_to_stop

    def noting(name: str) -> None:
        order.append({n for n, s in rig.supervisor.states().items() if s.pid})
        ask(name)

    rig.supervisor.ask_to_stop = noting  # type: ignore[method-assign]
    lifecycle.stop(rig.supervisor, ["llm", "worker"])

    assert order == [{"llm", "worker"}, {"llm"}]


def test_a_second_supervisor_of_the_same_home_is_refused(rig: Rig) -> None:
    rig.start(rig.part("one"))
    from voicectl.cli.system import supervise

    second = subprocess.run(
        [sys.executable, "-I", supervise.__file__, str(rig.home.run), str(rig.home.supervisor_conf)],
        cwd=rig.home.root,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert second.returncode != 0
    assert "another supervisor holds" in second.stderr


def test_logs_are_continued_not_truncated_over_restarts(rig: Rig) -> None:
    part = rig.part("one")
    rig.start(part)
    lifecycle.stop_all(rig.home, lambda _: None)

    rig.start(part)

    assert rig.home.log("one").read_text().count("standin speaks") == 2


def test_the_table_may_change_while_the_supervisor_runs(rig: Rig) -> None:
    one, two, three = rig.part("one"), rig.part("two"), rig.part("three")
    rig.start(one, two)
    pid = rig.pid("one")
    lifecycle.stop(rig.supervisor, ["two"])

    rig.start(one, three)

    assert set(rig.supervisor.states()) == {"one", "three"}
    assert rig.pid("one") == pid


def test_asking_a_stopped_installation_says_that_it_is_not_running(rig: Rig) -> None:
    with pytest.raises(NotRunning, match="voicectl up") as caught:
        rig.supervisor.states()

    assert caught.value.code == 3
