"""Ports: who holds one, and which one to take instead.

Promise: an error names the process that is in the way. Not here: whether a server there is ours to use (lifecycle.py).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import psutil

from voicectl.cli.errors import Refused


@dataclass(frozen=True)
class Owner:
    """Who listens on a port.

    Args:
        pid: None when the system does not tell us, which means another user's process.
        command: Its command line, shortened.
    """

    pid: int | None
    command: str

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.command})" if self.pid else "a process of another user"


class PortTaken(Refused):
    """A port that must be free is not.

    Args:
        port: The port.
        owner: Who listens there.
        setting: The setting that chooses the port.
    """

    def __init__(self, port: int, owner: Owner, setting: str) -> None:
        self.port, self.owner, self.setting = port, owner, setting
        stop = f"Stop it (kill {owner.pid})" if owner.pid else "Stop it"
        super().__init__(
            f"port {port} is held by {owner}; expected it free.",
            f"{stop}, or choose another port: {setting}={port + 1} voicectl up",
        )


def owner(port: int, *, udp: bool = False) -> Owner | None:
    """Who listens on a port of this machine; None when nobody does."""
    try:
        rows = psutil.net_connections("udp" if udp else "tcp")
    except (psutil.Error, OSError):
        # macOS does not show the table to ordinary users; binding still tells whether the port is free.
        return Owner(None, "") if not bindable(port, udp=udp) else None
    found: Owner | None = None
    for row in rows:
        if not row.laddr or row.laddr.port != port or (not udp and row.status != psutil.CONN_LISTEN):
            continue
        if row.pid is None:
            found = found or Owner(None, "")
            continue
        try:
            command = " ".join(" ".join(psutil.Process(row.pid).cmdline()).split())  # `python -c` has lines
        except psutil.Error:
            command = "gone"
        return Owner(row.pid, command[:120])
    return found


def bindable(port: int, host: str = "127.0.0.1", *, udp: bool = False) -> bool:
    """Whether we could listen on a port now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM) as s:
        if not udp:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT is not in the way
        try:
            s.bind((host, port))
        except OSError:
            return False
    return True


def free(preferred: int, *, udp: bool = False, taken: Iterable[int] = ()) -> int:
    """A free port: the preferred one, else one of the next forty, else any.

    Ports near the preferred one lie below the range from which the system takes ports for outgoing connections, so they
    are still free at the next start.
    """
    avoid = set(taken)
    for port in range(preferred, min(preferred + 40, 65_536)):
        if port not in avoid and owner(port, udp=udp) is None and bindable(port, udp=udp):
            return port
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM) as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def require(port: int, setting: str, is_ours: Callable[[int], bool]) -> None:
    """Make sure that a port is free or held by us.

    Args:
        port: The port.
        setting: The setting that chooses it, for the error.
        is_ours: Whether a pid is of this installation.

    Raises:
        PortTaken: Somebody else listens there.
    """
    who = owner(port)
    if who is not None and not (who.pid is not None and is_ours(who.pid)):
        raise PortTaken(port, who, setting)
