"""`up` and `restart`: from whatever is there to an installation that can take a call now.

The order: what is running and what is in the way, choices, preflight, installs, restarts, starts, readiness, the table.
Promise: nothing is fetched or stopped before everything that can be refused has been checked.
Not here: each of those steps (choices.py, preflight.py, install.py, lifecycle.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from voicectl.cli.errors import Refused
from voicectl.cli.system import engines, install, letta, lifecycle, livekit_server, ports, preflight, provider_keys
from voicectl.cli.system.choices import Choice, Situation, choose
from voicectl.cli.system.environment import differing, for_child
from voicectl.cli.system.home import Home, exclusive
from voicectl.cli.system.preflight import Item
from voicectl.cli.system.processes import Part
from voicectl.cli.system.progress import Progress
from voicectl.cli.system.roster import table
from voicectl.cli.system.strays import belonging, end
from voicectl.cli.system.supervisor import Supervisor
from voicectl.memory.config import MemorySettings, explain, load, unknown_names, write_state
from voicectl.memory.store.engine import open_store
from voicectl.voice import models
from voicectl.voice.build import build_id
from voicectl.voice.config import VoiceSettings

MB = 1_000_000
Say = Callable[[str], None]


@dataclass(frozen=True)
class Wish:
    """What was asked for.

    Args:
        local: Ignore provider keys from now on; None leaves that as it is.
        restart: Restart what runs, except what a restart keeps.
        everything: With restart: also what it keeps, the LiveKit server.
        letta: False: without Letta.
        wait_letta: Ready only when Letta is.
    """

    local: bool | None = None
    restart: bool = False
    everything: bool = False
    letta: bool = True
    wait_letta: bool = False


def home_of_settings() -> Home:
    """The installation that the settings name. It needs no other setting to be usable."""
    return Home(load(MemorySettings).home)


def converge(wish: Wish, say: Say) -> list[engines.Row]:
    """Make the installation able to take a call. Returns the table of engines.

    Raises:
        CliFault: It was refused or failed; which step, and what to do.
        MemoryFault: A setting or the store cannot be used.
    """
    unknown_names([VoiceSettings])
    home = home_of_settings()
    with exclusive(home, "restart" if wish.restart else "up", say):
        return _converge(home, wish, say)


def _converge(home: Home, wish: Wish, say: Say) -> list[engines.Row]:
    progress = Progress(say, home.log("up"))
    supervisor = Supervisor(home)
    if not supervisor.running() and (orphans := belonging(home)):
        say(f"{len(orphans)} processes of an earlier start have no supervisor any more; ending them")
        end(orphans)

    settings = _settings(wish)
    situation = _situation(home, supervisor)
    choice = choose(settings, situation)
    mirror_state, mirror_notes = letta.choose(settings, situation)
    start_letta = wish.letta and _letta_can_run(home, settings, situation, say)
    for note in (*choice.notes, *mirror_notes):
        say(note)
    mine = {f.process.pid for f in belonging(home)}
    ports.require(settings.http_port, "VOICE_HTTP_PORT", mine.__contains__)
    _refuse_wrong_keys(settings, say)
    server = livekit_server.find(home, settings.livekit_server_bin) if choice.start_livekit else None
    build_livekit = choice.start_livekit and server is None
    page = install.page_is_missing()
    running = _running(supervisor)
    later = letta.item(settings) if start_letta else None
    preflight.check_engines(preflight.model_names(settings))
    items = preflight.items(settings, build_livekit=build_livekit, build_page=page)
    memory = preflight.memory_needed(settings, start_livekit=choice.start_livekit, running=running)
    preflight.check(items, preflight.model_names(settings), memory, preflight.machine(home.root), home.root)
    open_store(settings).close()  # a foreign or newer database is refused before anything is fetched
    _tell_what_comes(home, settings, choice, items, later, say)

    state = {**choice.state, **mirror_state}
    if wish.local is not None:
        state["voice_local"] = wish.local or None
    if state:
        write_state(home.root, **state)
    settings = _settings(wish)
    names = [n for n in preflight.model_names(settings) if not models.ready(n, home.root)]
    install.run(install.jobs(home, progress, build_livekit=build_livekit, names=names, build_page=page), home)
    if choice.start_livekit:
        server = server or livekit_server.find(home, settings.livekit_server_bin)
        livekit_server.write_config(settings, home)

    parts = table(settings, home, server, start_letta=start_letta, wait_letta=wish.wait_letta)
    own = {} if wish.local is None else {"VOICE_LOCAL": str(wish.local).lower()}
    environments = {
        p.name: for_child(p.name, home.root, os.environ, [VoiceSettings], {**own, **p.environment}) for p in parts
    }
    stale = _to_stop(supervisor, parts, wish, environments, running, say)
    if stale:
        lifecycle.stop(supervisor, stale, progress)
    if not wish.restart:
        _tell_what_is_old(supervisor, parts, environments, say)
    lifecycle.start_all(supervisor, parts, environments, build=build_id(), cwd=Path.cwd(), progress=progress)
    progress.total("ready")
    sources = {e.env: e.source for e in explain(VoiceSettings)}
    return engines.rows(settings, sources, own_livekit=livekit_server.VERSION if choice.start_livekit else None)


def _settings(wish: Wish) -> VoiceSettings:
    return load(VoiceSettings, **({} if wish.local is None else {"local": wish.local}))


def _running(supervisor: Supervisor) -> frozenset[str]:
    states = supervisor.states() if supervisor.running() else {}
    return frozenset(name for name, state in states.items() if state.up)


def _situation(home: Home, supervisor: Supervisor) -> Situation:
    mine = {f.process.pid for f in belonging(home)}
    sources = {e.env: e.source for e in explain(VoiceSettings)}
    return Situation(sources, mine.__contains__, _running(supervisor))


def _letta_can_run(home: Home, settings: VoiceSettings, situation: Situation, say: Say) -> bool:
    """Whether the mirror is started; the one reason against it is said. Calls are remembered without it too."""
    if not letta.wanted(settings):
        return False
    if situation.set_by_person("LETTA_BASE_URL"):
        return True
    why = letta.why_not(settings, preflight.machine(home.root))
    if why:
        say(f"Letta is off: {why}. Calls are remembered in the store all the same.")
    return not why


# `later` is fetched in the background once calls can be taken: it is shown, and never a reason to refuse.
def _tell_what_comes(
    home: Home, settings: VoiceSettings, choice: Choice, items: Sequence[Item], later: Item | None, say: Say
) -> None:
    if not items and later is None:
        return
    if items:
        preflight.check_proxies()
    say(f"To fetch once, into {home.root}:")
    for item in [*items, *([later] if later else [])]:
        size = f"{item.download_bytes // MB:,} MB to fetch, {item.disk_bytes // MB:,} MB of disk"
        say(f"  {item.name:<24}{size:<44}{item.source}; {item.licence}")
    rooms = f"{choice.state.get('livekit_url', settings.livekit_url)}, udp " + str(
        choice.state.get("voice_rtc_udp_port", settings.rtc_udp_port)
    )
    say(f"Ports: page {settings.http_port}; rooms {rooms if choice.start_livekit else settings.livekit_url}")


def _refuse_wrong_keys(settings: VoiceSettings, say: Say) -> None:
    for answer in provider_keys.check(settings):
        if answer.refused:
            raise Refused(
                f"{answer.setting} is refused by {answer.address} ({answer.status}).",
                f"Set the right one, or do without it: unset {answer.setting}; voicectl up --local ignores all keys",
            )
        if answer.status == 0:
            say(f"{answer.address} does not answer now; {answer.setting} was not checked")


def _to_stop(
    supervisor: Supervisor,
    parts: Sequence[Part],
    wish: Wish,
    environments: Mapping[str, Mapping[str, str]],
    running: frozenset[str],
    say: Say,
) -> set[str]:
    """What must stop before it is started again; what a restart leaves alone is said."""
    table = {p.name: p for p in parts}
    # What a restart keeps goes all the same when it does not do its work as configured now, e.g. with a new key.
    # Not so what nobody waits for: it may be on its way, as Letta is while it is fetched.
    must = {n for n in running if n in table and table[n].kept and not table[n].optional}
    useless = {n for n in must if table[n].missing()}
    if not wish.restart:
        return useless
    if wish.everything:
        return set(running)
    kept = {
        p.name
        for p in parts
        if p.name in running - useless
        and (p.kept or (p.kept_if_same and not _old(supervisor, p, environments[p.name]) and not p.missing()))
    }
    if kept:
        say(f"kept as it runs: {', '.join(sorted(kept))} (voicectl restart --all renews everything)")
    return set(running) - kept


def _tell_what_is_old(
    supervisor: Supervisor, parts: Sequence[Part], environments: Mapping[str, Mapping[str, str]], say: Say
) -> None:
    running = _running(supervisor)
    for part in parts:
        if part.name in running and (old := _old(supervisor, part, environments[part.name])):
            say(f"{part.name} runs with {old}; to change that: voicectl restart{' --all' if part.kept else ''}")


def _old(supervisor: Supervisor, part: Part, environment: Mapping[str, str]) -> str:
    """How a running part differs from what would be started now; "" when it does not."""
    then = supervisor.prepared(part.name)
    if changed := differing(then.get("env", {}), environment):
        return f"other settings ({', '.join(changed)})"
    if then.get("argv") != list(part.argv):
        return "another command"
    # A program of somebody else's does not change with our code.
    return "older code" if then.get("build") != build_id() and not part.kept else ""
