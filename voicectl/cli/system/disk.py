"""What an installation has put on the disk, and removing exactly that.

Promise: a folder that is not ours is never removed, whatever VOICE_HOME is set to: only the names in home.OURS go, and
VOICE_HOME itself only when nothing else is in it.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from voicectl.cli.system.home import Home
from voicectl.memory.config import checkout


@dataclass(frozen=True)
class Thing:
    """One thing on the disk.

    Args:
        path: Where it is.
        size_bytes: What it takes.
    """

    path: Path
    size_bytes: int


def things(home: Home) -> list[Thing]:
    """What we put there: in VOICE_HOME, and what the checkout got at install."""
    root = checkout()
    built = [root / ".tools", root / "page" / "node_modules", root / "voicectl" / "voice" / "web" / "static"]
    short = [home.socket_folder] if home.socket_folder != home.run else []
    paths = [*home.installed(), *short, *(p for p in built if (root / "pyproject.toml").exists())]
    return [Thing(p, _size(p)) for p in paths if p.exists() or p.is_symlink()]


def remove(home: Home) -> list[Path]:
    """Remove everything of `things`. Returns what stayed in VOICE_HOME because it is not ours."""
    for thing in things(home):
        if thing.path.is_dir() and not thing.path.is_symlink():
            shutil.rmtree(thing.path)
        else:
            thing.path.unlink()
    if not home.root.exists():
        return []
    others = sorted(home.root.iterdir())
    if not others:
        home.root.rmdir()
    return others


def _size(path: Path) -> int:
    if path.is_symlink() or path.is_file():
        return path.lstat().st_size
    return sum(p.lstat().st_size for p in path.rglob("*") if not p.is_dir())
