"""Remembered, and not by a template: two calls a second apart, a name and a fact, on the real local model.

    python bench/remembered.py --pairs 20 --seed 1

Draws names and facts by seed, places both calls through the real server with a token that has no data rights (only
audio can carry anything), transcribes the answers with an ear that is not the agent's, and asks the same question as
another customer. Needs what `python -m tests.setup` fetches; starts an installation of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.installation import CACHE, Installation  # noqa: E402
from voicectl.voice.caller import Caller, NothingHeard  # noqa: E402
from voicectl.voice.speech import Ear, Voice  # noqa: E402
from voicectl.voice.web.tokens import mint  # noqa: E402

NAMES = [
    *("Daniel", "Emma", "Oliver", "Sophia", "James", "Julia", "Robert", "Laura", "Michael", "Hannah", "Thomas"),
    *("Alice", "William", "Rebecca", "Henry", "Victoria", "George", "Catherine", "Edward", "Elizabeth", "Samuel"),
    *("Charlotte", "Benjamin", "Amanda", "Patrick", "Monica"),
]
# what is told · what is asked · a word that the answer must hold
FACTS = [
    ("My favourite colour is {}.", "What is my favourite colour?", ["purple", "yellow", "orange", "silver", "white"]),
    ("My favourite fruit is the {}.", "What is my favourite fruit?", ["mango", "cherry", "banana", "melon", "apple"]),
    ("I live in {}.", "Which city do I live in?", ["London", "Berlin", "Chicago", "Madrid", "Boston", "Sydney"]),
    ("Please remember that my dog is called {}.", "What is my dog called?", ["Rocky", "Charlie", "Buddy", "Lucky"]),
    ("I work as a {}.", "What is my job?", ["teacher", "doctor", "painter", "farmer", "lawyer", "driver"]),
    ("My sister lives in {}.", "Where does my sister live?", ["Paris", "Canada", "Dublin", "Norway", "Texas"]),
    ("Please note that I am allergic to {}.", "What am I allergic to?", ["peanuts", "milk", "eggs", "honey"]),
]


@dataclass(frozen=True)
class Pair:
    """One customer to be remembered."""

    name: str
    told: str
    question: str
    word: str


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


def pairs(seed: int) -> Iterator[Pair]:
    """Pairs drawn by seed, names without repetition."""
    rng = random.Random(seed)
    names = rng.sample(NAMES, len(NAMES))
    for name in names:
        told, question, words = rng.choice(FACTS)
        word = rng.choice(words)
        yield Pair(name, told.format(word), question, word)


class Bench:
    """Places the calls."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.voice = Voice(CACHE / "home")
        self.ear = Ear(CACHE / "home")

    def caller(self, customer: str) -> Caller:
        token, _ = mint(self.installation.settings, customer, None, "assistant", may_send_data=False)
        return Caller(self.installation.livekit_url, token, voice=self.voice, ear=self.ear)

    async def talk(self, customer: str, *lines: str) -> list[tuple[str, float]]:
        """Greeting and answers of one call; a line that is not answered gives an empty text."""
        heard: list[tuple[str, float]] = []
        async with self.caller(customer) as caller:
            for line in ("", *lines):
                if line:
                    await caller.say(line)
                try:
                    text, sound = await caller.hear(start_s=30)
                except NothingHeard:
                    heard.append(("", 30.0))
                    continue
                heard.append((text, sound.first_audible_s))
        return heard

    async def pair(self, pair: Pair) -> Outcome:
        customer = f"user:{secrets.token_hex(4)}"
        first = await self.talk(customer, f"Hello, my name is {pair.name}.", pair.told)
        await asyncio.sleep(1)
        (greeting, _), (answer, answer_s) = await self.talk(customer, pair.question)
        _, (stranger, _) = await self.talk(f"{customer}-other", pair.question)
        word = pair.word.lower()
        return Outcome(
            pair,
            first[-1][0],
            greeting,
            answer,
            stranger,
            pair.name.lower() in greeting.lower(),
            word in answer.lower(),
            word in stranger.lower(),
            round(answer_s, 2),
        )


async def run(count: int, seed: int) -> list[Outcome]:
    outcomes: list[Outcome] = []
    with Installation(Path(tempfile.mkdtemp(prefix="bench-")) / "home", None) as installation:
        bench = Bench(installation)
        for pair in list(pairs(seed))[:count]:
            began = time.monotonic()
            outcome = await bench.pair(pair)
            outcomes.append(outcome)
            marks = "".join("+" if ok else "-" for ok in (outcome.greeted_by_name, outcome.fact_heard))
            leak = "!" if outcome.told_to_a_stranger else " "
            print(f"{marks}{leak} {time.monotonic() - began:5.1f} s {pair.name}: {pair.told}", file=sys.stderr)
            print(f"     heard: {outcome.greeting} | {outcome.answer} | stranger: {outcome.stranger}", file=sys.stderr)
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    outcomes = asyncio.run(run(given.pairs, given.seed))
    total = {
        "seed": given.seed,
        "pairs": len(outcomes),
        "greeted_by_name": sum(o.greeted_by_name for o in outcomes),
        "fact_heard": sum(o.fact_heard for o in outcomes),
        "told_to_a_stranger": sum(o.told_to_a_stranger for o in outcomes),
        "outcomes": [asdict(o) for o in outcomes],
    }
    print(json.dumps(total, indent=1))


if __name__ == "__main__":
    main()
