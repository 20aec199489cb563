"""The first thing each supervised process runs: read its command and environment, leave a record, become it.

Run as a script with `python -I`, standard library and psutil only. Why not supervisor's own `environment=`: values with
quotes, percent or hash signs are not safe there, and a new value would need a new supervisord.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import psutil


def main(run: Path, name: str) -> None:
    """Replace this process by the one described in `<run>/<name>.launch.json`.

    Args:
        run: The installation's `run` folder.
        name: The process.
    """
    spec = json.loads((run / f"{name}.launch.json").read_text())
    me = psutil.Process()
    draft = run / f"{name}.pid.tmp"
    draft.write_text(
        json.dumps({"pid": me.pid, "started": me.create_time(), "argv": spec["argv"], "build": spec["build"]})
    )
    draft.replace(run / f"{name}.pid.json")
    os.chdir(spec["cwd"])
    if spec["nice"]:
        os.nice(spec["nice"])
    try:
        os.execvpe(spec["argv"][0], spec["argv"], spec["env"])  # noqa: S606  (no shell: the command is a list)
    except OSError as e:
        sys.exit(f"{name} cannot be started: {spec['argv'][0]}: {e.strerror}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
