"""`voicectl desks`: what a customer can choose to talk to."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from voicectl.cli import out

app = typer.Typer(help="The desks a customer can call.", no_args_is_help=True)


@app.callback()
def _desks() -> None:
    """The desks a customer can call."""


@app.command("list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False) -> None:
    """List the desks. Example: voicectl desks list."""
    from voicectl.voice.desk_list import DESKS

    out.table([asdict(d) for d in DESKS], ("name", "title", "description"), as_json=as_json, name="desks")
