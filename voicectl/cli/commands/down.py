"""`voicectl down`: stop everything of this installation."""

from __future__ import annotations

from typing import Annotated

import typer


def down(as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False) -> None:
    """Stop everything that was started, LiveKit and Letta too. Example: voicectl down."""
    from voicectl.cli import out
    from voicectl.cli.system.converge import home_of_settings
    from voicectl.cli.system.home import exclusive
    from voicectl.cli.system.lifecycle import stop_all

    home = home_of_settings()
    with exclusive(home, "down", out.say):
        stopped = stop_all(home, out.say)
    if as_json:
        out.document({"stopped": stopped})
    else:
        out.say(f"stopped: {', '.join(stopped)}" if stopped else f"nothing was running in {home.root}")
