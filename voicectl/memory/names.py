"""The name rule: a customer's name from their own words. It is not left to a model.

Only phrases that announce a name count; "I'm hungry" does not. Not here: what becomes of it (profile.py).
"""

from __future__ import annotations

import re

_ANNOUNCED = re.compile(
    r"\b(?:my (?:full |first )?name(?:'s| is)|(?:you can |please |just )?call me|the name(?:'s| is)|"
    r"this is(?=\s[^.!?]{1,40} (?:speaking|calling|here)\b))\s+(?:now\s+|actually\s+|uh\s+|um\s+)*(?P<rest>[^.,;:!?]+)",
    re.IGNORECASE,
)
_STOP = frozenset(
    [
        *(
            "a",
            "again",
            "an",
            "and",
            "are",
            "as",
            "at",
            "back",
            "because",
            "but",
            "by",
            "calling",
            "can",
            "could",
            "for",
        ),
        *("from", "here", "i", "i'd", "i'm", "if", "in", "is", "it", "it's", "later", "my", "not", "now", "on", "or"),
        *("please", "so", "speaking", "that", "the", "this", "to", "today", "tomorrow", "what", "when", "who", "with"),
        *(
            "you",
            "your",
            "then",
            "after",
            "before",
            "around",
            "about",
            "any",
            "anytime",
            "tonight",
            "next",
            "every",
            "once",
        ),
        *(
            "maybe",
            "sometime",
            "instead",
            "too",
            "first",
            "soon",
            "during",
            "until",
            "between",
            "whenever",
            "only",
            "right",
        ),
        *("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "mornings", "evenings", "up"),
        *("weekdays", "weekends", "never", "always", "over", "there", "please", "sir", "madam", "old", "crazy"),
    ]
)
_DENIED = re.compile(r"(?:n['’]t|\bnot|\bnever)\s+(?:ever\s+)?$", re.IGNORECASE)  # "don't call me Bob"
_WORD = re.compile(r"^[^\W\d_]+(?:['’-][^\W\d_]+)*$")


def name_in(text: str) -> str | None:
    """The name a customer announces in a sentence, each word capitalised; None when there is none.

    At most three words, up to the first that cannot belong to a name.
    """
    for found in _ANNOUNCED.finditer(text):
        if _DENIED.search(text[: found.start()]):
            continue
        words: list[str] = []
        for word in found["rest"].split():
            if word.casefold() in _STOP or not _WORD.match(word) or len(words) == 3:
                break
            words.append(word)
        if words:
            return " ".join(w if any(c.isupper() for c in w[1:]) else w.capitalize() for w in words)
    return None
