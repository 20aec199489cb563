"""Whether the customer said it: checked here, by words, never by the model that proposes it.

    Evidence(said).of("city: Leeds")  ->  the turn that teaches it, or Ungrounded with a reason

Significant words of a line must occur in the customer's turns, most of them in one sentence; that sentence must not
doubt ("if", "maybe"), must not deny what the line affirms, and what it says of a relative is not learnt of the
customer. The price is omissions: what cannot be shown in the customer's words is not learnt. What this cannot see: a
false statement made of the customer's own words. Not here: which turns count at all (quoted.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from voicectl.memory.learning.quoted import Heard, gives_orders
from voicectl.memory.lines import subject_of

_WORD = re.compile(r"[^\W_]+", re.UNICODE)
# May stand in a line although the customer did not say them: grammar, and the words by which facts are filed.
_FREE = frozenset(
    _WORD.findall(
        """
        a an the and or but of in on at to for with from by as about than into is are was were be been being am has
        have had having do does did does not no will would can cannot could should who whom whose which that this these
        those it its he she they him her hers his their theirs them i me my mine we us our ours you your caller callers
        customer customers user person s t re ve ll d m now new currently also very so there when usually lives live
        living moved moves works work working likes like loves love enjoys prefers prefer wants want wishes needs need
        uses use owns takes plays goes speaks drives called named name city town home house address phone number email
        job birthday date language favourite favorite preference allergy diet pet family contact time delivery hobby
        no any more around after before until every call send sends
        """
    )
)


def _cue(words: str) -> re.Pattern[str]:
    return re.compile(words, re.IGNORECASE)


_NOT = r"n['’]t\b|\b(?:not|never|no longer|cannot|cant|dont|without)\b"
_DENIES = _cue(_NOT)
_NEGATED = _cue(_NOT + r"|\b(?:no|any ?more|quit|stop|stopped|gave up|died|sold|lost)\b")
_STOPS = _cue(r"\b(?:please stop|stop (?:\w+ing)|no more|cancel)\b")
_VERB_DENIED = _cue(r"n['’]t\b|\b(?:do|does|am|is|are|was|have|can|will) not\b|\b(?:never|no longer|cannot)\b")
_KEEPS_OFF = _cue(r"\b(?:allerg|avoid|hate|dislike|former|stop|quit|afraid)")
_GONE = _cue(
    _NOT + r"|\b(?:no|any ?more|forget|delete|remove|sold|lost|gone|died|quit|stopped|left|finished|moved|changed|"
    r"instead|used to|now|actually|wrong)\b"
)
_LIKES = _cue(r"\b(?:likes?|loves?|enjoys?|prefers?|wants?|fan|favou?rite)\b")
_HATES = _cue(r"\b(?:hates?|dislikes?|allergic|avoid|awful|terrible|(?:can['’]?t|cannot) (?:stand|eat|have))\b")
_DOUBTS = _cue(
    r"\b(?:if (?:i|we)|maybe|perhaps|might|(?:i|we) should|one day|"
    r"some ?day|thinking (?:about|of)|dreaming|joking|kidding|imagine|"
    r"wish (?:i|we)|suppose|what if|who knows)\b"
)
_OTHERS = _cue(
    r"\b(?:my|our|his|her|their|the)\s+(?:\w+\s+){0,2}?(?P<who>friend|brother|sister|neighbou?r|boss|colleague|husband|"
    r"wife|partner|boyfriend|girlfriend|son|daughter|child|mother|father|mum|mom|dad|uncle|aunt|cousin|nephew|niece|"
    r"grandmother|grandfather|doctor|lawyer|landlord|dog|cat)s?\b"
)
_OF_THEMSELVES = _cue(r"\b(?:i|i['’]m|i['’]ve|i['’]ll|i['’]d|myself)\b")
_ASKS = _cue(
    r"^(?:(?:so|and|um|uh|well|okay|hi|hello|hey)\W+)*(?:can|could|would|will|do|does|did|is|are|what|when|where|who|which|"
    r"how|may|shall|should)\s"
)
_WISH = r"(?:call|ring|send|write|email|mail|text|deliver|remind|bring)\s+(?:\w+\s+)?me"
_ASKS_FOR = _cue(rf"\b(?:my|i['’]m|i am|i have|{_WISH})\b")  # "Can you call me in the evening?" says what they want
_RIGHTS = _cue(
    r"\b(?:admin\w*|superuser|root access|vip|verified|authori[sz]ed|clearance|unlimited|discount\w*|refunds?|"
    r"free of charge|(?:everything|all|is|are) free|password|passcode|pin code|credit card|"
    r"(?:agent|assistant|system|you)\s+(?:must|should|shall|will|may|has to|have to))\b"
)
_NAME = _cue(r"^(?:the\s+|(?:caller|customer)['’]s\s+|his\s+|her\s+|my\s+)?(?:full\s+|first\s+|last\s+)?name\b")
_SENTENCE = _cue(
    r"(?<=[.?!;])\s+|\s+(?:but|and (?=(?:i|my|we|our)\b))|,\s+(?=(?:and|but|i|my|it['’]s|is|are|do|does|"
    r"can|could|what|when|where|who|how|will|would|may)\b)"
)
_SPOKEN = ("zero", "oh", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_DIGITS = dict(zip(_SPOKEN, "00123456789", strict=True))
_NUMBERS = frozenset([*_SPOKEN, "ten", "eleven", "twelve", "first", "second", "third"])


class Ungrounded(Exception):
    """The customer's words do not carry a change.

    Args:
        why: In words for operators, without the customer's.
    """

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)


def significant(text: str) -> set[str]:
    """The words of a line that somebody must have said."""
    return {w for w in (m.casefold() for m in _WORD.findall(text)) if w not in _FREE}


def alike(a: str, b: str) -> bool:
    """Whether two words are forms of one: `allergic` and `allergy`, `cats` and `cat`, not `Leeds` and `leader`."""
    if a == b:
        return True
    short, long = sorted((a, b), key=len)
    if any(c.isdigit() for c in a + b) or len(short) < 3:
        return False
    if long.startswith(short) and long[len(short) :] in ("s", "es", "ed", "d", "ing", "er", "ly", "n", "ian"):
        return True
    shared = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(short))
    return shared >= 5 and len(a) - shared <= 3 and len(b) - shared <= 3


def shared(one: str, other: str) -> bool:
    """Whether two texts have a significant word in common."""
    return any(alike(a, b) for a in significant(one) for b in significant(other))


def corrects(line: str, old: str) -> bool:
    """Whether a line is another one with nothing of it lost but a number: three cats are not two."""
    gone = {a for a in significant(old) if not any(alike(a, b) for b in significant(line))}
    return shared(line, old) and all(w.isdigit() or w in _NUMBERS for w in gone)


@dataclass(frozen=True)
class _Sentence:
    turn: Heard
    text: str

    @cached_property
    def words(self) -> set[str]:
        return significant(self.text)

    @cached_property
    def digits(self) -> str:
        return _digits(self.text)

    def has(self, word: str) -> bool:
        return any(alike(word, w) for w in self.words) or (word.isdigit() and len(word) > 1 and word in self.digits)


def _digits(text: str) -> str:
    """The digits of a sentence in a row, as numbers are dictated: `five five oh, 1 3 3`."""
    found = (w.casefold() for w in _WORD.findall(text))
    return "".join(_DIGITS.get(w, w if w.isdigit() else " ") for w in found)


class Evidence:
    """What the customer said in a call, sentence by sentence.

    Args:
        said: The call.
        known: Lines that were known before; their words need not be said again, but a line of nothing else is no news.
    """

    def __init__(self, said: Sequence[Heard], known: Sequence[str] = ()) -> None:
        self._known = {word for line in known for word in significant(line)}
        counted = [h for h in said if h.counts]
        self._sentences = [_Sentence(h, s) for h in counted for s in _SENTENCE.split(h.text) if s and s.strip()]

    def of(self, line: str) -> Heard:
        """The turn that teaches a line.

        Raises:
            Ungrounded: None does, or the line is not for a model to learn.
        """
        if _NAME.match(line) or (subject_of(line) or "") == "name":
            raise Ungrounded("names are taken from the customer's words by a rule, not by a model")
        if gives_orders(line) or _RIGHTS.search(line):
            raise Ungrounded("it is about rights, secrets or rules, not about the customer")
        words = significant(line)
        if not words:
            raise Ungrounded("it says nothing of its own")
        missing = {w for w in words if not any(s.has(w) for s in self._sentences)}
        known = {w for w in missing if any(alike(w, k) for k in self._known)}
        if missing - known or words == known:
            raise Ungrounded(f"the customer did not say {len(missing)} of its {len(words)} words")
        words -= known
        # The latest of equals: who corrects themselves is right the second time.
        best = max(reversed(self._sentences), key=lambda s: sum(s.has(w) for w in words))
        if 2 * sum(best.has(w) for w in words) < len(words):
            raise Ungrounded("its words are from different sentences")
        self._check(line, best)
        return best.turn

    def _check(self, line: str, best: _Sentence) -> None:
        if _DOUBTS.search(best.text) and not _DOUBTS.search(line):
            raise Ungrounded("the customer said it as a thought, not as a fact")
        if (best.text.rstrip().endswith("?") or _ASKS.match(best.text)) and not _ASKS_FOR.search(best.text):
            raise Ungrounded("the customer asked it")
        if _DENIES.search(line) and not _NEGATED.search(best.text):
            raise Ungrounded("the line denies something, the customer did not")
        if _VERB_DENIED.search(best.text) and not (_NEGATED.search(line) or _KEEPS_OFF.search(line)):
            raise Ungrounded("the customer denied it")
        if _STOPS.search(best.text) and not _NEGATED.search(line):
            raise Ungrounded("the customer wants it to end")
        if _LIKES.search(line) and _HATES.search(best.text) and not _LIKES.search(best.text):
            raise Ungrounded("the customer said the opposite")
        other = _OTHERS.search(best.text)
        if other and not _OF_THEMSELVES.search(best.text):
            who = other["who"].casefold()
            if not any(alike(who, w) for w in (m.casefold() for m in _WORD.findall(line))):
                raise Ungrounded(f"it was said of a {who}, not of the customer")

    def against(self, line: str) -> bool:
        """Whether the customer's own words take a line back: one of its words, in a sentence that says it is over."""
        words = significant(line)
        return any(
            _GONE.search(s.text) and not _DOUBTS.search(s.text) and any(s.has(w) for w in words)
            for s in self._sentences
        )
