"""The loop: several syncers share the work, a customer without Letta waits, and no cloud is ever the default."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.memory.sync.conftest import CUSTOMER, say
from tests.support.letta_stub import LettaStub
from tests.support.waiting import wait_for
from voicectl.memory import profile, syncer
from voicectl.memory.backends.letta import LettaBackend
from voicectl.memory.calls import Call, finish, open_call
from voicectl.memory.config import MemorySettings, load
from voicectl.memory.errors import SettingError
from voicectl.memory.profile import Origin, Source
from voicectl.memory.store.engine import Store
from voicectl.memory.store.leases import open_leases
from voicectl.memory.sync.link import letta_link
from voicectl.memory.syncer import Syncer

pytestmark = pytest.mark.unit


@contextmanager
def running(store: Store, settings: MemorySettings, backend: LettaBackend) -> Iterator[Syncer]:
    leases = open_leases(settings)
    made = Syncer(store, leases, backend)
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        yield made
    finally:
        made.stop()
        thread.join(20)
        leases.close()


def test_two_syncers_side_by_side_send_each_turn_once(
    store: Store, settings: MemorySettings, letta: LettaStub, backend: LettaBackend
) -> None:
    begun = [open_call(store, customer=f"user:{n}", room=f"room-{n}", desk="assistant", fence=1) for n in range(6)]

    with running(store, settings, backend), running(store, settings, backend):
        for word in ("hello", "hi", "bye"):
            for call in begun:
                say(store, call, word)
        for call in begun:
            finish(store, call, "done")
        wanted = [f"{call.id}#{n}" for call in begun for n in (1, 2, 3)]
        wait_for(lambda: "" if sorted(letta.markers()) == sorted(wanted) else f"{len(letta.markers())} of 18", 20)

    for call in begun:
        assert [m for m in letta.markers() if m.startswith(call.id)] == [f"{call.id}#{n}" for n in (1, 2, 3)]


def test_an_edit_in_letta_is_known_within_seconds_while_the_customer_is_on_a_call(
    store: Store, settings: MemorySettings, letta: LettaStub, backend: LettaBackend, call: Call
) -> None:
    profile.put(store, CUSTOMER, "likes tea", Origin(Source.TOOL))
    say(store, call, "hello")

    with running(store, settings, backend):
        wait_for(lambda: "" if letta.rows else "no turn yet")
        next(b for b in letta.blocks.values() if b["label"] == "profile")["value"] = "likes coffee"
        wait_for(lambda: "" if profile.lines(store, CUSTOMER)[0].text == "likes coffee" else "old", 4)

    assert profile.lines(store, CUSTOMER)[0].source == Source.ADE


def test_without_a_server_named_nothing_is_sent_to_anybodys_cloud(settings: MemorySettings) -> None:
    with pytest.raises(SettingError, match="LETTA_BASE_URL") as refused:
        syncer.run(settings)

    assert "MEMORY_BACKEND=embedded" in str(refused.value)


@pytest.mark.process
def test_with_the_embedded_backend_it_does_nothing_until_it_is_told_to_end(settings: MemorySettings) -> None:
    code = "from voicectl.memory import syncer, config; print('ready', flush=True); "
    code += "syncer.run(config.load(config.MemorySettings))"
    env = {**os.environ, "MEMORY_BACKEND": "embedded", "VOICE_HOME": str(settings.home)}
    with subprocess.Popen([sys.executable, "-c", code], env=env, cwd=Path.cwd(), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_an_operator_is_told_where_the_customer_is_and_never_the_password(
    store: Store, letta: LettaStub, settings: MemorySettings, call: Call
) -> None:
    say(store, call, "hello", "hi")
    ours = load(MemorySettings, home=settings.home, letta_base_url=letta.url, letta_api_key="the-password")

    link = letta_link(store, ours, CUSTOMER)

    assert link is not None
    assert (link.server_url, link.agent_id, link.mirrored, link.waiting) == (letta.url, None, 0, 2)
    assert "the-password" not in "\n".join(link.how)
    assert letta.url in "\n".join(link.how)
    assert letta_link(store, load(MemorySettings, home=settings.home, backend="embedded"), CUSTOMER) is None
