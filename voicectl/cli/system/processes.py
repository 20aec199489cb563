"""The table of processes: start, stop, restart, status, logs and doctor all read this one.

A row says what runs, what it needs, how we know that it is ready, and how it is stopped. Adding a process to the
installation is adding a row here. Not here: how rows become running processes (supervisor.py).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from voicectl.cli.system import probes
from voicectl.cli.system.home import Home
from voicectl.cli.system.probes import Probe
from voicectl.voice.config import VoiceSettings


@dataclass(frozen=True)
class Part:
    """One process of the installation.

    Args:
        name: Its name in every command, its log and its records.
        argv: The command.
        missing: What it still lacks to do its work, "" when ready.
        address: Where it can be reached, for people.
        needs: Parts that must be ready before it is started, and that outlive it when both are stopped.
        environment: Variables added to its environment.
        ready_s: How long it may take until it is ready, in seconds.
        drain_s: How long it may take to finish after SIGTERM before it is killed, in seconds.
        drains_itself: SIGTERM goes to the first process only, which winds its children up.
        second_signal: A second SIGTERM makes it stop without draining; we send both.
        kept: A restart leaves it alone unless asked for everything.
        kept_if_same: A restart leaves it alone while it runs this very code with these very settings.
        optional: Others count as ready without it; it is started last and not waited for.
        nice: Added to its niceness.
    """

    name: str
    argv: tuple[str, ...]
    missing: Probe
    address: str = ""
    needs: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    ready_s: float = 60.0
    drain_s: float = 10.0
    drains_itself: bool = False
    second_signal: bool = False
    kept: bool = False
    kept_if_same: bool = False
    optional: bool = False
    nice: int = 0


def page_url(settings: VoiceSettings) -> str:
    """Where the page is reached from this machine."""
    host = "127.0.0.1" if settings.http_host in ("0.0.0.0", "::", "") else settings.http_host  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.http_port}"


def is_loopback(url: str) -> bool:
    """Whether an address is on this machine only."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def voicectl(*words: str) -> tuple[str, ...]:
    """The command line of a voicectl that runs beside this one, on the same interpreter."""
    return (sys.executable, "-m", "voicectl.cli.main", *words)


def table(settings: VoiceSettings, home: Home, livekit_server: Path | None) -> list[Part]:
    """The processes that calls need, in the order in which they start; roster.py adds those that nobody waits for.

    Args:
        settings: With every port and key chosen.
        home: The installation.
        livekit_server: Program to run as LiveKit server; None when another server is used.
    """
    rows: list[Part] = []
    key, secret = settings.key_secret()
    if livekit_server is not None:
        rows.append(
            Part(
                name="livekit",
                argv=(str(livekit_server), "--config", str(home.livekit_yaml)),
                missing=probes.livekit(settings.livekit_url, key, secret),
                address=settings.livekit_url,
                ready_s=15,
                drain_s=3,  # with live rooms it drains for ever and answers nobody new (livekit-server.md 1)
                second_signal=True,
                kept=True,
            )
        )
    needs = ("livekit",) if livekit_server is not None else ()
    if settings.llm_is_local():
        url = settings.local_llm_url or ""
        bearer = settings.local_llm_key.get_secret_value() if settings.local_llm_key else ""
        rows.append(
            Part(
                name="llm",
                argv=voicectl("run", "llm"),
                missing=probes.answers(
                    url.removesuffix("/").removesuffix("/v1") + "/health", {"Authorization": f"Bearer {bearer}"}
                ),
                address=url,
                ready_s=120,
                drain_s=5,
                kept_if_same=True,  # its cache holds the prompts; to read them again takes 15 s of both cores
            )
        )
    rows.append(
        Part(
            name="worker",
            argv=voicectl("run", "worker"),
            missing=probes.answers(f"http://127.0.0.1:{settings.worker_port}/"),
            # The model too: the worker warms it up before it registers, and calls being wound up still ask it.
            needs=(*needs, "llm") if settings.llm_is_local() else needs,
            ready_s=60,
            drain_s=30,
            # A SIGTERM to the whole group would end the fork server that holds the exit pipes of running jobs,
            # and the worker would take every call for dead.
            drains_itself=True,
        )
    )
    rows.append(
        Part(
            name="web",
            argv=voicectl("run", "web"),
            missing=probes.can_take_a_call(page_url(settings)),
            address=page_url(settings),
            needs=needs,
            ready_s=120,  # it says ready when everything else is, the model's warm-up included
            drain_s=5,
        )
    )
    return rows


def in_order(parts: Sequence[Part]) -> list[Part]:
    """The parts so that each comes after what it needs, optional ones last.

    Raises:
        ValueError: A need is not in the table, or the needs go in a circle.
    """
    ordered: list[Part] = []
    waiting = sorted(parts, key=lambda p: p.optional)
    while waiting:
        placed = {p.name for p in ordered}
        free = [p for p in waiting if set(p.needs) <= placed]
        if not free:
            raise ValueError(f"needs cannot be met: { {p.name: p.needs for p in waiting} }")
        ordered.append(free[0])
        waiting.remove(free[0])
    return ordered
