"""`voicectl status`: the processes, as the supervisor and their probes see them."""

from __future__ import annotations

from typing import Annotated

import typer

COLUMNS = ("name", "state", "pid", "uptime", "build", "address", "missing")


def status(as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False) -> None:
    """Show every process: state, pid, uptime, build. Exit 3 when nothing runs. Example: voicectl status --json."""
    from voicectl.cli import out
    from voicectl.cli.errors import NotRunning
    from voicectl.cli.system.converge import home_of_settings
    from voicectl.cli.system.survey import learning, mirroring, survey
    from voicectl.voice.build import build_id

    home = home_of_settings()
    seen = survey(home)
    if as_json:
        whole = {"home": str(home.root), "build": build_id(), "ready": seen.ready, "processes": seen.rows}
        out.document({**whole, "memory": mirroring(), "learning": learning()})
    elif seen.rows:
        out.table(seen.rows, COLUMNS)
        step = learning()
        out.say(f"after calls: {step['strategy']} ({step['why']})" if "strategy" in step else step["error"])
        if any(r["build"] not in (None, "", build_id()) for r in seen.rows):
            out.say(f"the code here is build {build_id()}; to run it: voicectl restart")
    if not seen.supervised:
        left = f"; {len(seen.rows)} processes run without a supervisor" if seen.rows else ""
        raise NotRunning(f"nothing is running in {home.root}{left}.", "Start it: voicectl up")
