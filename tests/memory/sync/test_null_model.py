"""The null model answers with nothing, in the two forms that Letta asks for, and is one an installation."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.support.waiting import wait_for
from voicectl.memory import null_model
from voicectl.memory.config import MemorySettings, read_state, write_state
from voicectl.memory.null_model import MODEL, NullModel, PortInUse
from voicectl.memory.sync.backoff import Backoff
from voicectl.memory.sync.null_keeper import NullModelKeeper

pytestmark = pytest.mark.unit


def post(url: str, body: Any) -> str:
    request = urllib.request.Request(f"{url}/chat/completions", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=5) as answer:
        return str(answer.read().decode())


def test_a_completion_is_empty_and_costs_nothing() -> None:
    with NullModel() as model:
        said = json.loads(post(model.url, {"model": MODEL, "messages": []}))

    assert said["choices"][0]["message"] == {"role": "assistant", "content": ""}
    assert said["usage"]["total_tokens"] == 0  # more would make Letta compact long calls


def test_a_stream_is_empty_ends_and_tells_its_usage() -> None:
    with NullModel() as model:
        said = post(model.url, {"model": MODEL, "messages": [], "stream": True})

    events = [json.loads(line[6:]) for line in said.splitlines() if line.startswith("data: {")]
    assert "".join(c["delta"].get("content", "") for e in events for c in e["choices"]) == ""
    assert events[-2]["choices"][0]["finish_reason"] == "stop"
    assert events[-1]["usage"]["total_tokens"] == 0
    assert said.rstrip().endswith("data: [DONE]")


def test_it_lists_its_one_model_and_refuses_what_is_no_request() -> None:
    with NullModel() as model:
        with urllib.request.urlopen(f"{model.url}/models", timeout=5) as answer:
            assert [m["id"] for m in json.load(answer)["data"]] == [MODEL]
        with pytest.raises(urllib.error.HTTPError) as refused:
            post(model.url, ["not", "an", "object"])
        refused.value.close()

    assert refused.value.code == 400


def test_a_second_syncer_uses_the_first_ones_model_and_takes_over_when_that_is_gone(settings: MemorySettings) -> None:
    first = NullModelKeeper(settings)
    second = NullModelKeeper(settings, every_s=0.05)
    port = int(read_state(settings.home)["null_model_port"])
    assert first.url == second.url

    first.close()

    wait_for(lambda: "" if null_model.answers(port) else "nobody answers")
    second.close()
    assert not null_model.answers(port)


def test_a_port_that_somebody_else_took_is_left_to_them(settings: MemorySettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = int(other.getsockname()[1])
        write_state(settings.home, null_model_port=taken)

        keeper = NullModelKeeper(settings)

        assert read_state(settings.home)["null_model_port"] != taken
        keeper.close()
        with pytest.raises(PortInUse):
            NullModel(taken)


def test_waits_double_up_to_a_limit_with_jitter_and_one_success_forgets_them() -> None:
    now = [0.0]
    backoff = Backoff(1, 8, clock=lambda: now[0], chance=lambda: 0.0)
    waits = []
    for _ in range(6):
        backoff.failed()
        begun = now[0]
        while not backoff.due:
            now[0] += 0.25
        waits.append(now[0] - begun)

    backoff.succeeded()

    assert waits == [0.5, 1, 2, 4, 4, 4]
    assert backoff.due
    assert not backoff.failing
