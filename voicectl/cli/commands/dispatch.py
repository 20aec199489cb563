"""`voicectl dispatch --canary`: does a dispatch under the configured name reach a worker."""

from __future__ import annotations

from typing import Annotated

import typer

from voicectl.cli import out


def dispatch(
    canary: Annotated[bool, typer.Option("--canary", help="Into a scratch room, which is deleted afterwards.")] = False,
    wait_s: Annotated[float, typer.Option("--wait-s", min=1, help="How long to ask, in seconds.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Check that a dispatch reaches a worker. Example: voicectl dispatch --canary.

    Exit 1 names the name that was dispatched and those under which workers are registered; exit 3: there is no worker.
    For an agent in a room: voicectl rooms dispatch ROOM.
    """
    import asyncio
    from dataclasses import asdict

    from voicectl.cli.errors import NotRunning, Usage

    if not canary:
        raise Usage("dispatch what?", "Say --canary, or: voicectl rooms dispatch ROOM")
    from voicectl.memory.config import load
    from voicectl.voice.config import VoiceSettings
    from voicectl.voice.rooms import canary as scratch
    from voicectl.voice.rooms.survey import sources

    settings = load(VoiceSettings)
    if settings.livekit_api_key is None:
        raise NotRunning(f"nothing was ever started in {settings.home}.", "Start it: voicectl up")

    async def ask() -> scratch.Reached:
        async with sources(settings) as site:
            return await scratch.ask(site.admin, site.leases, settings.agent_name, wait_s=wait_s)

    reached = asyncio.run(ask())
    if as_json:
        out.document({"reached": True, **asdict(reached)})
        return
    out.text(f"a dispatch to {reached.agent_name!r} reached worker {reached.worker} in {reached.after_s:g} s")
    names = ", ".join(repr(n) for n in reached.registered) or "none that tell"
    out.say(f"workers are registered as: {names}; dispatches needed: {reached.dispatches}")
