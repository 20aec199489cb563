"""Whether the customer said it: checked here, by words, never by the model that proposes it.

    Evidence(said).of("city: Leeds")  ->  the turn that teaches it, or Ungrounded with a reason

Significant words of a line must occur in the customer's turns, most of them in one sentence; that sentence must not
doubt ("if", "maybe"), must not deny what the line affirms, and what it says of a relative is not learnt of the
customer. The price is omissions: what cannot be shown in the customer's words is not learnt. What this cannot see: a
false statement made of the customer's own words. Not here: which turns count at all (quoted.py), the cues (cues.py).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from voicectl.memory.learning.cues import (
    COMMAND,
    DENIED_IN_BENGALI,
    DOUBTED_IN_BENGALI,
    HEARSAY,
    PAST,
    REMINDS,
    TREAT_AS,
    asks_to_forget,
    cue,
    of_a_relative,
)
from voicectl.memory.learning.quoted import Heard, gives_orders, plain
from voicectl.memory.lines import subject_of

# In Indic scripts the vowel signs are marks, which belong to the word.
_WORD = re.compile(r"(?:[^\W_]|[\u0300-\u036f\u0900-\u0963\u0966-\u0dff])+")
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


_NOT = r"n['’]t\b|\b(?:not|never|no longer|cannot|cant|dont|without)\b"
_DENIES = cue(_NOT)
_NEGATED = cue(_NOT + r"|\b(?:no|any ?more|quit|stop|stopped|gave up|died|sold|lost)\b")
_STOPS = cue(r"\b(?:please stop|stop (?:\w+ing)|no more|cancel)\b")
_VERB_DENIED = cue(r"n['’]t\b|\b(?:do|does|am|is|are|was|have|can|will) not\b|\b(?:never|no longer|cannot)\b")
_KEEPS_OFF = cue(r"\b(?:allerg|avoid|hate|dislike|former|stop|quit|afraid)")
_GONE = cue(
    _NOT + r"|\b(?:no|any ?more|forget|delete|remove|sold|lost|gone|died|quit|stopped|left|finished|moved|changed|"
    r"instead|used to|now|actually|wrong)\b"
)
_LIKES = cue(r"\b(?:likes?|loves?|enjoys?|prefers?|wants?|fan|favou?rite)\b")
_HATES = cue(r"\b(?:hates?|dislikes?|allergic|avoid|awful|terrible|(?:can['’]?t|cannot) (?:stand|eat|have))\b")
_DOUBTS = cue(
    r"\b(?:if (?:i|we)|maybe|perhaps|might|(?:i|we) should|one day|"
    r"some ?day|thinking (?:about|of)|dreaming|joking|kidding|imagine|"
    r"wish (?:i|we)|suppose|what if|who knows)\b"
)
_ASKS = cue(
    r"^(?:(?:so|and|um|uh|well|okay|hi|hello|hey)\W+)*(?:can|could|would|will|do|does|did|is|are|what|when|where|who|which|"
    r"how|may|shall|should)\s"
)
_WISH = r"(?:call|ring|send|write|email|mail|text|deliver|remind|bring)\s+(?:\w+\s+)?me"
_ASKS_FOR = cue(rf"\b(?:my|i['’]m|i am|i have|{_WISH})\b")  # "Can you call me in the evening?" says what they want
_RIGHTS = cue(
    r"\b(?:admin\w*|superuser|root access|vip|verified|authori[sz]ed|clearance|unlimited|discount\w*|refunds?|"
    r"free of charge|(?:everything|all|is|are) free|password|passcode|pin code|credit card|"
    r"(?:agent|assistant|system|you)\s+(?:must|should|shall|will|may|has to|have to))\b"
)
_NAME = cue(r"^(?:the\s+|(?:caller|customer)['’]s\s+|his\s+|her\s+|my\s+)?(?:full\s+|first\s+|last\s+)?name\b")
_SENTENCE = cue(
    r"(?<=[.?!;।])\s+|\s+(?:but|and (?=(?:(?:now )?(?:i|we)|my|our)\b))|,\s+(?=(?:and|but|(?:now )?i|my|it['’]s|is|are|"
    r"do|does|can|could|what|when|where|who|how|will|would|may)\b)"
)
_BENGALI_ENDINGS = ("য়", "য়", "তে", "ে", "র", "ের", "কে")  # in Dhaka, of Dhaka, to Dhaka
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
    return {w for w in (m.casefold() for m in _WORD.findall(plain(text))) if w not in _FREE}


def alike(a: str, b: str) -> bool:
    """Whether two words are forms of one: `allergic` and `allergy`, `cats` and `cat`, not `Leeds` and `leader`."""
    if a == b:
        return True
    short, long = sorted((a, b), key=len)
    if any(c.isdigit() for c in a + b) or len(short) < 3:
        return False
    if long.startswith(short) and long[len(short) :] in (
        "s",
        "es",
        "ed",
        "d",
        "ing",
        "er",
        "ly",
        "n",
        "ian",
        *_BENGALI_ENDINGS,
    ):
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

    @cached_property
    def forgets(self) -> bool:
        return asks_to_forget(self.text)

    @cached_property
    def can_be_read(self) -> bool:
        letters = [c for c in self.text if c.isalpha()]
        return 2 * sum(c < "\u0250" or "\u0980" <= c <= "\u09ff" or "\u1e00" <= c <= "\u1eff" for c in letters) >= len(
            letters
        )


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
        # One space at most: in a run of them the splitter would begin anew at each.
        texts = [(h, plain(" ".join(h.text.split()))) for h in said if h.counts]
        self._sentences = [_Sentence(h, s) for h, text in texts for s in _SENTENCE.split(text) if s and s.strip()]
        # By the first three letters, which forms of one word share: a long call has thousands of words.
        self._said: dict[str, dict[str, set[int]]] = {}
        for number, sentence in enumerate(self._sentences):
            for word in sentence.words:
                self._said.setdefault(word[:3], {}).setdefault(word, set()).add(number)
        self._found: dict[str, set[int]] = {}

    def _where(self, word: str) -> set[int]:
        """Numbers of the sentences that have a word, in whatever form."""
        if word not in self._found:
            begin_so = self._said.get(word[:3], {})
            found = {n for said, numbers in begin_so.items() if alike(word, said) for n in numbers}
            if word.isdigit() and len(word) > 1:
                found |= {n for n, s in enumerate(self._sentences) if word in s.digits}
            self._found[word] = found
        return self._found[word]

    def of(self, line: str) -> Heard:
        """The turn that teaches a line.

        Raises:
            Ungrounded: None does, or the line is not for a model to learn.
        """
        line = plain(line)
        if _NAME.match(line) or (subject_of(line) or "") == "name":
            raise Ungrounded("names are taken from the customer's words by a rule, not by a model")
        if gives_orders(line) or _RIGHTS.search(line) or COMMAND.search(line):
            raise Ungrounded("it is about rights, secrets or rules, not about the customer")
        words = significant(line)
        if not words:
            raise Ungrounded("it says nothing of its own")
        missing = {w for w in words if not self._where(w)}
        known = {w for w in missing if any(alike(w, k) for k in self._known)}
        if missing - known or words == known:
            raise Ungrounded(f"the customer did not say {len(missing)} of its {len(words)} words")
        words -= known
        counts = Counter(n for w in words for n in self._where(w))
        # The latest of equals: who corrects themselves is right the second time.
        place = max(counts, key=lambda n: (counts[n], n))
        best = self._sentences[place]
        if 2 * counts[place] < len(words):
            raise Ungrounded("its words are from different sentences")
        if any(2 * counts[n] >= len(words) and self._sentences[n].forgets for n in counts if n >= place):
            raise Ungrounded("the customer asks to forget it")
        if not best.can_be_read:
            raise Ungrounded("it was said in a language whose denials cannot be told")
        self._check(line, words, best)
        return best.turn

    def _check(self, line: str, words: set[str], best: _Sentence) -> None:
        text = REMINDS.sub("", best.text)
        if any(c.search(text) and not c.search(line) for c in (_DOUBTS, HEARSAY, DOUBTED_IN_BENGALI)):
            raise Ungrounded("the customer said it as a thought, not as a fact")
        if PAST.search(text) and not (PAST.search(line) or _NEGATED.search(line)):
            raise Ungrounded("the customer said that it is over, or was not to be")
        if TREAT_AS.search(text):
            raise Ungrounded("the customer says whom to take them for")
        if (text.rstrip().endswith("?") or _ASKS.match(text)) and not _ASKS_FOR.search(text):
            raise Ungrounded("the customer asked it")
        if _DENIES.search(line) and not _NEGATED.search(text):
            raise Ungrounded("the line denies something, the customer did not")
        if _VERB_DENIED.search(text) and not (_NEGATED.search(line) or _KEEPS_OFF.search(line)):
            raise Ungrounded("the customer denied it")
        if bool(DENIED_IN_BENGALI.search(text)) != bool(DENIED_IN_BENGALI.search(line)):
            raise Ungrounded("the customer denied it, or the line does")
        if _STOPS.search(text) and not _NEGATED.search(line):
            raise Ungrounded("the customer wants it to end")
        if _LIKES.search(line) and _HATES.search(text) and not _LIKES.search(text):
            raise Ungrounded("the customer said the opposite")
        at = next((m.start() for m in _WORD.finditer(text) if any(alike(m[0].casefold(), w) for w in words)), len(text))
        who = of_a_relative(text, at)
        if who is not None and not any(alike(who, w) for w in (m.casefold() for m in _WORD.findall(line))):
            raise Ungrounded(f"it was said of somebody else ({who}), not of the customer")

    def against(self, line: str) -> bool:
        """Whether the customer's own words take a line back: one of its words, in a sentence that says it is over."""
        places = {n for w in significant(line) for n in self._where(w)}
        return any(
            s.forgets or (_GONE.search(REMINDS.sub("", s.text)) and not _DOUBTS.search(s.text))
            for s in (self._sentences[n] for n in places)
        )
