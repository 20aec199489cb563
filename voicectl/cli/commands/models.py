"""`voicectl models`: the model files on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="The model files on this machine.", no_args_is_help=True)


@app.command("list")
def list_models(as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False) -> None:
    """Show every model of the catalogue and whether it is here. Example: voicectl models list."""
    from voicectl.cli import out
    from voicectl.cli.system.converge import home_of_settings
    from voicectl.cli.system.preflight import MB
    from voicectl.voice import models

    home = home_of_settings().root
    rows = [
        {
            "name": m.name,
            "here": models.ready(m.name, home),
            "mb": round(m.size / MB),
            "licence": m.licence,
            "purpose": m.purpose,
        }
        for m in models.CATALOGUE.values()
    ]
    out.table(rows, ("name", "here", "mb", "licence", "purpose"), as_json=as_json, name="models")


@app.command("pull")
def pull(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names as in voicectl models list; else what is needed.")
    ] = None,
) -> None:
    """Fetch models, verified; a broken pull goes on where it stopped. Example: voicectl models pull."""
    from voicectl.cli import out
    from voicectl.cli.system.converge import home_of_settings
    from voicectl.cli.system.install import pull_models
    from voicectl.cli.system.preflight import model_names
    from voicectl.cli.system.progress import Progress
    from voicectl.memory.config import load
    from voicectl.voice.config import VoiceSettings

    home = home_of_settings()
    home.make()
    wanted = names or model_names(load(VoiceSettings))
    progress = Progress(out.say, home.log("up"))
    pull_models(home.root, wanted, progress)
    progress.total("ready")
