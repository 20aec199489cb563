"""`voicectl logs`: what the processes wrote."""

from __future__ import annotations

from typing import Annotated

import typer


def logs(
    name: Annotated[str | None, typer.Argument(help="A process of voicectl status; all when not given.")] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as lines are added, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many lines to begin with.")] = 40,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Show the end of the logs, of one process or of all. Example: voicectl logs worker -f."""
    from voicectl.cli import out
    from voicectl.cli.errors import NotFound, Usage
    from voicectl.cli.system import log_files
    from voicectl.cli.system.converge import home_of_settings

    home = home_of_settings()
    known = log_files.names(home)
    if name is not None and name not in known:
        raise NotFound(f"no log of {name!r}. There are: {', '.join(known) or 'none yet'}.", f"They are in {home.logs}")
    if as_json and follow:
        raise Usage("--json is one document and --follow has no end.", "Leave one of them out.")
    wanted = [name] if name else known
    ends = {n: log_files.tail(home.log(n), lines) for n in wanted}
    if as_json:
        out.document({"logs": {n: {"path": str(home.log(n)), "lines": ends[n]} for n in wanted}})
        return
    for each in wanted:
        for line in ends[each]:
            out.text(line if name else f"{each:<12}{line}")
    if follow:
        for each, line in log_files.follow({n: home.log(n) for n in wanted}):
            out.text(line if name else f"{each:<12}{line}")
