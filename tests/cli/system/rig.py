"""An installation made of stand-ins, and free ports."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from voicectl.cli.system import lifecycle, probes
from voicectl.cli.system.environment import for_child
from voicectl.cli.system.home import Home
from voicectl.cli.system.processes import Part
from voicectl.cli.system.progress import Progress
from voicectl.cli.system.supervisor import Supervisor
from voicectl.voice.config import VoiceSettings

STANDIN = Path(__file__).with_name("standin.py")


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Rig:
    """An installation made of stand-ins."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.supervisor = Supervisor(home)
        self.said: list[str] = []

    def part(self, name: str, *behaviours: str, **more: object) -> Part:
        port = free_port()
        url = f"http://127.0.0.1:{port}/"
        argv = (sys.executable, str(STANDIN), str(port), *behaviours)
        return Part(name=name, argv=argv, missing=probes.answers(url), address=url, **more)  # type: ignore[arg-type]

    def start(self, *parts: Part, shell: dict[str, str] | None = None) -> None:
        environment = {**os.environ, **(shell or {})}
        lifecycle.start_all(
            self.supervisor,
            parts,
            {p.name: for_child(p.name, self.home.root, environment, [VoiceSettings], p.environment) for p in parts},
            build="b1",
            cwd=Path.cwd(),
            progress=Progress(self.said.append),
        )

    def pid(self, name: str) -> int:
        return self.supervisor.states()[name].pid
