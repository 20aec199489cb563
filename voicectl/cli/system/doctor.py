"""What can be wrong with an installation, one check each, with the command that helps.

Promise: reads only, needs nothing to be running, and no check stops the others. What a check looks at comes in through
Patient, so each is tested against a known-bad one. Not here: a real call (`voicectl doctor --call`).
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from voicectl.cli.errors import CliFault, Refused
from voicectl.cli.system import install, livekit_server, ports, preflight, probes, provider_keys
from voicectl.cli.system.environment import differing, for_child
from voicectl.cli.system.home import Home
from voicectl.cli.system.processes import Part, is_loopback
from voicectl.cli.system.roster import table
from voicectl.cli.system.strays import belonging
from voicectl.cli.system.supervisor import State, Supervisor
from voicectl.memory.config import load, state_path, unknown_names
from voicectl.memory.errors import MemoryFault
from voicectl.memory.store.engine import open_store
from voicectl.voice import models
from voicectl.voice.build import build_id
from voicectl.voice.config import VoiceSettings

MB = 1_000_000
OLDEST_PYTHON = (3, 11)


class Verdict(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"  # calls work; something will not be as expected
    FAILED = "failed"  # calls do not work


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Args:
        check: Its name.
        verdict: How bad it is.
        text: What was found, with the value.
        remedy: What to do; empty when nothing is.
    """

    check: str
    verdict: Verdict
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Patient:
    """What the checks look at.

    Args:
        home: The installation.
        settings: Its settings.
        environment: The shell's.
        machine: Disk, memory, processor.
        parts: The process table; empty when keys have not been chosen yet.
        python: Version of the interpreter.
        models_ready: Whether a model is on disk.
        owner: Who listens on a port.
        connects: Whether something answers at host and port.
    """

    home: Home
    settings: VoiceSettings
    environment: Mapping[str, str]
    machine: preflight.Machine
    parts: Sequence[Part]
    python: tuple[int, int] = (sys.version_info.major, sys.version_info.minor)
    models_ready: Callable[[str], bool] = lambda name: False
    owner: Callable[[int], ports.Owner | None] = ports.owner
    connects: Callable[[str, int], bool] = preflight.connects

    @property
    def supervisor(self) -> Supervisor:
        """The installation's supervisor."""
        return Supervisor(self.home)


Check = Callable[[Patient], Iterator[Finding]]


def patient(home: Home) -> Patient:
    """The installation as it is now.

    Raises:
        SettingError: Settings are not usable; that is then the only finding there is.
    """
    unknown_names([VoiceSettings])
    settings = load(VoiceSettings)
    has_keys = settings.livekit_api_key is not None and settings.livekit_api_secret is not None
    states = Supervisor(home).states() if Supervisor(home).running() else {}
    own = home.bin / "livekit-server" if "livekit" in states else None
    return Patient(
        home=home,
        settings=settings,
        environment=dict(os.environ),
        machine=preflight.machine(home.root),
        parts=table(settings, home, own) if has_keys else [],
        models_ready=lambda name: models.ready(name, home.root),
    )


def python(p: Patient) -> Iterator[Finding]:
    """The interpreter is new enough."""
    version = ".".join(map(str, p.python))
    good = p.python >= OLDEST_PYTHON
    oldest = ".".join(map(str, OLDEST_PYTHON))
    remedy = "" if good else f"uv sync -p {oldest}, then: ./restart_voice_system.sh"
    yield Finding("python", Verdict.OK if good else Verdict.FAILED, f"{version}, needs {oldest}", remedy)


def machine(p: Patient) -> Iterator[Finding]:
    """Disk, memory and processor suffice for what is still to come."""
    start = is_loopback(p.settings.livekit_url)
    items = _to_fetch(p)
    running = [n for n, s in _states(p).items() if s.up]
    memory = preflight.memory_needed(p.settings, start_livekit=start, running=running)
    needs = preflight.model_names(p.settings)
    preflight.check(items, needs, memory, p.machine, p.home.root)
    text = f"{p.machine.disk_bytes // MB:,} MB of disk and {p.machine.memory_bytes // MB:,} MB of memory free"
    yield Finding("machine", Verdict.OK, text)


def proxy(p: Patient) -> Iterator[Finding]:
    """A proxy that is set answers; without anything to fetch a dead one harms nobody, as loopback is asked directly."""
    try:
        preflight.check_proxies(p.environment, p.connects)
    except Refused as e:
        if _to_fetch(p):
            raise
        text = e.text.split(";")[0]
        yield Finding("proxy", Verdict.WARNING, f"{text}; nothing is to be fetched now", e.remedy)
        return
    yield Finding("proxy", Verdict.OK, "none that does not answer")


def _to_fetch(p: Patient) -> list[preflight.Item]:
    start = is_loopback(p.settings.livekit_url)
    build = start and livekit_server.find(p.home, p.settings.livekit_server_bin) is None
    return preflight.items(p.settings, build_livekit=build, build_page=install.page_is_missing())


def folder(p: Patient) -> Iterator[Finding]:
    """VOICE_HOME can be written to, or made."""
    root = p.home.root
    existing = next(f for f in (root, *root.parents) if f.exists())
    if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
        yield Finding("folder", Verdict.OK, str(root))
    else:
        text = f"{existing} cannot be written to; VOICE_HOME is {root}"
        yield Finding(
            "folder", Verdict.FAILED, text, "VOICE_HOME=/path voicectl up, with a folder that you may write to"
        )


def engines(p: Patient) -> Iterator[Finding]:
    """The Python environment has what the local models run on."""
    needs = preflight.model_names(p.settings)
    preflight.check_engines(needs)
    yield Finding("engines", Verdict.OK, ", ".join(preflight.ENGINES[n] for n in needs) or "none needed")


def state_file(p: Patient) -> Iterator[Finding]:
    """The file with the generated keys is for its owner only."""
    path = state_path(p.home.root)
    if not path.exists():
        yield Finding("state file", Verdict.OK, "not made yet")
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        text = f"{path} holds keys and has mode {mode:o}, expected 600"
        yield Finding("state file", Verdict.FAILED, text, f"chmod 600 {path}")
    else:
        yield Finding("state file", Verdict.OK, f"{path}, mode {mode:o}")


def store(p: Patient) -> Iterator[Finding]:
    """The database opens and is ours."""
    opened = open_store(p.settings)
    opened.close()
    yield Finding("store", Verdict.OK, opened.where)


def model_files(p: Patient) -> Iterator[Finding]:
    """The models that the settings need are here."""
    missing = [n for n in preflight.model_names(p.settings) if not p.models_ready(n)]
    if missing:
        yield Finding("models", Verdict.FAILED, f"not here: {', '.join(missing)}", "voicectl models pull")
    else:
        yield Finding("models", Verdict.OK, ", ".join(preflight.model_names(p.settings)) or "none needed")


def keys(p: Patient) -> Iterator[Finding]:
    """Providers take their keys."""
    for answer in provider_keys.check(p.settings):
        where = f"{answer.setting} at {answer.address}"
        if answer.refused:
            remedy = f"Set the right one, or unset {answer.setting}; then: voicectl restart"
            yield Finding("keys", Verdict.FAILED, f"{where} is refused ({answer.status})", remedy)
        elif answer.status == 0:
            yield Finding("keys", Verdict.WARNING, f"{where}: no answer", "Check the network and HTTPS_PROXY")
        else:
            yield Finding("keys", Verdict.OK, f"{where} is accepted")


def page_port(p: Patient) -> Iterator[Finding]:
    """The page's port is free or ours."""
    mine = {f.process.pid for f in belonging(p.home)}
    who = p.owner(p.settings.http_port)
    if who is not None and who.pid not in mine:
        raise ports.PortTaken(p.settings.http_port, who, "VOICE_HTTP_PORT")
    yield Finding("page port", Verdict.OK, f"{p.settings.http_port} is {'ours' if who else 'free'}")


def supervisor(p: Patient) -> Iterator[Finding]:
    """One supervisor holds all processes."""
    pid, running = p.supervisor.pid(), p.supervisor.running()
    orphans = [f for f in belonging(p.home) if f.part != "supervisord"]
    if running:
        yield Finding("supervisor", Verdict.OK, f"pid {pid}")
    elif pid is not None:
        yield Finding("supervisor", Verdict.FAILED, f"pid {pid} does not answer", "voicectl down, then: voicectl up")
    elif orphans:
        text = f"gone, but {len(orphans)} of its processes run on: {', '.join(sorted({f.part for f in orphans}))}"
        yield Finding("supervisor", Verdict.FAILED, text, "voicectl restart")
    else:
        yield Finding("supervisor", Verdict.WARNING, "not running", "voicectl up")


def processes(p: Patient) -> Iterator[Finding]:
    """Every process of the table runs and is ready."""
    states = _states(p)
    if not states:
        return
    for part in p.parts:
        state = states.get(part.name)
        if state is None and part.optional:  # up --no-letta, or no room for it: calls work
            yield Finding(part.name, Verdict.WARNING, "not started; calls do not need it", "voicectl up")
            continue
        if state is None or not state.up:
            said = state.state.lower() if state else "not in the supervisor's table"
            yield Finding(part.name, Verdict.FAILED, said, f"voicectl logs {part.name}; voicectl restart")
        elif lack := part.missing():
            yield Finding(part.name, Verdict.FAILED, f"runs, but: {lack}", f"voicectl logs {part.name}")
        else:
            yield Finding(part.name, Verdict.OK, f"ready, pid {state.pid}")


def drift(p: Patient) -> Iterator[Finding]:
    """What runs was started with this code and these settings."""
    for part in p.parts:
        then = p.supervisor.prepared(part.name)
        if not then:
            continue
        if then.get("build") != build_id() and not part.kept:
            text = f"{part.name} runs build {then.get('build')}, here is {build_id()}"
            yield Finding("code", Verdict.WARNING, text, "voicectl restart")
        now = for_child(part.name, p.home.root, p.environment, [VoiceSettings], part.environment)
        changed = differing(then.get("env", {}), now)
        if changed and not part.kept:
            text = f"{part.name} was started with other values of {', '.join(changed)}"
            yield Finding("settings", Verdict.WARNING, text, "voicectl restart")


def livekit(p: Patient) -> Iterator[Finding]:
    """The LiveKit server answers and takes our key."""
    if p.settings.livekit_api_key is None or p.settings.livekit_api_secret is None:
        yield Finding("livekit", Verdict.WARNING, "no key yet", "voicectl up")
        return
    answer = probes.livekit_accepts(p.settings.livekit_url, *p.settings.key_secret())
    if answer.status == 200:
        yield Finding("livekit", Verdict.OK, p.settings.livekit_url)
    elif answer.status == 401:
        text = f"the server at {p.settings.livekit_url} refuses our key: it is not ours"
        yield Finding("livekit", Verdict.FAILED, text, "voicectl restart (takes another port)")
    else:
        text = f"{p.settings.livekit_url}: {answer.body[:120] or answer.status}"
        yield Finding("livekit", Verdict.WARNING if not _states(p) else Verdict.FAILED, text, "voicectl up")


def _states(p: Patient) -> dict[str, State]:
    return p.supervisor.states() if p.supervisor.running() else {}


CHECKS: tuple[Check, ...] = (
    python,
    machine,
    proxy,
    folder,
    engines,
    state_file,
    store,
    model_files,
    keys,
    page_port,
    supervisor,
    livekit,
    processes,
    drift,
)


def examine(p: Patient, checks: Sequence[Check] = CHECKS) -> list[Finding]:
    """Run the checks; one that breaks is a finding itself."""
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += check(p)
        except CliFault as e:
            findings.append(Finding(check.__name__.replace("_", " "), Verdict.FAILED, e.text, e.remedy))
        except MemoryFault as e:
            findings.append(Finding(check.__name__.replace("_", " "), Verdict.FAILED, str(e)))
    return findings
