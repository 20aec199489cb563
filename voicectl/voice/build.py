"""The build id: what code a process runs, so that a restart can be seen to have taken effect."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import voicectl


@cache
def build_id() -> str:
    """The version and a digest of our source files, e.g. `0.1.0+3f2a91c0`."""
    root = Path(voicectl.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.read_bytes())
    return f"{voicectl.__version__}+{digest.hexdigest()[:8]}"
