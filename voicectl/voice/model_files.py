"""A model's folder: its files, the growing `.part` beside one, and the notes of which were verified.

Not here: what must be there (model_catalogue.py), how it gets there (model_pull.py).
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from voicectl.voice.model_catalogue import Model, ModelFile


def folder(name: str, home: Path) -> Path:
    """Where a model's files lie."""
    return home / "models" / name


def part_of(path: Path) -> Path:
    """Where a file grows until it is whole."""
    return path.with_name(path.name + ".part")


def size_of(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, read in full."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def marks(place: Path) -> dict[str, str]:
    """Hashes noted when files were verified; unreadable notes count as none, the files are then hashed again."""
    try:
        data = json.loads((place / "verified.json").read_text())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def mark(place: Path, file: ModelFile) -> None:
    """Note that a file was verified."""
    draft = place / f"verified.{os.getpid()}.tmp"
    draft.write_text(json.dumps({**marks(place), file.path: file.sha256}, indent=1))
    draft.replace(place / "verified.json")


def missing(model: Model, place: Path) -> list[ModelFile]:
    """The files that were never verified, or are not whole any more. Reads no model file."""
    noted = marks(place)
    return [f for f in model.files if noted.get(f.path) != f.sha256 or size_of(place / f.path) != f.size]
