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

from tests.memory.sync.conftest import CUSTOMER, ON_BOTH, say
from tests.support.letta_stub import LettaStub
from tests.support.waiting import wait_for
from voicectl.memory import profile, syncer
from voicectl.memory.backends import Rejected
from voicectl.memory.backends.letta import LettaBackend
from voicectl.memory.calls import Call, finish, open_call
from voicectl.memory.config import MemorySettings, load
from voicectl.memory.errors import SettingError
from voicectl.memory.profile import Origin, Source
from voicectl.memory.store.engine import Store
from voicectl.memory.store.leases import open_leases
from voicectl.memory.sync.figures import sync_figures
from voicectl.memory.sync.link import letta_link
from voicectl.memory.sync.mirror import BATCH_TURNS
from voicectl.memory.sync.states import Outage, Point
from voicectl.memory.sync.tools import Tools
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


@ON_BOTH
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


def test_customers_that_fail_do_not_hold_up_the_others_and_are_named(
    store: Store, settings: MemorySettings, letta: LettaStub, backend: LettaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    sick = {f"user:sick {n}" for n in range(syncer.AT_ONCE * 2)}
    whole = syncer.sync_turns

    def sync_turns(tools: Tools, customer: str) -> int:
        if customer in sick:
            raise Rejected("create agent", "HTTP 400")
        return whole(tools, customer)

    monkeypatch.setattr(syncer, "sync_turns", sync_turns)
    for customer in [*sorted(sick), "user:well"]:
        say(store, open_call(store, customer=customer, room=customer, desk="assistant", fence=1), "hello")

    with running(store, settings, backend):
        wait_for(lambda: "" if letta.rows else "the well one waits behind the sick ones", 20)
        wait_for(lambda: "" if set(sync_figures(store).failing) == sick else "not all are named", 20)
        sick.clear()
        wait_for(lambda: ", ".join(sync_figures(store).failing), 40)

    assert sync_figures(store).backlog == 0


def test_an_outage_is_told_with_its_reason_and_over_when_letta_is_back(
    store: Store, settings: MemorySettings, letta: LettaStub, backend: LettaBackend, call: Call
) -> None:
    letta.down = True
    say(store, call, "hello")

    with running(store, settings, backend):
        wait_for(lambda: "" if sync_figures(store).outage == Outage.DOWN else "not told", 30)
        assert "HTTP 500" in sync_figures(store).why
        letta.down = False
        wait_for(lambda: "" if sync_figures(store).outage == Outage.UP else "still down", 30)
        wait_for(lambda: "" if letta.rows else "nothing sent", 30)

    assert sync_figures(store).lag_ms == 0


SYNCER = """
import sys
from voicectl.memory import config, syncer
from voicectl.memory.backends import letta
made = letta.LettaBackend
letta.LettaBackend = lambda *a, **k: made(*a, **k, write_s=float(sys.argv[2]))
syncer.DRAIN_S, syncer.POLL_S = float(sys.argv[1]), 0.1
print("ready", flush=True)
syncer.run(config.load(config.MemorySettings))
"""


@contextmanager
def process(
    settings: MemorySettings, letta: LettaStub, drain_s: float = 12.0, write_s: float = 10.0
) -> Iterator[subprocess.Popen[bytes]]:
    env = {**os.environ, "VOICE_HOME": str(settings.home), "LETTA_BASE_URL": letta.url}
    if settings.database_url is not None:
        env["DATABASE_URL"] = settings.database_url.get_secret_value()
    started = subprocess.Popen(
        [sys.executable, "-c", SYNCER, str(drain_s), str(write_s)], env=env, cwd=Path.cwd(), stdout=subprocess.PIPE
    )
    try:
        assert started.stdout is not None
        started.stdout.readline()
        yield started
    finally:
        started.kill()
        started.wait()
        assert started.stdout is not None
        started.stdout.close()


@pytest.mark.process
def test_two_syncer_processes_share_the_work_and_one_that_dies_leaves_it_to_the_other(
    store: Store, settings: MemorySettings, letta: LettaStub
) -> None:
    begun = [open_call(store, customer=f"user:{n}", room=f"room-{n}", desk="assistant", fence=1) for n in range(6)]

    with process(settings, letta) as first, process(settings, letta):
        for word in ("one", "two"):
            for call in begun:
                say(store, call, word)
        wait_for(lambda: "" if letta.rows else "nothing yet", 30)
        first.kill()
        for call in begun:
            say(store, call, "three")
            finish(store, call, "done")
        wanted = sorted(f"{call.id}#{n}" for call in begun for n in (1, 2, 3))
        wait_for(lambda: "" if sorted(letta.markers()) == wanted else f"{len(letta.markers())} of 18", 60)

    assert [m for m in letta.markers() if m.startswith(begun[0].id)] == [f"{begun[0].id}#{n}" for n in (1, 2, 3)]


@pytest.mark.process
def test_a_request_that_hangs_does_not_keep_a_syncer_that_is_told_to_end(
    store: Store, settings: MemorySettings, letta: LettaStub, call: Call
) -> None:
    letta.behaviours = ["store, then silence"]
    say(store, call, "hello")

    with process(settings, letta, drain_s=0.5, write_s=120.0) as started:
        wait_for(lambda: "" if letta.rows else "not sent yet", 30)
        started.send_signal(signal.SIGTERM)

        assert started.wait(40) == 0  # the request itself goes on for longer


def test_a_syncer_that_is_told_to_end_begins_no_further_request(
    store: Store, settings: MemorySettings, letta: LettaStub, backend: LettaBackend, call: Call
) -> None:
    say(store, call, *[f"turn {n}" for n in range(BATCH_TURNS * 3)])
    stopped: list[Point] = []

    def stop(point: Point) -> None:
        if point == Point.POSTED:
            made.stop()
            stopped.append(point)

    leases = open_leases(settings)
    made = Syncer(store, leases, backend, signal=stop)
    made.run()
    leases.close()

    assert (letta.appends, stopped) == (1, [Point.POSTED])
    assert sync_figures(store).backlog == BATCH_TURNS * 2


def test_an_edit_in_letta_is_known_within_seconds_while_the_customer_is_on_a_call(
    store: Store,
    settings: MemorySettings,
    letta: LettaStub,
    backend: LettaBackend,
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(syncer, "SWEEP_S", 3600.0)  # of anybody else; this customer is on a call
    profile.put(store, CUSTOMER, "likes tea", Origin(Source.TOOL))
    say(store, call, "hello")

    with running(store, settings, backend):
        wait_for(lambda: "" if letta.rows else "no turn yet")
        next(b for b in letta.blocks.values() if b["label"] == "profile")["value"] = "likes coffee"
        wait_for(lambda: "" if profile.lines(store, CUSTOMER)[0].text == "likes coffee" else "old", 30)

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
        wait_for(lambda: "" if catches(process.pid, signal.SIGTERM) else "it is not at its waiting yet", 30)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler of its own for a signal."""
    (caught,) = [x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("SigCgt:")]
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


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
