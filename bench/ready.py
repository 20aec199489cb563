"""Ready means ready: seconds until the one command returns, and what a call placed at that moment hears.

    python bench/ready.py
    python bench/ready.py --no-letta

Four runs of ./restart_voice_system.sh in an installation of its own whose models are there: from nothing running, again
with nothing to renew, with everything renewed, and from nothing running again. Each is followed at once by a call on
the small local model. Exits with 1 where a limit is missed. Needs what `python -m tests.setup` fetches; Letta is on, as
for users, where a test has installed it into the cache.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.installation import CACHE, free_port  # noqa: E402
from tests.support.letta_server import cache  # noqa: E402
from voicectl.cli.system import letta_install  # noqa: E402
from voicectl.voice.caller import (  # noqa: E402
    Caller,
    Heard,
    NothingHeard,
    alike,
)
from voicectl.voice.config import VoiceSettings  # noqa: E402
from voicectl.voice.speech import RATE, Ear, Voice  # noqa: E402

GREETING_S, ANSWER_S, AGAIN_S = 3.0, 6.0, 20.0
QUESTION = "What is the capital of France?"
PATIENCE_S = 40.0
PAUSE_S = 0.5  # between the line that bridges a silence and what follows it
OURS = ("VOICE_", "MEMORY_", "LIVEKIT_", "LETTA_", "OPENAI_", "DEEPGRAM_", "CARTESIA_", "DATABASE_URL")


@dataclass
class Run:
    """One run of the command and the call after it; seconds.

    Args:
        what: What the command had to do.
        command_s: Until it returned.
        greeting_s: From then to the first sound of the greeting: token, joining and all.
        words_s: From the end of our question to the first sound, be it the line that bridges a silence.
        answer_s: From there to the first sound of the answer itself.
    """

    what: str
    command_s: float
    greeting_s: float = PATIENCE_S
    words_s: float = PATIENCE_S
    answer_s: float = PATIENCE_S
    heard: list[tuple[float, str]] = field(default_factory=list)
    ended: str = ""
    missed: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


class House:
    """An installation with models, and Letta where there is one."""

    def __init__(self, home: Path, *, letta: bool) -> None:
        self.home, self.port = home, free_port()
        home.mkdir(mode=0o700)
        for name in ("models", "bin"):
            (home / name).symlink_to(CACHE / "home" / name)
        self.letta = letta and letta_install.installed(letta_install.files(cache()))
        if self.letta:
            shared, at = letta_install.files(cache()), letta_install.files(home)
            at.home.mkdir(parents=True, mode=0o700)
            at.venv.symlink_to(shared.venv)
            at.migrations.symlink_to(shared.migrations)
            for step in ("packages", "migrations"):
                at.finish(step)
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(OURS)},
            "VOICE_HOME": str(home),
            "VOICE_ENV_FILE": str(home / "none.env"),
            "VOICE_HTTP_PORT": str(self.port),
            "VOICE_RTC_UDP_PORT": str(free_port(socket.SOCK_DGRAM)),
            **({} if self.letta else {"MEMORY_BACKEND": "embedded"}),
        }
        self.voice, self.ear = Voice(CACHE / "home"), Ear(CACHE / "home")
        self.question = self.voice.line(QUESTION)
        self.filler = str(VoiceSettings.model_fields["filler_line"].default)
        self.ear.transcribe(np.zeros(RATE, np.int16), RATE)

    def command(self, *words: str) -> tuple[float, list[str]]:
        """Run a command; seconds, and what it said."""
        began = time.monotonic()
        done = subprocess.run(
            words, env=self.environment, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        took = time.monotonic() - began
        said = [line for line in done.stderr.splitlines() if line.strip()]
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr}")
        return took, said

    def start(self, what: str, *options: str) -> Run:
        """The one command, and a call the moment it returns."""
        took, said = self.command("./restart_voice_system.sh", *options)
        run = Run(what, round(took, 1), said=said)
        asyncio.run(self._call(run, time.monotonic()))
        limits = {"greeting_s": GREETING_S, "answer_s": ANSWER_S} | ({"command_s": AGAIN_S} if "again" in what else {})
        run.missed = [f"{name} above {limit:g}" for name, limit in limits.items() if getattr(run, name) > limit]
        print(what, f"{run.command_s} s;", run.heard, run.missed, file=sys.stderr, flush=True)
        return run

    async def _call(self, run: Run, began: float) -> None:
        sounds: list[tuple[float, Heard]] = []
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(f"http://127.0.0.1:{self.port}/api/token", json={"participant_identity": "x"})
            given = answer.raise_for_status().json()
        url, token = given["server_url"], given["participant_token"]
        async with Caller(url, token, voice=self.voice, ear=self.ear) as caller:
            try:
                greeting = await caller.listen(start_s=PATIENCE_S)
                run.greeting_s = round(caller.joined_at - began + greeting.first_audible_s, 2)
                sounds.append((run.greeting_s, greeting))
                await caller.say(self.question)
                seconds, patience = 0.0, PATIENCE_S
                while True:
                    sound = await caller.listen(start_s=patience, end_silence_s=PAUSE_S)
                    sounds.append((round(seconds + sound.first_audible_s, 2), sound))
                    seconds += sound.first_audible_s + sound.duration_s
                    patience = ANSWER_S  # nothing is transcribed while the model works on these cores
            except NothingHeard as e:
                run.ended = str(e)
        run.heard = [(at, self.ear.transcribe(s.audio, s.rate)) for at, s in sounds]
        run.words_s = next((at for at, _ in run.heard[1:]), PATIENCE_S)
        run.answer_s = next((at for at, text in run.heard[1:] if not alike(text, self.filler)), PATIENCE_S)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-letta", action="store_true", help="memory in the store alone")
    given = parser.parse_args()
    house = House(Path(tempfile.mkdtemp(prefix="ready-")) / "home", letta=not given.no_letta)
    try:
        runs = [
            house.start("nothing runs, models are there"),
            house.start("again: nothing to renew"),
            house.start("everything renewed", "--all"),
        ]
        house.command(sys.executable, "-m", "voicectl.cli.main", "down")
        runs.append(house.start("again: nothing runs"))
    finally:
        down, _ = house.command(sys.executable, "-m", "voicectl.cli.main", "down")
    print(json.dumps({"letta": house.letta, "runs": [asdict(r) for r in runs], "down_s": round(down, 1)}, indent=1))
    sys.exit(any(r.missed for r in runs))


if __name__ == "__main__":
    main()
