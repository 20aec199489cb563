"""`voicectl uninstall`: stop everything and remove what was put on the disk."""

from __future__ import annotations

from typing import Annotated

import typer


def uninstall(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask. What callers told is removed too.")] = False,
) -> None:
    """Stop everything and remove what was put on the disk, memory included. Example: voicectl uninstall."""
    import sys

    from voicectl.cli import out
    from voicectl.cli.errors import Refused
    from voicectl.cli.system import disk
    from voicectl.cli.system.converge import home_of_settings
    from voicectl.cli.system.home import exclusive
    from voicectl.cli.system.lifecycle import stop_all

    home = home_of_settings()
    things = disk.things(home)
    for thing in things:
        out.say(f"  {thing.size_bytes / 1e6:10,.1f} MB  {thing.path}")
    if not things:
        out.say(f"nothing of ours is in {home.root}")
        return
    if not yes:
        if not sys.stdin.isatty():
            raise Refused("this removes the above, what callers told included; nobody confirmed it.", "Add --yes")
        if not typer.confirm("Remove all this, what callers told included?", err=True):
            raise Refused("nothing was removed.")
    with exclusive(home, "uninstall", out.say):
        stop_all(home, out.say)
        others = disk.remove(home)
    if others:
        out.say(f"left in {home.root}, not ours: {', '.join(p.name for p in others)}")
    out.say("removed. The Python environment stays: rm -rf .venv")
    out.say("What uv and npm keep for all projects stays too: uv cache prune; npm cache clean --force")
