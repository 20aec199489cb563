"""`voicectl up`: install what is missing, start everything, return when a call can be taken."""

from __future__ import annotations

from typing import Annotated

import typer


def up(
    local: Annotated[
        bool | None,
        typer.Option("--local/--no-local", help="Ignore provider keys from now on; everything on this machine."),
    ] = None,
    letta: Annotated[bool, typer.Option("--letta/--no-letta", help="Install and start Letta after ready.")] = True,
    wait_letta: Annotated[bool, typer.Option("--wait-letta", help="Return only when Letta answers too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Install what is missing, start everything, return when a call can be taken. Example: voicectl up."""
    from dataclasses import asdict

    from voicectl.cli import out
    from voicectl.cli.system import converge, engines

    wish = converge.Wish(local=local, letta=letta, wait_letta=wait_letta)
    rows = converge.converge(wish, out.say)
    out.table([asdict(r) for r in rows], engines.COLUMNS, as_json=as_json, name="parts")
