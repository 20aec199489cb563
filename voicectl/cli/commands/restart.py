"""`voicectl restart`: the same as `up`, with what already runs started again."""

from __future__ import annotations

from typing import Annotated

import typer


def restart(
    everything: Annotated[bool, typer.Option("--all", help="Also what a restart keeps: the LiveKit server.")] = False,
    local: Annotated[
        bool | None,
        typer.Option("--local/--no-local", help="Ignore provider keys from now on; everything on this machine."),
    ] = None,
    letta: Annotated[bool, typer.Option("--letta/--no-letta", help="Install and start Letta after ready.")] = True,
    wait_letta: Annotated[bool, typer.Option("--wait-letta", help="Return only when Letta answers too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Restart the processes; running calls are drained first. Starts a stopped system. Example: voicectl restart."""
    from dataclasses import asdict

    from voicectl.cli import out
    from voicectl.cli.system import converge, engines

    wish = converge.Wish(restart=True, everything=everything, local=local, letta=letta, wait_letta=wait_letta)
    rows = converge.converge(wish, out.say)
    out.table([asdict(r) for r in rows], engines.COLUMNS, as_json=as_json, name="parts")
