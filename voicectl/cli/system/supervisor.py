"""Supervisord of one installation: its configuration from the process table, its start, and its XML-RPC.

Promise: starts nothing by itself (every program has autostart=false, the order is lifecycle.py's), and no call waits
longer than RPC_S. Not here: what the processes are (processes.py), readiness, draining (lifecycle.py).
"""

from __future__ import annotations

import http.client
import json
import os
import shlex
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voicectl.cli.errors import Failed, NotRunning
from voicectl.cli.system import launch, supervise
from voicectl.cli.system.home import Home
from voicectl.cli.system.processes import Part
from voicectl.cli.system.strays import MARK, recorded

RPC_S = 5.0
LOG_BYTES = "10MB"
LOG_BACKUPS = 5
NO_SUCH_NAME, NOT_RUNNING, ALREADY_STARTED = 10, 70, 60  # supervisor's fault codes


@dataclass(frozen=True)
class State:
    """One process as supervisord sees it.

    Args:
        name: Its name in the process table.
        state: RUNNING, STARTING, STOPPED, STOPPING, BACKOFF, EXITED, FATAL.
        pid: Its pid, 0 when there is none.
        uptime_s: Seconds since it was started, 0 when it does not run.
        exit_status: Of its last run; negative is a signal.
    """

    name: str
    state: str
    pid: int
    uptime_s: float
    exit_status: int

    @property
    def up(self) -> bool:
        """Whether there is a process, ready or not."""
        return self.state in ("RUNNING", "STARTING")

    @property
    def given_up(self) -> bool:
        """Whether supervisord will not start it again by itself."""
        return self.state in ("FATAL", "EXITED", "STOPPED", "UNKNOWN")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=RPC_S)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(RPC_S)
        self.sock.connect(self._path)


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        return _UnixConnection(self._path)


def config_text(home: Home, parts: Iterable[Part], uid: int) -> str:
    """Supervisord's configuration for these processes.

    Every path is relative to VOICE_HOME or comes through the environment: supervisor expands %-signs in its file twice
    and cuts lines at " #" and " ;", so no path of ours may stand in it.
    """
    lines = [
        "; Generated from the process table by voicectl at every start. Changes are lost.",
        "[unix_http_server]",
        "file=%(ENV_VOICECTL_SOCKET)s",
        "chmod=0700",
        "[supervisord]",
        "logfile=logs/supervisord.log",
        f"logfile_maxbytes={LOG_BYTES}",
        f"logfile_backups={LOG_BACKUPS}",
        "pidfile=run/supervisord.pid",
        "nodaemon=true",
        "silent=true",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
    ]
    if uid == 0:
        lines.insert(lines.index("silent=true"), "user=root")  # else it warns at every start that it runs as root
    for priority, part in enumerate(parts, start=1):
        lines += [
            f"[program:{part.name}]",
            f"command=%(ENV_VOICECTL_LAUNCH)s {part.name}",
            f"priority={priority}",
            "autostart=false",
            "autorestart=true",
            "startsecs=1",
            "startretries=3",
            "stopsignal=TERM",
            f"stopwaitsecs={max(1, round(part.drain_s))}",
            f"stopasgroup={'false' if part.drains_itself else 'true'}",
            "killasgroup=true",
            "redirect_stderr=true",
            f"stdout_logfile=logs/{part.name}.log",
            f"stdout_logfile_maxbytes={LOG_BYTES}",
            f"stdout_logfile_backups={LOG_BACKUPS}",
        ]
    return "\n".join(lines) + "\n"


class Supervisor:
    """The supervisord of one installation.

    Args:
        home: The installation.
    """

    def __init__(self, home: Home) -> None:
        self.home = home

    def prepare(self, part: Part, environment: Mapping[str, str], build: str, cwd: Path) -> None:
        """Write what launch.py starts for this part from now on; 0600, as it may hold provider keys."""
        spec = {
            "argv": list(part.argv),
            "env": dict(environment),
            "build": build,
            "cwd": str(cwd),
            "nice": part.nice,
            # How it is stopped, so that stopping needs no table: settings may have become unusable meanwhile.
            "needs": list(part.needs),
            "drain_s": part.drain_s,
            "second_signal": part.second_signal,
        }
        file = self.home.launch_file(part.name)
        draft = file.with_suffix(".tmp")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            json.dump(spec, out)
        draft.replace(file)

    def prepared(self, name: str) -> dict[str, Any]:
        """What launch.py would start for a part; empty when nothing was prepared."""
        try:
            spec: dict[str, Any] = json.loads(self.home.launch_file(name).read_text())
        except (OSError, ValueError):
            return {}
        return spec

    def begin(self, parts: Sequence[Part]) -> None:
        """Start supervisord, or give a running one the new table. Returns when it answers.

        Raises:
            Failed: It did not come up; says what it wrote.
        """
        self.home.make()
        self.home.supervisor_conf.write_text(config_text(self.home, parts, os.getuid()))
        if self.running():
            self._take_new_table()
            return
        launcher = [sys.executable, "-I", launch.__file__, str(self.home.run)]
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "VOICE_HOME": str(self.home.root),
            MARK: "supervisord",
            "VOICECTL_SOCKET": str(self.home.socket),
            "VOICECTL_LAUNCH": shlex.join(launcher),
        }
        said = self.home.log("supervisord.start")
        with said.open("ab") as errors:
            before = errors.tell()
            process = subprocess.Popen(
                [sys.executable, "-I", supervise.__file__, str(self.home.run), str(self.home.supervisor_conf)],
                cwd=self.home.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,  # it outlives our terminal
            )
        deadline = time.monotonic() + 15
        while not self.running():
            if process.poll() is not None or time.monotonic() > deadline:
                with said.open("rb") as written:
                    written.seek(before)
                    words = written.read().decode("utf-8", "replace").strip()
                raise Failed(f"supervisord did not start: {words[-600:] or 'no answer in 15 s'}", f"See {said}")
            time.sleep(0.03)

    def _take_new_table(self) -> None:
        (added, changed, removed), *_ = self._call("reloadConfig")
        for name in (*removed, *changed):
            if self.states()[name].up:
                continue  # lifecycle.py stops it first; until then it runs under its old row
            self._call("removeProcessGroup", name)
        for name in (*changed, *added):
            if name not in self.states():
                self._call("addProcessGroup", name)

    def running(self) -> bool:
        """Whether our supervisord answers."""
        try:
            return bool(self._call("getPID"))
        except NotRunning:
            return False

    def pid(self) -> int | None:
        """Supervisord's pid, even when it does not answer any more."""
        found = recorded(self.home, "supervisord")
        return found.process.pid if found else None

    def states(self) -> dict[str, State]:
        """Every process of the table as supervisord sees it.

        Raises:
            NotRunning: There is no supervisord.
        """
        states: dict[str, State] = {}
        for row in self._call("getAllProcessInfo"):
            name, state = str(row["name"]), str(row["statename"])
            up = state in ("RUNNING", "STARTING", "STOPPING")
            uptime = max(0.0, float(row["now"] - row["start"])) if up else 0.0
            states[name] = State(name, state, int(row["pid"]), uptime, int(row["exitstatus"]))
        return states

    def start(self, name: str) -> None:
        """Ask for a process to be started; returns before it is.

        Raises:
            Failed: Supervisord cannot start it.
        """
        self._call("startProcess", name, False, allowed=(ALREADY_STARTED,))

    def ask_to_stop(self, name: str) -> None:
        """Send a part its stop signal (two where it wants two); supervisord kills it when its time is over."""
        self._call("stopProcess", name, False, allowed=(NOT_RUNNING, NO_SUCH_NAME))
        if self.prepared(name).get("second_signal"):
            self._call("signalProcess", name, "TERM", allowed=(NOT_RUNNING, NO_SUCH_NAME))

    def shutdown(self) -> None:
        """Ask supervisord to end; returns before it has."""
        self._call("shutdown")

    def _call(self, method: str, *args: Any, allowed: Sequence[int] = ()) -> Any:
        proxy = xmlrpc.client.ServerProxy("http://localhost", transport=_UnixTransport(self.home.socket))
        try:
            return getattr(proxy.supervisor, method)(*args)
        except xmlrpc.client.Fault as e:
            if e.faultCode in allowed:
                return None
            raise Failed(f"supervisord: {method} {' '.join(map(str, args))}: {e.faultString}") from e
        except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as e:
            raise NotRunning(f"nothing is running in {self.home.root} ({e}).", "Start it: voicectl up") from e
