"""`voicectl call`: a synthetic customer calls through the real server and says what was answered."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from voicectl.cli import out


def call(
    lines: Annotated[list[str] | None, typer.Argument(help="What to say, one argument a turn; or WAV files.")] = None,
    customer: Annotated[str, typer.Option("--as", help="Customer key or name.")] = "user:command-line",
    desk: Annotated[str, typer.Option("--desk", help="Desk to call; the default one when not given.")] = "",
    save: Annotated[Path | None, typer.Option("--save", help="Write both sides into this WAV file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Place a call and print what was heard. Example: voicectl call "What is my name?" --as +8801700000001."""
    import asyncio

    from voicectl.cli.errors import Failed
    from voicectl.memory.config import load
    from voicectl.voice.config import VoiceSettings
    from voicectl.voice.tour import place

    try:
        placed = asyncio.run(place(load(VoiceSettings), customer, lines or [], desk=desk, save=save, progress=out.say))
    except ConnectionError as e:  # the agent hung up, or a restart ended the call
        raise Failed(f"{e}.", "Why: voicectl logs worker") from e
    rows = [{"said": e.said, "heard": e.heard, "first_audible_s": round(e.first_audible_s, 2)} for e in placed]
    if as_json:
        out.document({"customer": customer, "turns": rows, "saved": str(save) if save else None})
        return
    out.table(rows, ("said", "heard", "first_audible_s"))
