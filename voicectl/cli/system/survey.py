"""The processes of an installation as they are now: what `voicectl status` shows.

Promise: changes nothing, works without a supervisor and with settings that are not usable.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from voicectl.cli.system import letta
from voicectl.cli.system.home import Home
from voicectl.cli.system.processes import Part
from voicectl.cli.system.roster import table
from voicectl.cli.system.strays import Found, belonging, recorded
from voicectl.cli.system.supervisor import State, Supervisor
from voicectl.memory.config import load
from voicectl.memory.errors import SettingError, StoreError
from voicectl.memory.learning.figures import figures as step_figures
from voicectl.memory.learning.strategy import choose
from voicectl.memory.store.engine import open_store
from voicectl.memory.sync.figures import as_json, sync_figures
from voicectl.voice.config import VoiceSettings


@dataclass(frozen=True)
class Survey:
    """What was found.

    Args:
        supervised: Whether the supervisor answers.
        ready: Whether every part that is not optional is ready.
        rows: One mapping a process: name, state, pid, uptime_s, uptime, build, address, missing.
    """

    supervised: bool
    ready: bool
    rows: list[dict[str, Any]]


def survey(home: Home) -> Survey:
    """Look at the processes.

    `state` is ready, running (alive, not ready), stray (no supervisor holds it) or supervisord's own word.
    """
    supervisor = Supervisor(home)
    if not supervisor.running():
        return Survey(False, False, [_stray(f) for f in belonging(home)])
    states = supervisor.states()
    parts = {p.name: p for p in _table(home, states)}
    rows = [_supervisor_row(home, supervisor)]
    rows += [_row(home, state, parts.get(name)) for name, state in states.items()]
    must = [r for r in rows[1:] if not ((p := parts.get(r["name"])) and p.optional)]
    return Survey(True, bool(must) and all(r["state"] == "ready" for r in must), rows)


def mirroring() -> dict[str, Any] | None:
    """How far Letta is behind; None when nothing is mirrored or was ever said, an `error` when it cannot be known."""
    try:
        settings = load(VoiceSettings)
        if settings.backend != "letta" or not (settings.database_url or (settings.home / "memory.db").exists()):
            return None
        store = open_store(settings)
        try:
            return as_json(sync_figures(store))
        finally:
            store.close()
    except (SettingError, StoreError) as e:
        return {"error": str(e)}


def learning() -> dict[str, Any]:
    """How calls are learnt from, why so, and how that is getting on; an `error` when it cannot be known."""
    try:
        settings = load(VoiceSettings)
        chosen = choose(settings.memory_step, settings.backend, letta.llm_endpoint(settings))
        told: dict[str, Any] = {"strategy": chosen.strategy.value, "why": chosen.why}
        if not (settings.database_url or (settings.home / "memory.db").exists()):
            return told
        store = open_store(settings)
        try:
            return {**told, "steps": asdict(step_figures(store))}
        finally:
            store.close()
    except (SettingError, StoreError) as e:
        return {"error": str(e)}


def _table(home: Home, states: dict[str, State]) -> list[Part]:
    """The table as far as the settings allow; without it states are shown and probes are not."""
    try:
        settings = load(VoiceSettings)
        return table(settings, home, home.bin / "livekit-server" if "livekit" in states else None)
    except SettingError:
        return []


def _row(home: Home, state: State, part: Part | None) -> dict[str, Any]:
    lack = part.missing() if part and state.up else ""
    word = state.state.lower()
    if state.up:
        word = "running" if lack or part is None else "ready"
    found = recorded(home, state.name)
    return _columns(
        state.name,
        word,
        state.pid or None,
        state.uptime_s,
        found.build if found else "",
        part.address if part else "",
        lack,
    )


def _supervisor_row(home: Home, supervisor: Supervisor) -> dict[str, Any]:
    found = recorded(home, "supervisord")
    uptime = _age(found) if found else 0.0
    return _columns("supervisord", "ready", supervisor.pid(), uptime, "", "", "")


def _stray(found: Found) -> dict[str, Any]:
    return _columns(found.part, "stray", found.process.pid, _age(found), found.build, "", "no supervisor")


def _age(found: Found) -> float:
    return max(0.0, time.time() - found.process.create_time())


def _columns(
    name: str, state: str, pid: int | None, uptime_s: float, build: str, address: str, missing: str
) -> dict[str, Any]:
    return {
        "name": name,
        "state": state,
        "pid": pid,
        "uptime_s": round(uptime_s, 1),
        "uptime": _shown(uptime_s) if pid else "",
        "build": build,
        "address": address,
        "missing": missing,
    }


def _shown(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
