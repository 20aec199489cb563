"""The Letta server of this installation and its PostgreSQL: one process of the table that runs both.

Order: wait until nobody is on a call, fetch what is missing, make the database, migrate, serve; all at idle priority.
Promise: SIGTERM ends both, the server first; what an earlier run left behind is ended at the start.
Not here: the two processes (letta_processes.py), what is fetched (letta_install.py), ports and passwords (letta.py).
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import psutil

from voicectl.cli.errors import Failed
from voicectl.cli.system import letta_install
from voicectl.cli.system.home import Home
from voicectl.cli.system.letta_install import Files, LettaOff, Say
from voicectl.cli.system.letta_processes import Access, LettaServer
from voicectl.cli.system.strays import belonging, end
from voicectl.memory.config import read_state
from voicectl.memory.errors import StoreUnavailable
from voicectl.memory.own_calls import somebody_is_on
from voicectl.memory.store.engine import Store, open_store
from voicectl.voice.config import VoiceSettings

log = logging.getLogger(__name__)

NICE = 19
QUIET_S = 1800.0  # a machine with somebody always on a call gets its Letta after this all the same
SETTLE_S = 5.0  # who calls the moment `up` returns, or again a second after hanging up, is in the store by then
RETRY_S = 600.0  # after "off": a registry may be reachable again


def access_of(settings: VoiceSettings) -> Access:
    """Ports and passwords as `voicectl up` chose them.

    Raises:
        LettaOff: It has not.
    """
    state = read_state(settings.home)
    names = ("letta_base_url", "letta_postgres_port", "letta_postgres_password")
    if settings.letta_api_key is None or any(n not in state for n in names):
        raise LettaOff("no ports and passwords were chosen for it yet; run: voicectl up")
    return Access(
        port=urlsplit(str(state["letta_base_url"])).port or 0,
        key=settings.letta_api_key.get_secret_value(),
        postgres_port=int(state["letta_postgres_port"]),
        postgres_password=str(state["letta_postgres_password"]),
    )


def run(settings: VoiceSettings) -> None:
    """Fetch, migrate and serve until SIGTERM or SIGINT. Where Letta cannot run, say why once and try again later.

    Raises:
        Failed: One of the two ended; the supervisor starts this again.
    """
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _n, _f: stopping.set())
    idle_priority()
    at = letta_install.files(settings.home)
    at.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Of a run that was killed: they would hold the ports and the database.
    end([f for f in belonging(Home(settings.home)) if f.part == "letta"])
    store = open_store(settings)
    try:
        while not stopping.is_set():
            try:
                _serve(settings, at, store, stopping)
            except LettaOff as e:
                _status(at, "off", e.reason)
                log.warning("Letta is off; turns wait in the store", extra={"why": e.reason})
                stopping.wait(RETRY_S)
    finally:
        _status(at, "stopped", "")
        store.close()


def _serve(settings: VoiceSettings, at: Files, store: Store, stopping: threading.Event) -> None:
    def say(words: str) -> None:
        log.info(words)
        _status(at, "starting", words)

    access = access_of(settings)
    if why := letta_install.can_be_postgres():
        raise LettaOff(why)
    server = LettaServer(at, access, settings.home, lambda line: print(line, file=sys.stderr, flush=True))  # noqa: T201
    steps: list[tuple[str, Callable[[], None]]] = [
        ("looking what is installed", lambda: letta_install.install(at, say)),
        ("starting PostgreSQL", server.start_database),
        ("bringing the database to Letta's schema", server.migrate),
        ("starting Letta, about 15 s", server.start),
    ]
    try:
        for number, (words, step) in enumerate(steps):
            _wait_for_quiet(store, stopping, say, settle_s=0.0 if number else SETTLE_S)
            if stopping.is_set():
                return
            say(words)
            step()
        _status(at, "running", f"version {letta_install.VERSION}")
        log.info("Letta runs", extra={"port": access.port})
        while not stopping.wait(0.5):
            if gone := server.ended():
                raise Failed(gone, "See: voicectl logs letta")
    finally:
        server.stop()


def _wait_for_quiet(store: Store, stopping: threading.Event, say: Say, *, settle_s: float) -> None:
    """Wait while somebody is on a call: each step takes both cores for seconds.

    Args:
        store: Where calls are seen.
        stopping: Ends the wait.
        say: Told that we wait.
        settle_s: Seconds without a call that are enough when there was none; after a call it is SETTLE_S.
    """
    deadline = time.monotonic() + QUIET_S
    quiet_from, told = time.monotonic(), False
    while not stopping.is_set() and (now := time.monotonic()) < deadline:
        try:
            busy = somebody_is_on(store)
        except StoreUnavailable:
            return  # then no call can be seen either, and nothing here needs the store
        if busy:
            quiet_from, settle_s = now, SETTLE_S
            if not told:
                say("waiting until nobody is on a call")
                told = True
        elif now - quiet_from >= settle_s:
            return
        stopping.wait(0.5)


def idle_priority() -> None:
    """Give this process, and what it starts, what is left of processor and disk."""
    me = psutil.Process()
    if me.nice() < NICE:
        me.nice(NICE)
    if hasattr(psutil, "IOPRIO_CLASS_IDLE"):
        me.ionice(psutil.IOPRIO_CLASS_IDLE)


def _status(at: Files, phase: str, words: str) -> None:
    draft = at.status.with_suffix(".tmp")
    draft.write_text(json.dumps({"phase": phase, "words": words, "at_s": int(time.time())}))
    draft.replace(at.status)
