"""`voicectl config`: what the settings are and where each comes from."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from voicectl.cli import out

app = typer.Typer(help="Show settings and where they come from.", no_args_is_help=True)


@app.callback()
def _config() -> None:
    """Show settings and where they come from."""


@app.command()
def explain(
    name: Annotated[str | None, typer.Argument(help="One setting, e.g. VOICE_HTTP_PORT.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Print every setting, its value and its source. Example: voicectl config explain VOICE_HTTP_PORT."""
    from voicectl.cli.errors import NotFound
    from voicectl.memory import config
    from voicectl.voice.config import VoiceSettings

    config.unknown_names([VoiceSettings])
    rows = config.explain(VoiceSettings, name)
    if not rows:
        raise NotFound(f"no setting {name}.", "All of them: voicectl config explain")
    columns = ("env", "value", "source", "description")
    out.table([asdict(r) for r in rows], columns, as_json=as_json, name="settings")
