"""The LiveKit server of this machine: found at the pinned version or built from source, and configured for loopback.

Promise: `bin/livekit-server` is there whole or not at all; a build that was interrupted leaves nothing that a later one
uses. Not here: which port and key it gets (ports.py, lifecycle.py), starting it (supervisor.py).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from voicectl.cli.errors import Failed, Refused
from voicectl.cli.system import go_toolchain
from voicectl.cli.system.environment import no_proxy
from voicectl.cli.system.home import Home
from voicectl.cli.system.processes import page_url
from voicectl.cli.system.strays import MARK, belonging, end
from voicectl.memory.errors import SettingError
from voicectl.voice.config import VoiceSettings
from voicectl.voice.events import WEBHOOK_PATH

VERSION = "1.13.5"
PACKAGE = f"github.com/livekit/livekit-server/cmd/server@v{VERSION}"
BUILDING = "livekit-build"
# Measured: 90 MB of modules, 1 GB of unpacked modules and build cache that is deleted afterwards, 53 MB that stay.
DOWNLOAD_BYTES = 90_000_000
BUILD_DISK_BYTES = 1_100_000_000
SHORTEST_SECRET = 32

# step(bytes so far, bytes in all, what it is at)
Step = Callable[[int, int, str], None]


def version_of(program: Path) -> str | None:
    """What a livekit-server says it is; None when it does not run."""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"version (\S+)", said)
    return match[1] if match else None


def find(home: Home, given: Path | None, path: str | None = None) -> Path | None:
    """The server at the pinned version: the one given, ours, or one on PATH; None when it must be built.

    Args:
        home: The installation.
        given: VOICE_LIVEKIT_SERVER_BIN.
        path: PATH to search; None for the process's own.

    Raises:
        SettingError: The given one is not a livekit-server of the pinned version.
    """
    if given is not None:
        if (its := version_of(given)) != VERSION:
            raise SettingError(
                "VOICE_LIVEKIT_SERVER_BIN", str(given), f"a livekit-server {VERSION} (this one says {its})"
            )
        return given
    on_path = shutil.which("livekit-server", path=path)
    for candidate in (home.bin / "livekit-server", Path(on_path) if on_path else None):
        if candidate is not None and candidate.exists() and version_of(candidate) == VERSION:
            return candidate
    return None


def build(home: Home, step: Step, package: str = PACKAGE, path: str | None = None) -> Path:
    """Build the server from its publisher's source into `bin/livekit-server`; about 100 s of two cores.

    Args:
        home: The installation.
        step: Receives progress.
        package: Go package and version.
        path: PATH to look for Go; None for the process's own.

    Raises:
        Failed: It could not be built; nothing is left behind.
    """
    end([f for f in belonging(home) if f.part == BUILDING])  # of a voicectl that was killed in the middle
    work = home.root / "build"
    _remove(work)
    try:
        work.mkdir(parents=True)
        go = go_toolchain.installed(path)
        if go is None:
            step(0, 0, "fetching Go")
            go = go_toolchain.fetch(work / "toolchain", {**os.environ, **_mark(home)})
        _go_install(go, work, home, package, step)
        program = work / "bin" / "server"
        if (its := version_of(program)) != VERSION:
            raise Failed(f"the livekit-server just built says version {its}, expected {VERSION}.")
        home.bin.mkdir(parents=True, exist_ok=True, mode=0o700)
        target = home.bin / "livekit-server"
        program.replace(target)
        return target
    finally:
        _remove(work)


def _mark(home: Home) -> dict[str, str]:
    """By what our programs are found, should we be killed or another step fail."""
    return {"VOICE_HOME": str(home.root), MARK: BUILDING}


def _go_install(go: Path, work: Path, home: Home, package: str, step: Step) -> None:
    keep = {n: v for n, v in os.environ.items() if n not in ("GOOS", "GOARCH", "GOFLAGS", "GOROOT")}
    environment = {
        **keep,
        **no_proxy(os.environ),
        "GOPATH": str(work / "gopath"),
        "GOMODCACHE": str(work / "gopath" / "pkg" / "mod"),
        "GOCACHE": str(work / "cache"),
        "GOBIN": str(work / "bin"),
        "GOTMPDIR": str(work),
        "GOFLAGS": "-modcacherw",  # modules are read-only otherwise, and cannot be deleted afterwards
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",
        **_mark(home),
    }
    lines: list[str] = []
    with subprocess.Popen(
        # Without symbol tables: links in a third of the time, 75 MB become 52.
        [go, "install", "-v", "-ldflags=-s -w", package],
        env=environment,
        cwd=work,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None  # noqa: S101  (we asked for the pipe)
        compiled = fetched = 0
        try:
            for line in process.stderr:
                lines.append(line.rstrip())
                downloading = line.startswith("go: downloading")
                compiled += not line.startswith("go:")
                fetched = _downloaded(work) if downloading else fetched
                doing = "fetching modules" if downloading else f"compiling, {compiled} packages"
                step(fetched, 0, doing)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        said = "\n".join(line for line in lines if not line.startswith("go: downloading"))[-600:]
        raise Failed(
            f"livekit-server {VERSION} could not be built with {go}: {said or f'exit {process.returncode}'}",
            "Check the network and HTTPS_PROXY, or install it yourself "
            f"(https://docs.livekit.io/home/self-hosting/local, version {VERSION}), then: voicectl up",
        )
    step(_downloaded(work), 0, "built")


def _downloaded(work: Path) -> int:
    total = 0
    for archive in (work / "gopath" / "pkg" / "mod" / "cache" / "download").rglob("*.zip"):
        try:
            total += archive.stat().st_size
        except OSError:
            continue  # renamed under us
    return total


def _remove(folder: Path) -> None:
    if not folder.exists():
        return
    try:
        shutil.rmtree(folder)
    except PermissionError:
        # A Go that was not told -modcacherw leaves read-only folders. Asked for last: there are 100,000 files.
        for path in folder.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)
        shutil.rmtree(folder)


def loopback_interface() -> str:
    """The name the system gives to the loopback interface: lo, or lo0 on macOS.

    Raises:
        Failed: There is none with 127.0.0.1.
    """
    for name, addresses in psutil.net_if_addrs().items():
        if any(a.address == "127.0.0.1" for a in addresses):
            return name
    raise Failed("no network interface has the address 127.0.0.1.", "Bring it up: ip link set lo up")


def refuse_short(secret: str) -> None:
    """Refuse a secret that the server calls an error in its log at every start.

    Raises:
        Refused: With its length, never its value.
    """
    if len(secret) < SHORTEST_SECRET:
        raise Refused(
            f"LIVEKIT_API_SECRET has {len(secret)} characters; a local LiveKit server wants at least "
            f"{SHORTEST_SECRET}.",
            "Let key and secret be generated: unset LIVEKIT_API_KEY LIVEKIT_API_SECRET",
        )


def config_text(settings: VoiceSettings, interface: str) -> str:
    """The server's configuration: one machine, loopback only, as measured (livekit-server.md 1).

    Args:
        settings: With ports, key and secret chosen.
        interface: The loopback interface's name.

    Raises:
        Refused: The secret is too short for the server.
    """
    key, secret = settings.key_secret()
    refuse_short(secret)
    # JSON strings are YAML strings, and no value can break out of them.
    q = json.dumps
    return f"""# Generated by voicectl at every start. Changes are lost.
port: {urlsplit(settings.livekit_url).port or 7880}
bind_addresses: ["127.0.0.1"]
rtc:
  udp_port: {settings.rtc_udp_port}
  # Any port other than 0 listens on all interfaces, whatever bind_addresses says.
  tcp_port: {settings.rtc_tcp_port}
  use_external_ip: false
  node_ip: 127.0.0.1
  enable_loopback_candidate: true
  interfaces: {{includes: [{q(interface)}]}}
  # Nobody listens there: without it every client asks public STUN servers. The UDP port above would break ICE.
  stun_servers: ["127.0.0.1:3478"]
room: {{auto_create: true, empty_timeout: 60, departure_timeout: 20}}
# The default 0.7 drops jobs without a word when the worker is busy; the worker decides itself.
agents: {{target_load: 1.1}}
keys: {{{q(key)}: {q(secret)}}}
# Wakes who looks after rooms; while the page is down nobody misses it.
webhook:
  api_key: {q(key)}
  urls: [{q(page_url(settings) + WEBHOOK_PATH)}]
  filter_params: {{include_events: [room_started, participant_joined, participant_left, room_finished]}}
"""


def write_config(settings: VoiceSettings, home: Home) -> None:
    """Write the configuration, 0600: it holds the secret."""
    draft = home.livekit_yaml.with_suffix(".tmp")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
        f.write(config_text(settings, loopback_interface()))
    draft.replace(home.livekit_yaml)
