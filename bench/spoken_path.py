"""Not slower, spoken: end of the caller's speech to the first audible frame, ours against a plain LiveKit pipeline.

    python bench/spoken_path.py --calls 6 --turns 8 --seed 1

Both arms are real workers on one real LiveKit server: ours is the shipped one (`voicectl run worker`), the other is
plain_spoken.py, which imports nothing of ours. Both use the official Deepgram, Cartesia and OpenAI plugins with the
same settings against the same kind of stand-ins, which answer at once (speech_stubs.py): what is left is the pipeline
and our part. Two calls are open at a time, one of each arm; turns alternate in an order drawn by seed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
from livekit import api

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.figures import median_interval, spread  # noqa: E402
from bench.phone import Phone, trimmed  # noqa: E402
from bench.speech_stubs import SENTENCE, SpeechStubs  # noqa: E402
from tests.support.installation import CACHE, Installation  # noqa: E402
from tests.support.llm_stub import LLMStub, by_keyword  # noqa: E402
from voicectl.voice.speech import Voice  # noqa: E402

PACKAGES = ("livekit", "livekit-agents", "livekit-plugins-deepgram", "livekit-plugins-cartesia")
REPLY = "We are open from nine to five."
ARMS = ("plain", "ours")
HELD_MS = 1200.0  # the turn detector thought that the caller would go on, and waited 1.5 s
PAUSE_S = (0.5, 0.9)  # between what was heard and what is said next


class Engines:
    """The stand-ins of one arm."""

    def __init__(self) -> None:
        self.speech = SpeechStubs()
        self.llm = LLMStub(by_keyword({}, otherwise=REPLY))

    def __enter__(self) -> Engines:
        self.speech.__enter__()
        self.llm.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.llm.__exit__()
        self.speech.__exit__()


def keys(engines: Engines) -> dict[str, str]:
    return {
        "DEEPGRAM_API_KEY": "bench",
        "CARTESIA_API_KEY": "bench",
        "OPENAI_API_KEY": "bench",
        "OPENAI_BASE_URL": engines.llm.url,
    }


@contextmanager
def plain_worker(installation: Installation, engines: Engines) -> Iterator[None]:
    key, secret = installation.settings.key_secret()
    environment = {
        **{k: v for k, v in os.environ.items() if "proxy" not in k.lower()},
        **keys(engines),
        "PLAIN_DEEPGRAM_URL": f"{engines.speech.url}/v1/listen",
        "PLAIN_CARTESIA_URL": engines.speech.url,
        "LIVEKIT_URL": installation.livekit_url,
        "LIVEKIT_API_KEY": key,
        "LIVEKIT_API_SECRET": secret,
    }
    argv = [sys.executable, "-m", "livekit.agents", "start", str(ROOT / "bench" / "plain_spoken.py")]
    with (installation.home / "plain.log").open("wb") as log:
        process = subprocess.Popen(
            argv, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def plain_token(installation: Installation) -> tuple[str, str]:
    room = f"plain-{secrets.token_hex(6)}"
    grants = api.VideoGrants(room_join=True, room=room, can_publish_sources=["microphone"], can_publish_data=True)
    token = api.AccessToken(*installation.settings.key_secret()).with_identity(f"caller-{room}").with_grants(grants)
    configuration = api.RoomConfiguration(agents=[api.RoomAgentDispatch(agent_name="plain")], max_participants=1)
    return installation.livekit_url, token.with_room_config(configuration).to_jwt()


async def plain_ready(installation: Installation) -> None:
    """Until dispatches reach the plain worker: the server learns a new agent's name with delay."""
    for _ in range(15):
        async with Phone(*plain_token(installation)) as phone:
            try:
                await phone.heard(4)
                return
            except TimeoutError:
                continue
    raise AssertionError(
        "no dispatch reached the plain agent: " + (installation.home / "plain.log").read_text()[-3000:]
    )


async def pair_of_calls(
    installation: Installation, lines: list[np.ndarray], turns: int, rng: random.Random
) -> list[dict[str, float]]:
    """One call of each arm at a time; the first turn of each is a warm-up and is left out."""
    measured: list[dict[str, float]] = []
    ours_token = installation.token(f"user:{secrets.token_hex(4)}")
    async with Phone(*plain_token(installation)) as plain, Phone(*ours_token) as ours:
        phones = {"plain": plain, "ours": ours}
        for phone in phones.values():
            await phone.heard()
        for number in range(turns + 1):
            line = rng.choice(lines)
            took: dict[str, float] = {}
            for arm in rng.sample(ARMS, 2):
                await phones[arm].quiet(rng.uniform(*PAUSE_S))
                took[arm] = await phones[arm].turn(line)
            if number:
                measured.append(took)
        for phone in phones.values():
            await phone.quiet(0.3)
    return measured


def lines() -> list[np.ndarray]:
    """Short sentences in the caller's voice, ending with their last loud sample."""
    voice = Voice(CACHE / "home")
    said = [SENTENCE, "Are you open on Sunday?", "Where can I park my car?", "When do you close today?"]
    return [trimmed(voice.line(x), lambda p: float(np.sqrt((p.astype(np.float32) ** 2).mean())) > 300) for x in said]


def server_version(home: Path) -> str:
    return subprocess.check_output([str(home / "bin" / "livekit-server"), "--version"], text=True).strip()


def machine() -> dict[str, object]:
    return {
        "cores": os.cpu_count(),
        "load_1_min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "system": platform.platform(),
        **{p: version(p) for p in PACKAGES},
    }


async def run(calls: int, turns: int, seed: int) -> dict[str, object]:
    rng = random.Random(seed)
    home = Path(tempfile.mkdtemp(prefix="bench-")) / "home"
    before = machine()
    with Engines() as plain, Engines() as ours:
        addresses = {"VOICE_DEEPGRAM_BASE_URL": ours.speech.url, "VOICE_CARTESIA_BASE_URL": ours.speech.url}
        with (
            Installation(home, ours.llm.url, {**keys(ours), **addresses}) as installation,
            plain_worker(installation, plain),
        ):
            server = await asyncio.to_thread(server_version, home)
            said = lines()
            await plain_ready(installation)
            asked = {"plain": len(plain.llm.requests), "ours": len(ours.llm.requests)}
            by_call: list[list[dict[str, float]]] = []
            for number in range(calls):
                began = time.monotonic()
                by_call.append(await pair_of_calls(installation, said, turns, rng))
                middle = {arm: round(statistics.median(t[arm] for t in by_call[-1])) for arm in ARMS}
                print(f"call {number + 1}: {middle} ms, {time.monotonic() - began:.0f} s", file=sys.stderr)
            asked = {"plain": len(plain.llm.requests) - asked["plain"], "ours": len(ours.llm.requests) - asked["ours"]}
    took = [turn for call in by_call for turn in call]
    a, b = [t["plain"] for t in took], [t["ours"] for t in took]
    return {
        "seed": seed,
        "turns_each": len(took),
        "server": server,
        "machine": before,
        "load_1_min_after": round(os.getloadavg()[0], 2),
        "plain": spread(a),
        "ours": spread(b),
        "difference": median_interval(a, b, seed),
        "held_by_the_turn_detector": {arm: sum(t[arm] > HELD_MS for t in took) for arm in ARMS},
        "median_by_call_ms": {arm: [round(statistics.median(t[arm] for t in c)) for c in by_call] for arm in ARMS},
        "model_calls_a_turn": {arm: round(n / (calls * (turns + 1)), 3) for arm, n in asked.items()},
        "turns_ms": [{arm: round(t[arm], 1) for arm in ARMS} for t in took],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=6)
    parser.add_argument("--turns", type=int, default=8, help="turns of each call that count")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print(json.dumps(asyncio.run(run(given.calls, given.turns, given.seed)), indent=1))


if __name__ == "__main__":
    main()
