"""Names and facts to be remembered, drawn by seed from lists of which no prompt or example has a word.

    pair = next(pairs(seed=1))  # Pair(name="…", told="My favourite colour is …", question="…", word="…")

That no prompt has them is a test (live/test_remembered.py). Not here: how they are told and asked (remembering.py).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

NAMES = [
    *("Daniel", "Emma", "Oliver", "Sophia", "James", "Julia", "Robert", "Laura", "Michael", "Hannah", "Thomas"),
    *("Alice", "Andrew", "Rebecca", "Henry", "Victoria", "George", "Catherine", "Edward", "Elizabeth", "Samuel"),
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
    """One customer to be remembered: the name, the sentence told, the question, and the word of its answer."""

    name: str
    told: str
    question: str
    word: str


def pairs(seed: int) -> Iterator[Pair]:
    """Pairs in the order of this seed, no name twice."""
    rng = random.Random(seed)
    for name in rng.sample(NAMES, len(NAMES)):
        told, question, words = rng.choice(FACTS)
        word = rng.choice(words)
        yield Pair(name, told.format(word), question, word)


def words() -> set[str]:
    """All names and all words of answers, in lower case."""
    return {w.lower() for w in (*NAMES, *(word for _, _, choices in FACTS for word in choices))}
