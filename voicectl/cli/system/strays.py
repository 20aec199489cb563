"""Which processes belong to an installation, and ending them: by record or by environment, never by name.

Promise: a process is signalled only when its pid, start time and command are those recorded, or when its environment
carries both this VOICE_HOME and the mark that only processes we started have. The caller and its ancestors never are.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psutil

from voicectl.cli.system.home import Home

# In the environment of everything we start. A shell that exports VOICE_HOME does not have it.
MARK = "VOICECTL_PART"
CLOCK_SLACK_S = 2.0  # start times are derived from the wall clock at boot, which may be set while we run


@dataclass(frozen=True)
class Found:
    """One running process of an installation.

    Args:
        process: The process.
        part: The process table's name it was started under.
        build: Build it runs, empty when it left no record.
    """

    process: psutil.Process
    part: str
    build: str = ""


def recorded(home: Home, name: str) -> Found | None:
    """The process that left the record `name`, if it is still that very process."""
    try:
        record: dict[str, Any] = json.loads(home.record_file(name).read_text())
        process = psutil.Process(int(record["pid"]))
        same_start = abs(process.create_time() - float(record["started"])) < CLOCK_SLACK_S
        # Compare from the end: an interpreter started through a #! line has its own path in front.
        argv = [str(a) for a in record["argv"]]
        same_command = process.cmdline()[-len(argv[1:]) or None :] == (argv[1:] or argv)
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None
    if not (same_start and same_command) or process.status() == psutil.STATUS_ZOMBIE:
        return None
    return Found(process, name, str(record.get("build", "")))


def belonging(home: Home) -> list[Found]:
    """All running processes of the installation, children included, oldest first."""
    found: dict[int, Found] = {}
    for file in home.run.glob("*.pid.json"):
        name = file.name.removesuffix(".pid.json")
        if (one := recorded(home, name)) is not None:
            found[one.process.pid] = one
    root = str(home.root)
    for process in psutil.process_iter():
        try:
            environ = process.environ()
            alive = process.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, OSError):
            continue  # another user's, or gone meanwhile
        if alive and environ.get("VOICE_HOME") == root and environ.get(MARK):
            found.setdefault(process.pid, Found(process, environ[MARK]))
    spared = {os.getpid(), *(p.pid for p in psutil.Process().parents())}
    return sorted((f for f in found.values() if f.process.pid not in spared), key=lambda f: f.process.pid)


def end(found: Iterable[Found], patience_s: float = 3.0) -> list[Found]:
    """End processes: SIGTERM, then SIGKILL after patience_s seconds. Returns those that would not go."""
    left = list(found)
    for one in left:
        _signal(one.process, hard=False)
    left = _wait(left, patience_s)
    for one in left:
        _signal(one.process, hard=True)
    return _wait(left, 5.0)


def _signal(process: psutil.Process, *, hard: bool) -> None:
    try:
        # psutil checks the start time again before it signals, so a reused pid is not hit.
        process.kill() if hard else process.terminate()
    except psutil.Error:
        pass  # gone, or not ours to signal: `end` reports what is still there


def _wait(found: list[Found], seconds: float) -> list[Found]:
    deadline = time.monotonic() + seconds
    while found and time.monotonic() < deadline:
        found = [f for f in found if _alive(f.process)]
        if found:
            time.sleep(0.02)
    return found


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
