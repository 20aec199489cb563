"""A Letta that is not the one we know, or none at all: said in words, nothing lost, nothing sent to a cloud."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from tests.cli.test_sync import run
from tests.memory.sync.conftest import say
from tests.memory.sync.test_syncer import running
from tests.support.letta_stub import LettaStub
from tests.support.waiting import wait_for
from voicectl.memory import syncer
from voicectl.memory.backends.letta import LettaBackend
from voicectl.memory.calls import Call
from voicectl.memory.config import MemorySettings, load
from voicectl.memory.errors import SettingError
from voicectl.memory.store.engine import Store
from voicectl.memory.sync import reach
from voicectl.memory.sync.figures import sync_figures
from voicectl.memory.sync.states import Outage

pytestmark = pytest.mark.unit


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whose addresses are looked up, by whatever code."""
    whole, names = socket.getaddrinfo, []

    def look_up(host: Any, *more: Any, **options: Any) -> Any:
        names.append(str(host))
        if host not in ("127.0.0.1", "localhost"):
            raise socket.gaierror("not from a test")
        return whole(host, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return names


def down(store: Store, words: str) -> str:
    seen = sync_figures(store)
    return "" if seen.outage == Outage.DOWN and words in seen.why else f"{seen.outage}: {seen.why}"


def test_a_letta_of_another_version_is_told_and_gets_every_turn_as_long_as_it_takes_them(
    store: Store,
    settings: MemorySettings,
    letta: LettaStub,
    backend: LettaBackend,
    call: Call,
    caplog: pytest.LogCaptureFixture,
) -> None:
    letta.version = "0.17.3"
    say(store, call, "hello")

    with running(store, settings, backend):
        wait_for(lambda: "" if letta.rows else "nothing sent", 30)

    (told,) = [r for r in caplog.records if "not tested with us" in r.message]
    assert told.levelname == "WARNING"
    assert (told.version, told.tested) == ("0.17.3", "0.16.8")  # type: ignore[attr-defined]


def test_a_server_that_knows_none_of_our_requests_is_down_with_its_answer_and_turns_wait(
    store: Store, settings: MemorySettings, letta: LettaStub, backend: LettaBackend, call: Call
) -> None:
    whole = letta.answer
    letta.answer = lambda *_: (404, {"detail": "Not Found"})  # type: ignore[method-assign]
    say(store, call, "hello")

    with running(store, settings, backend):
        wait_for(lambda: down(store, "HTTP 404"), 30)
        assert sync_figures(store).backlog == 1
        letta.answer = whole  # type: ignore[method-assign]
        wait_for(lambda: "" if letta.markers() == [f"{call.id}#1"] else "nothing sent", 30)


def test_a_wrong_password_is_told_with_the_setting_and_never_itself_and_turns_wait(
    store: Store, settings: MemorySettings, letta: LettaStub, call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    letta.key = "right-password"
    wrong = LettaBackend(letta.url, "wrong-password", "http://127.0.0.1:1/v1", write_s=1.5)
    say(store, call, "hello")

    with running(store, settings, wrong):
        wait_for(lambda: down(store, "check LETTA_API_KEY"), 30)
        assert sync_figures(store).backlog == 1
        assert letta.agents == {}
        letta.key = "wrong-password"
        wait_for(lambda: "" if letta.markers() == [f"{call.id}#1"] else "nothing sent", 30)

    wrong.close()
    assert "password" not in caplog.text


@pytest.mark.parametrize("address", [None, ""])
def test_without_an_address_no_command_and_no_syncer_asks_anybody(
    store: Store,
    settings: MemorySettings,
    call: Call,
    asked: list[str],
    address: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LETTA_API_KEY", "sk-of-a-cloud")  # with it the client would be let in
    if settings.database_url is not None:
        monkeypatch.setenv("DATABASE_URL", settings.database_url.get_secret_value())
    if address is not None:
        monkeypatch.setenv("LETTA_BASE_URL", address)
    say(store, call, "hello")

    with pytest.raises(SettingError, match="LETTA_BASE_URL"):
        syncer.run(load(MemorySettings))
    for command in (["sync", "verify"], ["memory", "rebuild"], ["sync", "verify", "user:42"]):
        code, said = run(*command)
        assert (code, "LETTA_BASE_URL" in said) == (2, True), said
    with reach.letta_if_any(load(MemorySettings)) as found:
        assert found is None

    assert asked == []


def test_only_the_address_that_was_given_is_asked_whatever_the_environment_names(
    store: Store,
    settings: MemorySettings,
    letta: LettaStub,
    call: Call,
    asked: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LETTA_BASE_URL", "https://api.letta.com")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    backend = LettaBackend(letta.url, "key", "http://127.0.0.1:1/v1", write_s=1.5)
    say(store, call, "hello")

    with running(store, settings, backend):
        wait_for(lambda: "" if letta.rows else "nothing sent", 30)

    backend.close()
    assert set(asked) == {"127.0.0.1"}
