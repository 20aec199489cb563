"""What a caller's sentence shows, decided by code: the cues tools wait for, and what the caller told about themselves.

Pure functions of text. The rules are about kinds of sentences (a good-bye, a request to save, a question about
oneself), never about one sentence, and they are English: a caller in another language gets the model's own judgement.
Not here: which tools the cues open or close (tools.Hints), checks of what the model wrote (guard.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from voicectl.voice.engines.local_llm.text import content_words, stem, words


class Cue(StrEnum):
    """A kind of sentence. Tools name the cues they wait for."""

    CLOSING = "closing"  # the caller may be done: goodbye, that's all, no thanks
    ASKS_TO_SAVE = "asks_to_save"  # "remember that …", "can you save it", "don't forget …"
    ASKS_TO_FORGET = "asks_to_forget"  # "please forget that I …", "can you delete my address"
    TELLS = "tells"  # something lasting about the caller: "my favourite fruit is mango", "I live in Leeds"
    ASKS_EARLIER = "asks_earlier"  # about what was said before: "what did I tell you", "last time"
    ASKS_PERSONAL = "asks_personal"  # a question about the caller: "what is my …", "where do I …"
    ANSWER_KNOWN = "answer_known"  # … whose subject is named in the facts about the caller or in this call
    ANSWER_UNKNOWN = "answer_unknown"  # … no word of which is named there
    GIVES_NAME = "gives_name"  # nothing but the caller's own name
    LANGUAGE = "language"  # names a language, or speaks of speaking
    NEGATION = "negation"  # no, don't, stop, wait, cancel


@dataclass(frozen=True)
class Turn:
    """What one turn is decided on. All texts are normalised (text.norm)."""

    sentence: str = ""  # the caller's last sentence
    caller: str = ""  # everything the caller said in this call
    facts: str = ""  # what we knew about the caller when the call began, and what came since
    dialogue: str = ""  # both sides, results too
    last_said: str = ""  # the agent's last sentence
    result: str | None = None  # the tool result that is answered now; None: the caller is


_CLOSING = re.compile(
    r"\b(good ?bye|bye|hang up|that'?s (it|all|everything)|that is (it|all|everything)|all i needed|nothing else"
    r"|no thank(s| you)|have a (nice|good|great|lovely)|see you|call (you )?(later|back)|wrong number"
    r"|we'?re (good|done)|i'?m (good|done)|not interested)\b",
    re.IGNORECASE,
)
_BYE = re.compile(
    r"(\b(good ?bye|bye( bye)?|hang up( now)?|have a (nice|good|great|lovely) (day|evening|one|night))[\s.!,]*)$",
    re.IGNORECASE,
)
_NOT_BYE = re.compile(r"\b(said|say|saying|told|don'?t|didn'?t|not|before)\b", re.IGNORECASE)
_SAVE = re.compile(
    r"\b(remember(?! me\b)|memori[sz]e|note( down)?|write (that|this|it|down)|save|keep (it |that |this )?in mind"
    r"|don'?t forget|take (a )?note|store)\b",
    re.IGNORECASE,
)
_ASKS_WHETHER = re.compile(
    r"\b((do|did|can|will|would|could) you (still )?(remember|recall|know)|remind me)\b", re.IGNORECASE
)
_SAVE_THAT = re.compile(r"\bremember (that|this|it|my|i|to)\b", re.IGNORECASE)
_FORGET = re.compile(  # somebody is told to; not "don't forget", "I always forget", "forget it"
    r"(^\W*((so|and|but|okay|ok|actually|oh|no|well|now|hey|hi|hello|just|also|yes|yeah)\W+)*|\bplease (just )?"
    r"|\b((can|could|would|will) you|(want|like|need) you to|you (can|should|may)) (please |just )*)"
    r"(forget|delete|erase|stop remembering)\b(?! (about )?it\b)(?!( that| this)?\W*$)",
    re.IGNORECASE,
)
_EARLIER = re.compile(
    r"\b(did (i|we) (say|tell|mention|talk|discuss|ask)|i (said|told you|mentioned)|(we|i) (talked|spoke) about"
    r"|last (time|week|month|call)|earlier call|previous(ly)?|(do|can) you (still )?remember|remind me|yesterday"
    r"|you (said|told me))\b",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r"^\W*((so|and|but|okay|ok|hey|hi|hello|please|well|right|now)\W+)*"
    r"(what|where|when|who|which|whose|how|why|do|does|did|am|are|is|was|were|can|could|have|has|tell me|remind me)\b"
    r"|\?\s*$",
    re.IGNORECASE,
)
_OF_SELF = re.compile(r"\b(my|mine|am i|do i|did i|was i|have i|i|me|myself)\b", re.IGNORECASE)
_PERSONAL = re.compile(r"\b(my|mine|am i|do i|did i|was i|have i)\b", re.IGNORECASE)
_HOW_TO = re.compile(r"\b(how (do|can|should|could|would) i|(should|can|could|shall|may) i)\b", re.IGNORECASE)
_TELLS = re.compile(
    r"\b(my (?!name\b)(\w+(['’]s)? ){1,6}(is|are|was|were|will be|has|have|lives?|works?|comes?|likes?|loves?)\b"
    r"|my (\w+ ){0,3}\w+['’]s (?!\w+ (is|are|was)\b)\w+"
    r"|my (\w+ ){1,3}?\w+(s|ed) (on|in|at|to|from|with|a|an|the|\d)\b"
    r"|i('ve| have)? (just |also |really |always |usually |mostly |now |only |never )*"
    r"(live|work|moved|was born|grew up|drive|own|love|like|prefer|hate|dislike|study|play|speak|teach|take my|drink"
    r"|eat|collect|keep) (?!(it|that|this|you|here|there|to (know|ask))\b)\w+"
    r"|i have (a|an|two|three|four|five|no) (?!question|problem|minute|moment|second|idea|feeling|request|issue)\w+"
    r"|i(['’]m| am) (allergic|vegan|vegetarian|married|from|afraid of|a (?!bit|little|lot)\w+|an \w+"
    r"|learning|studying)\b"
    r"|call me (?!later|back|again)\w+)",
    re.IGNORECASE,
)
_DOUBT = re.compile(
    r"\b(maybe|perhaps|i think|i guess|what if|imagine|suppose|would like|i'd like|joking|kidding"
    r"|(what|how|where|when|why) (should|can|could|do|is|are))\b",
    re.IGNORECASE,
)
_LANGUAGE = re.compile(r"\b(english|bengali|bangla|language|speak)\b", re.IGNORECASE)
_NEGATION = re.compile(r"\b(no|not|don'?t|never|stop|wait|cancel|keep)\b", re.IGNORECASE)
_NOT_SAVE = re.compile(
    r"\b(do not|don'?t|never|no need to|stop|without) (\w+ )?(remember|sav|not(e|ing)|stor|keep|writ)", re.IGNORECASE
)


def _concept(word: str) -> str:
    """The root of a word, or the one root that stands for its kind ("city", "live" → "live")."""
    root = stem(word)
    return next((first for first, *others in _CONCEPTS if root in others), root)


_CONCEPTS = tuple(
    tuple(stem(w) for w in words(group))
    for group in (
        "live city town address home from born country",
        "work job occupation profession office",
        "eat diet food vegetarian vegan allergic allergy",
        "like love best prefer favourite enjoy",
        "name called call",
        "drive car van",
        "instrument play",
        "birthday born",
    )
)
_ASKING_WORDS = {
    _concept(w)
    for w in words(
        "tell told say said mention remember recall remind know last time week month call earlier previous "
        "kind much many long old"
    )
} - {_concept("name")}
_VAGUE = {_concept("favourite")}


def cues(turn: Turn) -> frozenset[Cue]:
    """The cues the caller's last sentence shows."""
    said = turn.sentence
    asks = bool(_ASKS.search(said)) and not (_SAVE.search(said) and not _ASKS_WHETHER.search(said))
    found: set[Cue] = set()
    if _CLOSING.search(said):
        found.add(Cue.CLOSING)
    if _LANGUAGE.search(said):
        found.add(Cue.LANGUAGE)
    if _NEGATION.search(said):
        found.add(Cue.NEGATION)
    saves = _SAVE.search(said) and (not _ASKS_WHETHER.search(said) or (_SAVE_THAT.search(said) and _TELLS.search(said)))
    if saves and not _NOT_SAVE.search(said):
        found.add(Cue.ASKS_TO_SAVE)
    if _TELLS.search(said) and not asks and not _DOUBT.search(said) and not _NOT_SAVE.search(said):
        found.add(Cue.TELLS)
    if _FORGET.search(said):
        found.add(Cue.ASKS_TO_FORGET)
    if _ONLY_NAME.fullmatch(said):
        found.add(Cue.GIVES_NAME)
    if asks and Cue.ASKS_TO_SAVE not in found:
        found |= _asked(said, turn.facts + "\n" + earlier(turn))
    return frozenset(found)


def _asked(question: str, known: str) -> set[Cue]:
    """The cues of a question, by what it is about and whether that is named in what we know."""
    found: set[Cue] = set()
    if _EARLIER.search(question) and _OF_SELF.search(question):
        found.add(Cue.ASKS_EARLIER)
    if _PERSONAL.search(question) and not _HOW_TO.search(question):
        found.add(Cue.ASKS_PERSONAL)
    if not found:
        return found
    subject = {root for w in content_words(question) if (root := _concept(w)) not in _ASKING_WORDS}
    lines = [{_concept(w) for w in re.findall(r"\w+", line)} for line in re.split(r"[\n.;]", known)]
    if subject and any(subject <= line for line in lines):
        found.add(Cue.ANSWER_KNOWN)
    elif subject and not any((subject - _VAGUE) & line for line in lines):
        found.add(Cue.ANSWER_UNKNOWN)
    return found


def earlier(turn: Turn) -> str:
    """What the caller said in this call before the last sentence."""
    return turn.caller.removesuffix(turn.sentence)


def says_goodbye(sentence: str) -> bool:
    """Whether the sentence ends the call beyond doubt, so that no model need be asked."""
    return (
        bool(_BYE.search(sentence))
        and not _NOT_BYE.search(sentence)
        and not _SAVE.search(sentence)
        and len(sentence.split()) <= 12
    )


_LEAD = r"^\W*((so|and|but|okay|ok|hey|hi|hello|well|right|now|wait|actually|oh|yes|yeah|also|before i go)\b\W*)*"
_ASKING_TO_SAVE = re.compile(
    _LEAD + r"((can|could|would|will) you\W+)?(please\W+)?((just )?(remember|note|save|memori[sz]e|keep in mind"
    r"|don'?t forget|forget|delete|erase|stop remembering|make a note|take a note|write)\b)?\W*(down\b\W*)?"
    r"(please\b\W*)?((that|of)\b\W*)?",
    re.IGNORECASE,
)
_TRAILING_REQUEST = re.compile(
    r"[\s,.;]*\b((so|and|can you|could you|please|would you)\W+)*(save|remember|note|keep|store|write|don'?t forget)"
    r"(\W+(it|that|this|down|in mind|for me|please))*\W*$",
    re.IGNORECASE,
)
_NAME_CLAUSE = r"(my name(['’]s| is)|this is|i am called|i['’]m called) \w+( [A-Z]\w+)?"
_ONLY_NAME = re.compile(_LEAD + _NAME_CLAUSE + r"\W*", re.IGNORECASE)
_NAME_FIRST = re.compile(_LEAD + _NAME_CLAUSE + r"\W*(and\b)?\W*", re.IGNORECASE)


def as_told(sentence: str) -> str:
    """The caller's own words about themselves, without greeting, name and the request round them.

    "Hi, my name is Ola, please remember that I ski. Bye." → "I ski". Of several sentences those that tell something.
    """
    parts = [p for p in re.split(r"(?<=[.!?])\s+", sentence) if p.strip()]
    telling = [p for p in parts if _TELLS.search(p)] or [p for p in parts if _SAVE.search(p)] or parts
    cores = []
    for part in telling:
        core = _ASKING_TO_SAVE.sub("", _NAME_FIRST.sub("", part, count=1), count=1)
        cores.append(_TRAILING_REQUEST.sub("", core).strip(" .,;!?"))
    return ". ".join(core for core in cores if core)


_PRESENT = r"live|work|drive|own|love|like|prefer|hate|dislike|play|speak|take|drink|eat|collect|keep|have"


def as_fact(told: str) -> str:
    """The caller's words as a line about them: "my dog is Rex" → "dog is Rex", "I live in Bonn" → "lives in Bonn"."""
    fact = re.sub(r"^my ", "", told, flags=re.IGNORECASE)
    fact = re.sub(r"\bI(['’]m| am)\b", "is", fact, flags=re.IGNORECASE)
    fact = re.sub(r"\bI(['’]ve| have)\b", "has", fact, flags=re.IGNORECASE)
    fact = re.sub(rf"\bI ((?:\w+ly |also |always |never )?)({_PRESENT})\b", r"\1\2s", fact, flags=re.IGNORECASE)
    fact = re.sub(r"\bI (was|\w+ed|grew|study|teach)\b", r"\1", fact, flags=re.IGNORECASE)
    fact = re.sub(r"\bmy\b", "their", fact, flags=re.IGNORECASE)
    return re.sub(r"\bhaves\b", "has", fact)


_TO_YOU = {
    "i'm": "you're", "i’m": "you're", "i've": "you've", "i’ve": "you've", "i'll": "you'll", "i": "you", "my": "your",
    "mine": "yours", "me": "you", "myself": "yourself",
}  # fmt: skip


def said_back(told: str) -> str:
    """The caller's words turned to them: "my dog is Rex and I ski" → "your dog is Rex and you ski"."""
    back = re.sub(r"[\w'’]+", lambda m: _TO_YOU.get(m[0].lower(), m[0]), told)
    return re.sub(r"\b(you) (am|was)\b", lambda m: "you are" if m[2] == "am" else "you were", back)
