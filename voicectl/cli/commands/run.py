"""`voicectl run`: one process of the system in the foreground; what the supervisor starts."""

from __future__ import annotations

import typer

app = typer.Typer(help="Run one process in the foreground (the supervisor does this).", no_args_is_help=True)


@app.command()
def worker() -> None:
    """Register with LiveKit and answer calls."""
    from voicectl.cli.system.logs import to_stderr
    from voicectl.memory.config import load, unknown_names
    from voicectl.voice.config import VoiceSettings
    from voicectl.voice.worker import run_worker

    to_stderr()
    unknown_names([VoiceSettings])
    run_worker(load(VoiceSettings))


@app.command()
def web() -> None:
    """Serve the page and the API."""
    import uvicorn

    from voicectl.cli.system.logs import to_stderr
    from voicectl.memory.config import load, unknown_names
    from voicectl.voice.config import VoiceSettings
    from voicectl.voice.web.app import create_app

    to_stderr()
    unknown_names([VoiceSettings])
    settings = load(VoiceSettings)
    uvicorn.run(
        create_app(settings),
        host=settings.http_host,
        port=settings.http_port,
        log_config=None,
        access_log=False,
        server_header=False,
    )


@app.command()
def llm() -> None:
    """Serve the small local language model."""
    from voicectl.cli.system.logs import to_stderr
    from voicectl.memory.config import load
    from voicectl.voice.config import VoiceSettings
    from voicectl.voice.engines.local_llm.server import serve

    to_stderr()
    serve(load(VoiceSettings))


@app.command()
def syncer() -> None:
    """Mirror turns into Letta and take its edits back."""
    from voicectl.cli.system import letta
    from voicectl.cli.system.logs import to_stderr
    from voicectl.memory import syncer as memory_syncer
    from voicectl.memory.config import load
    from voicectl.voice.config import VoiceSettings

    to_stderr()
    settings = load(VoiceSettings)
    memory_syncer.run(settings, letta.llm_endpoint(settings))


@app.command("letta")
def letta_() -> None:
    """Install and run the Letta server of this installation."""
    from voicectl.cli.system import letta_server
    from voicectl.cli.system.logs import to_stderr
    from voicectl.memory.config import load
    from voicectl.voice.config import VoiceSettings

    to_stderr()
    letta_server.run(load(VoiceSettings))
