"""`voicectl desks`: an agent of Letta gets a voice, the team says what holds; words and exit code of what cannot be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.support.letta_stub import LettaStub
from voicectl.cli.faults import explained
from voicectl.cli.main import app
from voicectl.memory import desk_prompt, desks
from voicectl.memory.calls import open_call
from voicectl.memory.lines import BLOCK_LIMIT
from voicectl.memory.store.engine import Store

pytestmark = pytest.mark.unit


@pytest.fixture
def letta(monkeypatch: pytest.MonkeyPatch) -> Iterator[LettaStub]:
    with LettaStub() as stub:
        monkeypatch.setenv("LETTA_BASE_URL", stub.url)
        yield stub


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        answer = explained(result.exception)  # as main() does
        assert answer is not None, result.exception
        return answer.code, answer.text
    return result.exit_code, result.output


def document(*words: str) -> Any:
    code, said = run(*words)
    assert code == 0, said
    return json.loads(said)


def test_an_agent_of_letta_becomes_a_desk_with_all_it_has_and_leaves_again(store: Store, letta: LettaStub) -> None:
    agent_id = letta.make_agent("Agent 66", "Be kind.", {"persona": "I am 66.", "human": "From Dhaka."})

    code, said = run("desks", "add", "--letta", "Agent 66")

    assert (code, f"Agent-66 speaks for Agent 66 ({agent_id}); blocks: human, persona" in said) == (0, True)
    assert desk_prompt.read(store, "Agent-66").blocks == (("human", "From Dhaka."), ("persona", "I am 66."))
    ours, theirs = document("desks", "list", "--json")["desks"]
    assert (ours["name"], ours["kind"], ours["state"]) == ("assistant", "ours", "ready")
    assert (theirs["name"], theirs["kind"], theirs["agent"]) == ("Agent-66", "letta", agent_id)
    desks.gone(store, agent_id, 1_700_000_000_000)
    assert "is not in Letta any more, since 2023-11-14" in run("desks", "list")[1]
    assert f"desk Agent-66: its agent {agent_id} is not in Letta any more" in run("sync", "status")[1]
    assert document("sync", "status", "--json")["desks_without_agent"] == ["Agent-66"]
    with store.write() as connection:
        connection.exec_driver_sql("update desk_agents set gone_ms = null, read_ms = 1700000000000")
    assert "last read from Letta 2023-11-14" in run("desks", "list")[1]
    assert run("desks", "add", "--letta", agent_id, "--name", "second")[0] == 0
    assert run("desks", "remove", "second")[0] == 0
    assert agent_id in letta.agents
    assert run("desks", "remove", "second")[0] == 4


def test_what_cannot_be_a_desk_is_refused_with_words(store: Store, letta: LettaStub) -> None:
    letta.make_agent("Agent_66")
    letta.make_agent("???")

    assert run("desks", "add", "--letta", "agent_6") == (4, "Letta has no agent 'agent_6'. Did you mean: Agent_66?")
    code, said = run("desks", "add", "--letta", "agent-00000000-0000-4000-8000-000000000000")
    assert (code, "has no agent" in said) == (4, True)
    for name in ("two words", "../x", "-x", "x" * 41, "ünï"):
        code, said = run("desks", "add", "--letta", "Agent_66", f"--name={name}")
        assert (code, "a desk cannot be called" in said) == (2, True)
    assert run("desks", "add", "--letta", "???")[0] == 2
    assert run("desks", "add", "--letta", "Agent_66", "--name", "Assistant")[0] == 5
    assert run("desks", "add", "--letta", "Agent_66")[0] == 0
    code, said = run("desks", "add", "--letta", "Agent_66", "--name", "AGENT_66")
    assert (code, "there is a desk Agent_66" in said) == (5, True)
    assert run("desks", "remove", "assistant")[0] == 5
    open_call(store, customer="user:1", room="r", desk="Agent_66", fence=1)
    code, said = run("desks", "remove", "Agent_66")
    assert (code, "1 calls of it are on" in said) == (5, True)
    letta.down = True
    assert run("desks", "add", "--letta", "Agent_66", "--name", "other")[0] == 3


def test_without_letta_there_is_no_agent_to_speak_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_BACKEND", "embedded")

    code, said = run("desks", "add", "--letta", "Agent_66")

    assert (code, "MEMORY_BACKEND=embedded" in said) == (5, True)


def test_what_the_team_says_of_a_desk_is_kept_with_every_version(store: Store, tmp_path: Path) -> None:
    assert run("desks", "policy", "assistant") == (0, "nothing is said of assistant\n")
    rules = tmp_path / "rules.txt"
    rules.write_text("Offer lunch first.\nNever promise a discount.\n")

    assert run("desks", "policy", "assistant", "--file", str(rules))[0] == 0
    assert run("desks", "policy", "assistant", "--set", "Be brief.") == (0, "Be brief.\n")

    seen = document("desks", "policy", "assistant", "--json")
    assert seen["text"] == "Be brief."
    assert [v["text"] for v in seen["versions"]] == ["Offer lunch first.\nNever promise a discount.", "Be brief."]
    code, said = run("desks", "policy", "assistant", "--set", "x" * (BLOCK_LIMIT + 1))
    assert (code, f"{BLOCK_LIMIT} fit" in said) == (5, True)
    code, said = run("desks", "policy", "nobody")
    assert (code, "there are: assistant" in said) == (4, True)
    assert run("desks", "policy", "assistant", "--set", "x", "--file", str(rules))[0] == 2
    assert run("desks", "policy", "assistant", "--file", str(tmp_path / "none"))[0] == 4
    rules.write_bytes(b"\xff\xfe\x00")
    assert run("desks", "policy", "assistant", "--file", str(rules))[0] == 2
    assert run("desks", "policy", "assistant", "--set", "") == (0, "nothing is said of assistant\n")


def test_a_policy_comes_from_a_pipe_or_standard_input_and_an_endless_one_ends(store: Store, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as writer:
        written = writer.submit(pipe.write_text, "Offer lunch first.\n")
        assert run("desks", "policy", "assistant", "--file", str(pipe)) == (0, "Offer lunch first.\n")
        written.result()

    said = CliRunner().invoke(app, ["desks", "policy", "assistant", "--file", "-"], input="Be brief.\n")

    assert (said.exit_code, said.stdout) == (0, "Be brief.\n")
    code, words = run("desks", "policy", "assistant", "--file", "/dev/zero")
    assert (code, f"{BLOCK_LIMIT} characters fit" in words) == (5, True)
    code, words = run("desks", "policy", "assistant", "--file", str(tmp_path))
    assert (code, "cannot be read: Is a directory" in words) == (2, True)
    closed = subprocess.run(
        ["sh", "-c", f'"{sys.executable}" -m voicectl.cli.main desks policy assistant --file - <&-'],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (closed.returncode, "standard input is closed" in closed.stderr) == (2, True), closed.stderr
    assert document("desks", "policy", "assistant", "--json")["text"] == "Be brief."
