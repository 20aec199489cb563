"""Supervisord, at most one for each installation: take the lock, leave a record, hand over to supervisor's own main.

Run as a script with `python -I` in VOICE_HOME. -I also keeps PYTHONWARNINGS=error away: supervisor 4.3 calls a function
that Python deprecates. The lock is the process's own, so it is gone the moment the process is, whatever killed it.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from pathlib import Path

import psutil
from supervisor import supervisord

# supervisord closes every descriptor from 5 up when it starts; the lock must lie below.
FIRST_CLOSED = 5


def main(run: Path, config: str) -> None:
    """Become the supervisor of the installation.

    Args:
        run: The installation's `run` folder.
        config: Supervisord's configuration file.
    """
    lock = os.open(run / "supervisord.lock", os.O_RDWR | os.O_CREAT, 0o600)
    if lock >= FIRST_CLOSED:
        sys.exit(f"the lock got descriptor {lock}, expected one below {FIRST_CLOSED}: start me with close_fds")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"another supervisor holds {run / 'supervisord.lock'}; see: voicectl status")
    me = psutil.Process()
    draft = run / "supervisord.pid.tmp"
    draft.write_text(json.dumps({"pid": me.pid, "started": me.create_time(), "argv": me.cmdline(), "build": ""}))
    draft.replace(run / "supervisord.pid.json")
    supervisord.main(["--nodaemon", "--configuration", config])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
