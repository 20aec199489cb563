"""What an installation is about to fetch, and whether this machine can take it: told before the first byte.

Promise: reads the machine, changes nothing, asks nothing. Not here: fetching (install.py), ports (choices.py).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from voicectl.cli.errors import Refused
from voicectl.cli.system import go_toolchain, livekit_server, page
from voicectl.voice import models
from voicectl.voice.config import VoiceSettings

MB = 1_000_000
SPARE_DISK_BYTES = 300 * MB  # logs, the database, what others write meanwhile
LEAST_DISK_BYTES = 50 * MB  # with nothing to fetch: every turn is written, and so is every log line

# Resident memory as measured (local_models.md, livekit-server.md 1), with the interpreter.
LIVEKIT_MEMORY = 60 * MB
LLM_MEMORY = 2_000 * MB
WORKER_MEMORY = 450 * MB
EAR_MEMORY = 250 * MB
VOICE_MEMORY = 290 * MB
WEB_MEMORY = 150 * MB


@dataclass(frozen=True)
class Item:
    """One thing to fetch or build.

    Args:
        name: The part.
        download_bytes: What comes over the network.
        disk_bytes: What it takes at its peak.
        source: Where it comes from.
        licence: Its licence.
    """

    name: str
    download_bytes: int
    disk_bytes: int
    source: str
    licence: str


@dataclass(frozen=True)
class Machine:
    """What there is.

    Args:
        disk_bytes: Free on the disk of VOICE_HOME.
        memory_bytes: Available, the container's limit included.
        cpu_flags: Instruction sets as the kernel names them; None where it does not.
    """

    disk_bytes: int
    memory_bytes: int
    cpu_flags: frozenset[str] | None


def model_names(settings: VoiceSettings) -> list[str]:
    """The models that these settings need on this machine."""
    needed = (
        (settings.stt_is_local(), models.EAR),
        (settings.tts_is_local(), models.VOICE),
        (settings.llm_is_local(), models.LANGUAGE),
    )
    return [name for wanted, name in needed if wanted]


def items(settings: VoiceSettings, *, build_livekit: bool, build_page: bool, path: str | None = None) -> list[Item]:
    """What is missing and will be fetched.

    Args:
        settings: The settings.
        build_livekit: Whether the LiveKit server must be built.
        build_page: Whether the page must be built.
        path: PATH to look for Go and npm; None for the process's own.
    """
    found: list[Item] = []
    if build_livekit:
        own_go = go_toolchain.installed(path) is not None
        found.append(
            Item(
                f"livekit-server {livekit_server.VERSION}",
                livekit_server.DOWNLOAD_BYTES + (0 if own_go else go_toolchain.WHEEL_DOWNLOAD_BYTES),
                livekit_server.BUILD_DISK_BYTES + (0 if own_go else go_toolchain.WHEEL_DISK_BYTES),
                "its source, built here with " + ("Go of this machine" if own_go else go_toolchain.WHEEL),
                "Apache-2.0",
            )
        )
    for name in model_names(settings):
        if not models.ready(name, settings.home):
            model = models.find(name)
            publisher = urlsplit(model.files[0].publisher).hostname or ""
            found.append(
                Item(name, model.download_bytes, model.size, f"{publisher}, else registry packages", model.licence)
            )
    if build_page:
        own_node = page.installed(path if path is not None else os.environ.get("PATH")) is not None
        source = "npm packages" + ("" if own_node else f", built with {page.WHEEL}")
        found.append(Item("page", (20 if own_node else 81) * MB, (90 if own_node else 350) * MB, source, "MIT"))
    return found


def memory_needed(settings: VoiceSettings, *, start_livekit: bool, running: Iterable[str]) -> int:
    """Memory of the parts that are still to be started, in bytes."""
    up = set(running)
    worker = WORKER_MEMORY + EAR_MEMORY * settings.stt_is_local() + VOICE_MEMORY * settings.tts_is_local()
    parts = {
        "livekit": LIVEKIT_MEMORY * start_livekit,
        "llm": LLM_MEMORY * settings.llm_is_local(),
        "worker": worker,
        "web": WEB_MEMORY,
    }
    return sum(needed for name, needed in parts.items() if name not in up)


def machine(home: Path) -> Machine:
    """Read this machine."""
    existing = next(p for p in (home, *home.parents) if p.exists())
    return Machine(shutil.disk_usage(existing).free, memory_available(), cpu_flags())


def memory_available(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Memory that can be had without swapping; inside a container no more than its limit leaves."""
    free = int(psutil.virtual_memory().available)
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            left = int((cgroup / limit).read_text()) - int((cgroup / used).read_text())
        except (OSError, ValueError):
            continue  # no such cgroup version, or "max"
        free = min(free, max(0, left))
    return free


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str] | None:
    """Instruction sets of this processor; None where the kernel does not name them (no Linux, no x86)."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return None
    flags = next((line for line in lines if line.startswith("flags")), None)
    return frozenset(flags.split(":", 1)[1].split()) if flags else None


# What the extra `local` brings for each model, as it is imported.
ENGINES = {models.EAR: "faster_whisper", models.VOICE: "piper", models.LANGUAGE: "xllamacpp"}


def check_engines(needs: Sequence[str], has: Callable[[str], object] = importlib.util.find_spec) -> None:
    """Refuse local models whose engines are not installed: keys were set when the Python environment was made.

    Raises:
        Refused: Names the engines and the command that brings them.
    """
    absent = [ENGINES[name] for name in needs if name in ENGINES and has(ENGINES[name]) is None]
    if absent:
        raise Refused(
            f"this Python environment has no {', '.join(absent)}, which the local models need.",
            "Bring it up to date: ./restart_voice_system.sh (or: uv sync --inexact --extra local)",
        )


def check(items: Sequence[Item], needs: Sequence[str], memory_bytes: int, machine: Machine, home: Path) -> None:
    """Refuse what this machine cannot take.

    Args:
        items: What will be fetched.
        needs: Names of the models that will run here.
        memory_bytes: Memory of what will be started.
        machine: What there is.
        home: VOICE_HOME.

    Raises:
        Refused: With the figure that is short and what to do.
    """
    for name in needs:
        lacking = [f for f in models.find(name).cpu if machine.cpu_flags is not None and f not in machine.cpu_flags]
        if lacking:
            raise Refused(
                f"this processor has no {', '.join(lacking).upper()}, which the local model {name} needs.",
                "Use a language model elsewhere: export OPENAI_API_KEY=... or OPENAI_BASE_URL=http://..., "
                "then: voicectl up",
            )
    disk = sum(i.disk_bytes for i in items) + (SPARE_DISK_BYTES if items else LEAST_DISK_BYTES)
    if disk > machine.disk_bytes:
        what = ", ".join(f"{i.name} {i.disk_bytes // MB:,}" for i in items) or "what callers say, and logs"
        raise Refused(
            f"{machine.disk_bytes // MB:,} MB are free on the disk of {home}; {disk // MB:,} MB are needed ({what}).",
            f"Free {(disk - machine.disk_bytes) // MB + 1:,} MB, or use another disk: VOICE_HOME=/path voicectl up",
        )
    if memory_bytes > machine.memory_bytes:
        raise Refused(
            f"{machine.memory_bytes // MB:,} MB of memory are available; {memory_bytes // MB:,} MB are needed.",
            "Stop other programs, or let the language model run elsewhere (it takes 2,000 MB here): "
            "export OPENAI_API_KEY=... or OPENAI_BASE_URL=http://..., then: voicectl up",
        )


def connects(host: str, port: int) -> bool:
    """Whether somebody answers there within three seconds."""
    try:
        with socket.create_connection((host, port), timeout=3):
            return True
    except OSError:
        return False


def check_proxies(environment: Mapping[str, str] = os.environ, answers: Callable[[str, int], bool] = connects) -> None:
    """Refuse a proxy that nobody answers at, as everything fetched would go through it.

    Raises:
        Refused: Names the variable, never the password in it.
    """
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"):
        value = environment.get(name, "")
        if not value:
            continue
        parts = urlsplit(value if "://" in value else f"http://{value}")
        try:
            port = parts.port or 80
        except ValueError:
            port = 0
        if not parts.hostname or not port or not answers(parts.hostname, port):
            raise Refused(
                f"{name} names a proxy at {parts.hostname}:{port} and nobody answers there; "
                "there is something to download.",
                f"Start the proxy, or do without: unset {name}",
            )
