"""The folder of an installation: where each thing lies in VOICE_HOME, and who may change it now.

Promise: every path the command line creates is named here, so `uninstall` can remove exactly those.
Not here: state.json (memory/config.py), the databases (memory/store).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from voicectl.cli.errors import Refused

# sun_path holds 107 bytes and supervisord binds `<socket>.<pid>` first, so eight of them are spoken for.
LONGEST_SOCKET = 98

# What voicectl and the processes it starts put into VOICE_HOME. A trailing * stands for any ending.
OURS = (
    "state.json",
    "state.*.tmp",
    "livekit.yaml",
    "bin",
    "build",
    "cache",
    "letta",
    "logs",
    "models",
    "page-build",
    "run",
    "demo*",
    "journal",
    "leases.db*",
    "memory.db*",
    "worker.lock",
)


@dataclass(frozen=True)
class Home:
    """Paths of one installation.

    Args:
        root: VOICE_HOME, absolute.
    """

    root: Path

    @property
    def run(self) -> Path:
        """Sockets, locks, records of processes; 0700, rebuilt at every start."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        """The one folder of logs: `<process>.log`, rotated, never truncated."""
        return self.root / "logs"

    @property
    def bin(self) -> Path:
        """Programs we built."""
        return self.root / "bin"

    @property
    def livekit_yaml(self) -> Path:
        """The local LiveKit server's configuration; holds its key and secret, 0600."""
        return self.root / "livekit.yaml"

    @property
    def supervisor_conf(self) -> Path:
        """Supervisord's configuration, generated from the process table."""
        return self.run / "supervisord.conf"

    @property
    def socket_folder(self) -> Path:
        """Where supervisord's socket lies: `run`, or a short folder where that path would be too long."""
        if len(os.fsencode(self.run / "supervisor.sock")) <= LONGEST_SOCKET:
            return self.run
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"voicectl-{os.getuid()}-{digest}"

    @property
    def socket(self) -> Path:
        """Supervisord's control socket."""
        return self.socket_folder / "supervisor.sock"

    def log(self, name: str) -> Path:
        """The log of one process."""
        return self.logs / f"{name}.log"

    def launch_file(self, name: str) -> Path:
        """Command and environment of one process, 0600, read by launch.py at each start."""
        return self.run / f"{name}.launch.json"

    def record_file(self, name: str) -> Path:
        """Pid, start time and command of one process, written by itself."""
        return self.run / f"{name}.pid.json"

    def make(self) -> None:
        """Create the folders.

        Raises:
            Refused: A folder cannot be made, or the short socket folder belongs to somebody else.
        """
        for folder in (self.root, self.run, self.logs, self.bin, self.socket_folder):
            try:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            except OSError as e:
                raise Refused(
                    f"the folder {folder} cannot be made: {e.strerror}.",
                    "Set VOICE_HOME to a folder that you may write to: VOICE_HOME=/path voicectl up",
                ) from e
        info = self.socket_folder.stat()
        if info.st_uid != os.getuid() or info.st_mode & 0o077:
            raise Refused(
                f"the socket folder {self.socket_folder} belongs to uid {info.st_uid} with mode "
                f"{info.st_mode & 0o777:o}; expected uid {os.getuid()} and 700.",
                "Set VOICE_HOME to a shorter path, or TMPDIR to a folder of your own.",
            )

    def installed(self) -> list[Path]:
        """What we put into this folder and is there now, sorted."""
        return sorted({p for pattern in OURS for p in self.root.glob(pattern)})


@contextmanager
def exclusive(home: Home, doing: str, say: Callable[[str], None], wait_s: float = 900.0) -> Iterator[None]:
    """Hold the installation while it is changed; a second voicectl waits for the first.

    Args:
        home: The installation.
        doing: The command, told to whoever has to wait.
        say: Receives one line when we have to wait ourselves.
        wait_s: How long to wait, in seconds. The longest holder is a first `up` that builds LiveKit.

    Raises:
        Refused: It was still held after wait_s.
    """
    home.make()
    with (home.run / "operation.lock").open("a+") as held:
        told = False
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                held.seek(0)
                holder = held.read().strip() or "another voicectl"
                if time.monotonic() > deadline:
                    raise Refused(
                        f"{holder} has been changing {home.root} for more than {wait_s:.0f} s.",
                        "Stop it, then try again.",
                    ) from None
                if not told:
                    say(f"{holder} is changing {home.root}; waiting for it to finish")
                    told = True
                time.sleep(0.2)
        held.truncate(0)
        held.write(f"voicectl {doing} (pid {os.getpid()})")
        held.flush()
        yield
