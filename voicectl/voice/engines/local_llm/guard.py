"""Checks of what the model wrote: is it the caller's own words, is it invented, does it leak, does it promise.

Pure functions of text, English like the cues. An empty answer means nothing was found.
Not here: what a caller's sentence shows (cues.py), what is said instead (adapter.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from voicectl.voice.engines.local_llm.text import content_words, squash, stem, stems, words

_PLAIN_VERBS = stems(
    "is are was has have had live work like love prefer hate drive own play speak eat drink take want need called name "
    "caller user customer says said favourite be from born go uses their his her my your new now"
)


def grounded(value: str, caller: str) -> bool:
    """Whether every word of `value` that carries meaning was said by the caller (plain verbs are free)."""
    said = stems(caller)
    squashed = squash(caller)
    return all(
        (root := stem(w)) in said or root in _PLAIN_VERBS or (w.isdigit() and w in squashed)
        for w in content_words(value)
    )


_STATES = frozenset(
    words(
        "shipped delivered processing pending refunded initiated cancelled canceled dispatched open closed "
        "started placed monday tuesday wednesday thursday friday saturday sunday january february march april "
        "june july august september october november december free discount tomorrow today vegan spicy"
    )
)
_STATE_PAIRS = ("picked up", "in progress", "in stock", "out of stock", "sold out")
_NUMBER_WORDS = {
    w: str(n) for n, w in enumerate(words("two three four five six seven eight nine ten eleven twelve"), 2)
} | {"twenty": "20", "thirty": "30"}


def invented(reply: str, source: str) -> list[str]:
    """Numbers, states and days in a reply that the source does not hold; empty when all are covered."""
    said, known = reply.lower(), source.lower()
    numbers = set(re.findall(r"\d+", known))
    known_words = set(re.findall(r"[a-z]+", known))
    bad = [n for n in re.findall(r"\d+", said) if n not in numbers]
    for word in re.findall(r"[a-z]+", said):
        if word in _NUMBER_WORDS and word not in known_words and _NUMBER_WORDS[word] not in numbers:
            bad.append(word)
        if word in _STATES and word not in known_words:
            bad.append(word)
    return bad + [pair for pair in _STATE_PAIRS if pair in said and pair not in known]


_SMALL_TALK = stems(
    "sure course glad sorry happy help tell told know yet anything else great nice lovely good remember let thing "
    "think sound mentioned said earlier last time call say asked find found nothing information"
)


def invented_about_caller(reply: str, source: str) -> list[str]:
    """Words with which an answer about the caller claims what the source does not hold; questions claim nothing."""
    if reply.rstrip().endswith("?"):
        return []
    known = stems(source)
    return [w for w in content_words(reply) if (r := stem(w)) not in known and r not in _PLAIN_VERBS | _SMALL_TALK]


def leaked(reply: str, private: Iterable[str], source: str) -> list[str]:
    """Words that belong to the made-up callers of the examples and to nothing in this call."""
    known = stems(source)
    said = stems(reply)
    return [w for w in private if (r := stem(w)) in said and r not in known]


def promises(reply: str, words: Iterable[str]) -> bool:
    """Whether a reply claims something done ("I'll remember", "I've saved it") with one of these words."""
    roots = {stem(w) for w in words}
    claim = re.search(
        r"\b(i(['’]ll|['’]ve| will| have| am|['’]m)|saved|noted|is saved|is noted)\b", reply, re.IGNORECASE
    )
    denies = re.search(r"\b(not|won['’]t|don['’]t|can['’]t|cannot|sorry)\b", reply, re.IGNORECASE)
    return bool(claim) and not denies and bool(roots & stems(reply))
