"""The name rule: a customer's name from their own words. It is not left to a model.

Only phrases that announce a name count; "I'm hungry" does not, nor does "you promised to call me yesterday". A name
that is missed is asked for; one that nobody announced is said aloud to the customer at each call, so where it is not
clear there is none. Not here: what becomes of it (profile.py).
"""

from __future__ import annotations

import re

_ANNOUNCED = re.compile(
    r"""
    (?: \bmy\ (?:full\ |first\ )?name(?:'s|\ is)
      | (?:^|[.!?,;:]\s*|\b(?:and|but|so|or|well|um|uh)\s+)                   # at the beginning of what is said, for
        (?:you\ (?:can|may)\ |please\ |just\ )*(?:call\ me|the\ name(?:'s|\ is))  # others call me many things
      | \bthis\ is(?=(?:\s[^\W\d_][\w'’-]*){1,3}\ (?:speaking|calling|here)\b)
    )\s+(?:now\s+|actually\s+|uh\s+|um\s+)*(?P<rest>[^.,;:!?]+)
    """,
    re.IGNORECASE | re.VERBOSE,
)


def _words(listed: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z']+", listed))


# Where a name ends, if it has begun.
_END = _words(
    """
    a again an and are as at back because but by calling can could for from here i i'd i'm if in is it it's later my not
    now on or please so speaking that the this to today tomorrow what when who with you your
    """
)
# What is no name's first word.
_NONE = _END | _words(
    """
    about admin administrator after all already also always annoying any anybody anymore anyone anytime around asap
    before between correct crazy different disregard during easy evenings every everybody first forget friday hard
    ignore important instead just known late madam maybe missing misspelled misspelt monday mornings never new next
    no nobody none nothing often old once only over private pronounced really registered right saturday secret sir
    sometime soon spelled spelt still sunday system terrible then there thursday tonight too tuesday unclear
    unknown until up urgent very wednesday weekdays weekends whatever whenever written wrong yesterday
    """
)
_LY_NAMES = _words(
    """
    ally aly beverly billy carly dolly elly emily holly kelly kimberly lily milly molly nelly polly reilly sally shelly
    wally willy
    """
)
_TITLE = re.compile(r"\b(?:dr|mr|mrs|ms|prof)\b\.?\s+", re.IGNORECASE)
_WORD = re.compile(r"^[^\W\d_]+(?:['’-][^\W\d_]+)*$")


def name_in(text: str) -> str | None:
    """The name a customer announces in a sentence, each word capitalised; None when there is none.

    At most three words, up to the first that cannot belong to a name.
    """
    for found in _ANNOUNCED.finditer(_TITLE.sub("", text)):
        words: list[str] = []
        for word in found["rest"].split():
            unfit = word.casefold() in (_END if words else _NONE)
            if unfit or not _WORD.match(word) or len(words) == 3:
                break
            words.append(word)
        if words and (not words[0].casefold().endswith("ly") or words[0].casefold() in _LY_NAMES):
            return " ".join(w if any(c.isupper() for c in w[1:]) else w.capitalize() for w in words)
    return None
