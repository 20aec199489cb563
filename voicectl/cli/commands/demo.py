"""`voicectl demo`: a one-minute tour of what this is for."""

from __future__ import annotations

from typing import Annotated

import typer

from voicectl.cli import out


def demo(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Call, hang up, be remembered; kill the agent in mid-call, hear it again. Saves the audio. Takes a minute."""
    import asyncio
    from dataclasses import asdict

    from voicectl.cli.errors import Failed
    from voicectl.memory.config import load
    from voicectl.voice.config import VoiceSettings
    from voicectl.voice.tour import tour

    settings = load(VoiceSettings)
    steps = asyncio.run(tour(settings, progress=out.say))
    if as_json:
        out.document({"steps": [asdict(s) for s in steps]})
    else:
        out.table([asdict(s) for s in steps], ("step", "heard", "seconds", "ok"))
        out.text(f"audio: {settings.home / 'demo'}")
    missed = [s.step for s in steps if not s.ok]
    if missed:
        raise Failed(f"not as promised: {', '.join(missed)}.", "See: voicectl logs worker")
