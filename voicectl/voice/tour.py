"""Calls placed by the synthetic customer: one call from the command line, and the one-minute tour.

Not here: the customer itself (caller.py), how results are printed (cli).
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from livekit import rtc

from voicectl.voice import models
from voicectl.voice.caller import Caller, NothingHeard
from voicectl.voice.config import VoiceSettings
from voicectl.voice.errors import DeskUnknown, ServerSilent
from voicectl.voice.events import Attribute
from voicectl.voice.speech import Ear, Voice

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Exchange:
    """One turn of a call: what we said ("" for the greeting), what we heard, seconds until it was audible."""

    said: str
    heard: str
    first_audible_s: float


@dataclass(frozen=True)
class Step:
    """One step of the tour: what was done, what was heard, how long it took, whether it was as promised."""

    step: str
    heard: str
    seconds: float
    ok: bool


async def token_for(settings: VoiceSettings, customer: str, desk: str = "") -> tuple[str, str]:
    """Ask our own endpoint for a token, as the page does.

    Raises:
        DeskUnknown: There is no such desk.
        ServerSilent: It did not answer, or refused; with its words.
    """
    url = f"http://127.0.0.1:{settings.http_port}/api/token"
    wanted: dict[str, object] = {"participant_identity": customer}
    if desk:
        wanted["room_config"] = {"agents": [{"agent_name": desk}]}
    try:
        timeout = aiohttp.ClientTimeout(total=5)
        async with aiohttp.ClientSession(timeout=timeout) as client, client.post(url, json=wanted) as answer:
            body = await answer.json(content_type=None)
            if answer.status == 404 and desk:
                async with client.get(f"http://127.0.0.1:{settings.http_port}/api/desks") as listed:
                    raise DeskUnknown(desk, [str(d["name"]) for d in await listed.json()])
            if answer.status != 201:
                raise ServerSilent(url, "give a token", str(body.get("error", answer.status)))
            return str(body["server_url"]), str(body["participant_token"])
    except (aiohttp.ClientError, TimeoutError) as e:
        raise ServerSilent(url, "answer", f"{type(e).__name__}. Start it: voicectl up") from e


def equip(settings: VoiceSettings, progress: Progress) -> tuple[Voice, Ear]:
    """The customer's voice and ear, fetched when they are not on this disk.

    Raises:
        ModelFault: A model could not be fetched.
    """
    missing = [n for n in (models.CALLER_VOICE, models.CALLER_EAR) if not models.ready(n, settings.home)]
    if missing:
        progress(f"fetching the caller's voice and ear: {', '.join(missing)}")
        models.pull(missing, settings.home, source=settings.model_source)
    return Voice(settings.home), Ear(settings.home)


async def place(
    settings: VoiceSettings,
    customer: str,
    lines: Sequence[str],
    *,
    desk: str = "",
    save: Path | None = None,
    progress: Progress = lambda _: None,
) -> list[Exchange]:
    """Call, wait for the greeting, say each line and hear the answer, hang up.

    Args:
        settings: The installation to call.
        customer: Who calls.
        lines: What to say; the path of a WAV file is played.
        desk: Which desk.
        save: Where to write both sides.
        progress: Told each step.

    Raises:
        ServerSilent: No token.
        NothingHeard: The agent was not audible.
    """
    voice, ear = await asyncio.to_thread(equip, settings, progress)
    url, token = await token_for(settings, customer, desk)
    exchanges: list[Exchange] = []
    async with Caller(url, token, voice=voice, ear=ear) as caller:
        progress(f"calling as {customer}")
        try:
            exchanges.append(await _exchange(caller, "", settings.filler_line))
            progress(f"  agent: {exchanges[-1].heard}")
            for line in lines:
                progress(f"  we: {line}")
                exchanges.append(await _exchange(caller, line, settings.filler_line))
                progress(f"  agent: {exchanges[-1].heard}")
        finally:
            if save is not None:
                caller.save(save)
    return exchanges


async def _exchange(caller: Caller, line: str, filler: str) -> Exchange:
    if line:
        await caller.say(Path(line) if line.lower().endswith(".wav") else line)
    text, heard = await caller.hear(start_s=30, filler=filler)
    return Exchange(line, text, heard.first_audible_s)


async def tour(settings: VoiceSettings, *, progress: Progress = lambda _: None) -> list[Step]:
    """Call, hang up, be remembered; then the agent's process is killed in mid-call, and it is heard again.

    Args:
        settings: The installation; its worker must run on this machine.
        progress: Told each step.

    Raises:
        ServerSilent: No token.
        NothingHeard: The agent was not audible.
    """
    voice, ear = await asyncio.to_thread(equip, settings, progress)
    customer = f"user:tour-{secrets.token_hex(3)}"
    filler = settings.filler_line
    steps: list[Step] = []

    def done(step: str, heard: str, began: float, *, ok: bool) -> None:
        steps.append(Step(step, heard, round(time.monotonic() - began, 1), ok))
        progress(f"{steps[-1].seconds:5.1f} s  {step}: {heard}")

    began = time.monotonic()
    url, token = await token_for(settings, customer)
    async with Caller(url, token, voice=voice, ear=ear) as caller:
        await caller.hear(start_s=30, filler=filler)
        await caller.say("Hello. My name is Daniel, and my favourite colour is green.")
        text, _ = await caller.hear(start_s=30, filler=filler)
        done("tell a name and a fact", text, began, ok=bool(text.strip()))
        caller.save(settings.home / "demo" / "first-call.wav")
    await asyncio.sleep(1)

    began = time.monotonic()
    url, token = await token_for(settings, customer)
    async with Caller(url, token, voice=voice, ear=ear) as caller:
        text, _ = await caller.hear(start_s=30, filler=filler)
        done("call again: greeted by name", text, began, ok="daniel" in text.lower())
        began = time.monotonic()
        await caller.say("What is my favourite colour?")
        text, _ = await caller.hear(start_s=30, filler=filler)
        done("the fact is used", text, began, ok="green" in text.lower())
        began = time.monotonic()
        kill_agent(caller)
        try:
            text, _ = await caller.hear(start_s=30, filler=filler)
        except NothingHeard as e:
            text = f"({e.what})"
        done("the agent's process is killed: heard again", text, began, ok="cut off" in text.lower())
        await caller.say("Goodbye.")
        text, _ = await caller.hear(start_s=30, filler=filler)
        done("goodbye", text, began, ok=bool(text.strip()))
        caller.save(settings.home / "demo" / "second-call.wav")
    return steps


def kill_agent(caller: Caller) -> None:
    """End the process of the agent on the line, as a crash would.

    Raises:
        NothingHeard: There is no agent whose process is known.
    """
    kind = rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
    for participant in caller.room.remote_participants.values():
        pid = participant.attributes.get(Attribute.PID, "")
        if participant.kind == kind and pid.isdigit():
            os.kill(int(pid), signal.SIGKILL)
            return
    raise NothingHeard(0, "no agent to kill", "in the room: no agent of ours")
