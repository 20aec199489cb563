"""Caller's words, made comparable: spoken digits joined into ids and numbers, fillers dropped, words squashed.

The same input always gives the same output; nothing here asks a model. Ids never depend on the model for that reason.
Not here: what a sentence means for the turn (guard.py).
"""

from __future__ import annotations

import json
import re

_FILLER = re.compile(r"\b(u+h+|u+m+|er+m*)\b,?\s*", re.IGNORECASE)
_TOKEN = re.compile(r"[A-Za-z']+|\d+|[^\w\s]|\s+|\w+")


def words(text: str) -> list[str]:
    """A word list written as prose."""
    return text.split()


_DIGITS = {w: str(d) for d, w in enumerate(words("zero one two three four five six seven eight nine"))} | {"oh": "0"}
_TEENS = {w: n for n, w in enumerate(words("ten eleven twelve thirteen fourteen fifteen sixteen seventeen"), 10)} | {
    "eighteen": 18,
    "nineteen": 19,
}
_TENS = {w: n * 10 for n, w in enumerate(words("twenty thirty forty fifty sixty seventy eighty ninety"), 2)}
_STOP = frozenset(
    words(
        "ain't aren't can't didn't doesn't don't hasn't haven't isn't wasn't won't wouldn't "
        "a about all also am an and any are as at be been but by can could did do does for from had has have "
        "he her hers him his how i i'd i'll i'm i've if in into is it it's its just like me my no not now of "
        "oh okay on or our please right she so some that that's the their them then there they this to too us "
        "very was we well were what what's when where which who why will with would yes you you'd you'll "
        "you're you've your yours"
    )
)


def norm(text: str) -> str:
    """A recognised sentence with fillers dropped and spoken ids joined.

    "order o three oh two" → "order O302"; "0 1 8, 1 1" → "01811". A run without a letter is joined only from three
    digit words on, so "two dogs and one cat" stays as it is.
    """
    tokens = _TOKEN.findall(_FILLER.sub("", text))
    out: list[str] = []
    i = 0
    while i < len(tokens):
        joined, after = _id_at(tokens, i)
        out.append(joined or tokens[i])
        i = after if joined else i + 1
    return re.sub(r"\s+", " ", "".join(out)).strip()


def _id_at(tokens: list[str], start: int) -> tuple[str, int]:
    """The id or number that is spelled from `start` on and the index after it; an empty string where there is none."""
    i, letter, run, parts = start, "", "", 0
    if re.fullmatch(r"[A-Za-z]", tokens[i]) and tokens[i].lower() not in ("a", "i"):
        letter, i = tokens[i].upper(), i + 1
    end = i
    while i < len(tokens):
        word = tokens[i].lower()
        if (word.isspace() or word in ",-.") and (run or letter):
            i += 1
            continue
        digits = word if word.isascii() and word.isdigit() else _DIGITS.get(word)
        if digits is None and run and word == "o":
            digits = "0"
        if digits is None and (run or letter):
            digits, i = _two_digits(tokens, i)
        if digits is None:
            break
        run, parts, i = run + digits, parts + 1, i + 1
        end = i
    return (letter + run, end) if run and (letter or parts >= 3) else ("", start)


def _two_digits(tokens: list[str], i: int) -> tuple[str | None, int]:
    """`fifty one` as ("51", index of the last token used); None where no such number begins."""
    word = tokens[i].lower()
    if word in _TEENS:
        return str(_TEENS[word]), i
    if word not in _TENS:
        return None, i
    j = i + 1
    while j < len(tokens) and (tokens[j].isspace() or tokens[j] == "-"):
        j += 1
    if j < len(tokens) and (unit := tokens[j].lower()) in _DIGITS and unit not in ("oh", "zero"):
        return str(_TENS[word] + int(_DIGITS[unit])), j
    return str(_TENS[word]), i


def squash(text: str) -> str:
    """Only letters and digits, in lower case: "555-0192" and "5550192" are the same."""
    return "".join(c for c in text.lower() if c.isalnum())


def stem(word: str) -> str:
    """A crude root, good enough to find "likes" in "like" and "colour" in "color"."""
    word = word.lower().strip("'").removesuffix("'s").replace("'", "")
    if word.isdigit():
        return word.lstrip("0") or "0"
    for endings in (("ing", "ies", "ed", "es", "s"), ("e", "y")):
        cut = next((e for e in endings if word.endswith(e) and len(word) - len(e) >= 3), "")
        word = word.removesuffix(cut)
    return word.replace("ou", "o")


def content_words(text: str) -> list[str]:
    """The words that carry meaning, in order, as they were written."""
    words = re.findall(r"\d+|[^\W\d_]+(?:['’][^\W\d_]+)?", text.replace("’", "'"))
    return [w for w in words if w.lower() not in _STOP and (len(w) > 1 or w.isdigit())]


def stems(text: str) -> frozenset[str]:
    """The roots of all words of a text, stop words included."""
    return frozenset(stem(w) for w in re.findall(r"\d+|[^\W\d_]+(?:['’][^\W\d_]+)?", text.replace("’", "'")))


def flat(result: str, limit: int = 600) -> str:
    """A tool's result as one line of key facts. JSON loses its punctuation, which a small model would read aloud.

    Args:
        result: What the tool returned.
        limit: The longest line, in characters; the rest is cut.
    """
    try:
        line = _flat_value(json.loads(result))
    except ValueError:
        line = result
    return re.sub(r"\s+", " ", line).strip()[:limit] or "done"


def _flat_value(value: object) -> str:
    if isinstance(value, dict):
        if len(value) == 1:
            return _flat_value(next(iter(value.values())))
        return ", ".join(f"{k}: {_flat_value(v)}" for k, v in value.items() if v not in (None, "", [], {}))
    if isinstance(value, list):
        return "; ".join(_flat_value(v) for v in value) or "nothing found"
    if value is None:
        return "done"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
