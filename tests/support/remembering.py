"""Two calls a second apart by sound alone: a name and a fact are told, and asked for; a stranger asks the same.

    customers = Customers(installation)
    outcome = await customers.remembered(pair)
    outcome.greeted_by_name, outcome.fact_heard, outcome.told_to_a_stranger

The tokens carry no data rights, so nothing but audio reaches the agent; what it says is judged by an ear that is not
its own. `customers.placed` lists what was spoken, for the comparison with Letta (mirror_proof.py).
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.installation import CACHE, Installation
from tests.support.letta_server import RealLetta, real_letta
from tests.support.pairs import Pair
from voicectl.voice.caller import Caller, NothingHeard, alike
from voicectl.voice.speech import Ear, Voice
from voicectl.voice.web.tokens import mint

BETWEEN_S = 1.0  # from the end of the first call to the next one
PATIENCE_S = 30.0  # for an answer


@dataclass(frozen=True)
class Placed:
    """One call as its caller knows it: whose it was, and what was spoken after the greeting."""

    customer: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What was heard of one pair."""

    pair: Pair
    confirmed: str
    greeting: str
    answer: str
    stranger: str
    greeted_by_name: bool
    fact_heard: bool
    told_to_a_stranger: bool
    answer_s: float

    def __str__(self) -> str:
        marks = "".join("+" if ok else "-" for ok in (self.greeted_by_name, self.fact_heard))
        leak = " TOLD TO A STRANGER" if self.told_to_a_stranger else ""
        heard = f"{self.greeting} | {self.answer} | to a stranger: {self.stranger}"
        return f"{marks}{leak} {self.pair.name}: {self.pair.told}\n     heard: {heard}"


class Customers:
    """Calls an installation, as one customer after another.

    Args:
        installation: It runs.
    """

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.voice = Voice(CACHE / "home")
        self.ear = Ear(CACHE / "home")
        self.filler = installation.settings.filler_line
        self.placed: list[Placed] = []

    async def remembered(self, pair: Pair) -> Outcome:
        """Tell a name and a fact, call again and ask, have somebody else ask."""
        customer = f"user:{secrets.token_hex(4)}"
        first = await self.call(customer, f"Hello, my name is {pair.name}.", pair.told)
        await asyncio.sleep(BETWEEN_S)
        (greeting, _), (answer, answer_s) = await self.call(customer, pair.question)
        _, (stranger, _) = await self.call(f"{customer}-other", pair.question)
        return Outcome(
            pair,
            first[-1][0],
            greeting,
            answer,
            stranger,
            _says(greeting, pair.name),
            _says(answer, pair.word),
            _says(stranger, pair.word),
            round(answer_s, 2),
        )

    async def call(self, customer: str, *lines: str) -> list[tuple[str, float]]:
        """Greeting and answers, with the seconds until each began; a line that is not answered gives an empty text."""
        token, _ = mint(self.installation.settings, customer, None, "assistant", may_send_data=False)
        self.placed.append(Placed(customer, lines))
        heard: list[tuple[str, float]] = []
        async with Caller(self.installation.livekit_url, token, voice=self.voice, ear=self.ear) as caller:
            for line in ("", *lines):
                if line:
                    await caller.say(line)
                heard.append(await self._answer(caller))
        return heard

    async def _answer(self, caller: Caller) -> tuple[str, float]:
        """The next thing said that is more than the line that bridges a silence, as a person would wait for it."""
        said, seconds = "", 0.0
        try:
            while not said or alike(said, self.filler):
                text, sound = await caller.hear(start_s=PATIENCE_S)
                said, seconds = text, seconds + sound.first_audible_s
                if alike(said, self.filler):
                    seconds += sound.duration_s
        except NothingHeard:
            return said, PATIENCE_S
        return said, seconds


def _says(text: str, word: str) -> bool:
    """Whether a text holds a word, or its plural."""
    return re.search(rf"\b{re.escape(word)}(s|'s)?\b", text, re.IGNORECASE) is not None


@contextmanager
def with_letta_down(folder: Path) -> Iterator[tuple[Installation, RealLetta]]:
    """An installation on the small local model whose Letta is configured and refuses, as one that is down does.

    The syncer runs. `letta.up()` brings Letta back, with an empty database.
    """
    with real_letta(folder / "letta", up=False) as letta:
        settings = {"MEMORY_BACKEND": "letta", "LETTA_BASE_URL": letta.url, "LETTA_API_KEY": letta.access.key}
        with Installation(folder / "home", None, settings) as installation:
            installation.start("syncer")
            try:
                yield installation, letta
            finally:
                installation.kill("syncer")
