"""A person's own editor on a text that must not be lost.

The text lies in VOICE_HOME, readable to its owner alone, until whoever asked says that it was saved; after a refusal or
a crash it is still there. Not here: what the text means (memory/edit.py).
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from voicectl.cli.errors import Failed, Refused


def edited(path: Path, text: str, *, environment: Mapping[str, str] = os.environ) -> str:
    """Let a person edit a text.

    Args:
        path: Where it lies meanwhile; a new file.
        text: The text.
        environment: Where VISUAL and EDITOR are looked up.

    Returns:
        The text as the editor left it; the file is still there.

    Raises:
        Refused: No editor is named and nobody is at the terminal.
        Failed: The editor could not be started or failed; its text is kept if it changed.
    """
    chosen = environment.get("VISUAL") or environment.get("EDITOR")
    if not chosen and not sys.stdin.isatty():
        raise Refused("nobody is at this terminal and EDITOR is not set.", "Change one line: voicectl memory set")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(text, encoding="utf-8")
    try:
        done = subprocess.run([*shlex.split(chosen or "vi"), str(path)], check=False)
    except OSError as e:
        path.unlink()
        raise Failed(f"the editor {chosen or 'vi'} cannot be started: {e.strerror}.", "Set EDITOR.") from e
    if done.returncode != 0:
        where = f"What you wrote is kept in {path}." if path.read_text(encoding="utf-8") != text else ""
        if not where:
            path.unlink()
        raise Failed(f"the editor {chosen or 'vi'} ended with status {done.returncode}; nothing was changed.", where)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as e:
        raise Failed(f"the text is not UTF-8 (byte {e.start}); nothing was changed.", f"It is kept in {path}.") from e
