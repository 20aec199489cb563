"""Letta as a part of the installation: whether it can run here, its ports and keys, its row in the process table.

Promise: choosing changes nothing on the disk; the caller puts the values into state.json.
Not here: fetching it (letta_install.py), running it (letta_server.py), what is stored in it (memory/sync/).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from urllib.parse import urlsplit

from voicectl.cli.system import letta_install, probes
from voicectl.cli.system.choices import Situation
from voicectl.cli.system.home import Home
from voicectl.cli.system.preflight import Item, Machine
from voicectl.cli.system.processes import Part, voicectl
from voicectl.memory.backends import LlmEndpoint
from voicectl.memory.config import read_state
from voicectl.voice.config import VoiceSettings

PORT, POSTGRES_PORT, NULL_PORT = 8283, 8290, 8330
OPENAI = "https://api.openai.com/v1"


def wanted(settings: VoiceSettings) -> bool:
    """Whether turns are mirrored into a Letta server at all."""
    return settings.backend == "letta"


def is_ours(settings: VoiceSettings) -> bool:
    """Whether the Letta server in the settings is the one that this installation runs."""
    chosen = read_state(settings.home).get("letta_base_url")
    return wanted(settings) and chosen is not None and chosen == settings.letta_base_url


def choose(settings: VoiceSettings, now: Situation) -> tuple[Mapping[str, str | int | bool | None], list[str]]:
    """Address, password and ports of a Letta server of ours: values for state.json, and notes for the person.

    Nothing is chosen when memory is embedded or a person named a server.
    """
    if not wanted(settings) or now.set_by_person("LETTA_BASE_URL"):
        return {}, []
    before = read_state(settings.home)
    state: dict[str, str | int | bool | None] = {}
    notes: list[str] = []
    if settings.letta_api_key is None:
        state["letta_api_key"] = secrets.token_urlsafe(24)
    if "letta_postgres_password" not in before:
        state["letta_postgres_password"] = secrets.token_urlsafe(24)
    port = urlsplit(settings.letta_base_url or "").port or PORT
    who = now.foreign(port)
    if who is not None:
        other = now.free(PORT + 1)
        notes.append(f"port {port} is held by {who}, which is not ours; Letta takes {other}")
        port = other
    if settings.letta_base_url is None or who is not None:
        state["letta_base_url"] = f"http://127.0.0.1:{port}"
    for name, preferred in (("letta_postgres_port", POSTGRES_PORT), ("null_model_port", NULL_PORT)):
        held = before.get(name)
        if not isinstance(held, int) or now.foreign(held) is not None:
            state[name] = now.free(preferred)
    return state, notes


def why_not(settings: VoiceSettings, machine: Machine) -> str:
    """Why a Letta server of ours cannot run on this machine, in one sentence; "" when it can."""
    mb = 1_000_000
    at = letta_install.files(settings.home)
    if not letta_install.installed(at) and machine.disk_bytes < letta_install.DISK_BYTES:
        return f"{machine.disk_bytes // mb:,} MB of disk are free, {letta_install.DISK_BYTES // mb:,} MB are needed"
    if machine.memory_bytes < letta_install.MEMORY_BYTES and not at.status.exists():
        return f"{machine.memory_bytes // mb:,} MB of memory are free, {letta_install.MEMORY_BYTES // mb:,} are needed"
    return letta_install.can_be_postgres()


def item(settings: VoiceSettings) -> Item | None:
    """What is fetched for it, for the list that is shown before the first byte; None when it is there."""
    if letta_install.installed(letta_install.files(settings.home)):
        return None
    return Item(
        f"letta {letta_install.VERSION}",
        letta_install.DOWNLOAD_BYTES,
        870_000_000,
        "PyPI, in the background once calls can be taken",
        "Apache-2.0; PostgreSQL licence",
    )


def missing(settings: VoiceSettings) -> str:
    """What the server lacks to be used; "" when it answers. A status that says "off: …" stays until a restart."""
    at = letta_install.files(settings.home)
    try:
        status = json.loads(at.status.read_text())
    except (OSError, ValueError):
        return "not started yet"
    if status.get("phase") != "running":
        return f"{status.get('phase')}: {status.get('words')}"
    answer = probes.ask(f"{settings.letta_base_url}/v1/health/")
    return "" if answer.status == 200 else f"{settings.letta_base_url}: {answer.body[:120] or answer.status}"


def parts(settings: VoiceSettings, home: Home, *, start_letta: bool = True, wait: bool = False) -> list[Part]:
    """The rows of the process table for Letta and the syncer; with the embedded backend only who learns from calls.

    Args:
        settings: With every port and key chosen.
        home: The installation.
        start_letta: Run a server of ours, if the settings name ours.
        wait: `up` waits for it too (`--wait-letta`).
    """
    if not wanted(settings) and settings.memory_step == "off":
        return []
    rows: list[Part] = []
    if start_letta and is_ours(settings):
        rows.append(
            Part(
                name="letta",
                argv=voicectl("run", "letta"),
                missing=lambda: missing(settings),
                address=settings.letta_base_url or "",
                ready_s=900,  # the first time it is fetched; 20 s afterwards
                drain_s=25,
                drains_itself=True,  # it stops the server first and PostgreSQL after it
                kept=True,
                optional=not wait,
                nice=19,
            )
        )
    rows.append(
        Part(
            name="syncer",
            argv=voicectl("run", "syncer"),
            missing=lambda: _syncer_lacks(settings),
            address=(settings.letta_base_url or "") if wanted(settings) else "",
            ready_s=30,
            drain_s=15,
            # Not niced: it writes the leases that calls live by, and a writer that gets no processor holds the lock of
            # SQLite's file for seconds (seen at a start on busy cores: a live agent's lease ran out).
            optional=not wait,
        )
    )
    return rows


def _syncer_lacks(settings: VoiceSettings) -> str:
    if not wanted(settings):
        return ""  # it only learns from calls, and needs nobody for that to be ready
    port = read_state(settings.home).get("null_model_port")
    if not isinstance(port, int):
        return "the null model has no port yet"
    return probes.answers(f"http://127.0.0.1:{port}/v1/models")()


def llm_endpoint(settings: VoiceSettings) -> LlmEndpoint | None:
    """What customers' agents answer operators with: the model of the calls; None when it has no address yet."""
    if not settings.llm_is_local():
        key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else "none"
        return LlmEndpoint(settings.openai_base_url or OPENAI, key, settings.llm_model)
    if settings.local_llm_url is None:
        return None
    url = settings.local_llm_url.rstrip("/")
    key = settings.local_llm_key.get_secret_value() if settings.local_llm_key else "none"
    return LlmEndpoint(url if url.endswith("/v1") else f"{url}/v1", key, local=True)
