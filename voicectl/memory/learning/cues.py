"""Words that show what a sentence does not teach: it asks to forget, is hearsay, is of somebody else.

    of_a_relative("I heard my brother moved to Leeds", at=29)  ->  "brother"

English, and of Bengali what denies, doubts and names relatives. In other scripts denials cannot be told.
Not here: what is made of the cues (grounding.py), orders in what the customer says (quoted.py).
"""

from __future__ import annotations

import re
import unicodedata


def cue(words: str) -> re.Pattern[str]:
    """A pattern for which capitals make no difference."""
    return re.compile(words, re.IGNORECASE)


def _bengali(words: str, ending: str = "") -> str:
    """Whole words: to `re` the vowel signs are no part of a word, so that a word's edge would cut through one."""
    return unicodedata.normalize("NFKC", rf"(?<![\u0980-\u09ff])(?:{words}){ending}(?![\u0980-\u09ff])")


# "-নি" denies a past verb ("যাইনি"), and is the end of other words too ("জানি", "পানি").
DENIED_IN_BENGALI = cue(_bengali("না|নাই|নেই|নই|নয়|নি|কখনও|কখনো") + "|" + _bengali(r"[\u0980-\u09ff]{2,}(?:ি|ে|ই|য়|ন)নি"))
DOUBTED_IN_BENGALI = cue(_bengali("যদি|হয়তো|শুনেছি|ভাবছি|মনে হয়|আগে|ছিলাম") + r"|তাম(?![\u0980-\u09ff])")
RELATIVE_IN_BENGALI = cue(
    _bengali("(?P<who>ভাই|বোন|বাবা|আব্বা|মা|আম্মা|বন্ধু|স্বামী|স্ত্রী|বউ|ছেলে|মেয়ে|চাচা|মামা|খালা|দাদা|দাদি)", "[\u0980-\u09ff]{0,3}")
)
SELF_IN_BENGALI = cue(_bengali("আমি|আমরা"))

# "Don't forget that …" asks for the opposite, and denies nothing.
REMINDS = cue(r"\b(?:(?:please )?(?:don['’]?t|do not|never)|let['’]?s not) forget\b")
FORGET = cue(
    r"(?<!\bi )(?<!\balways )\b(?:forget|delete|erase|unlearn)\b(?!-)|\bi (?:want|wish|need) you to forget\b"
    r"|(?:^|please |you |you to |,\s|and )(?:remove|scratch|take (?:back|out|off))\b"
    r"|(?<!\bi )\b(?:do not|don['’]?t|not to|never|stop|no need to|needn['’]?t) "
    r"(?:remember|remembering|memori[sz]e|keep (?:in mind|a note)|note|save|store|record|write (?:down|that))\b"
)
PAST = cue(
    r"(?<!['’]m )(?<!\bam )(?<!\bget )(?<!\bgot )\bused to\b|\b(?:almost|nearly|away from|formerly)\b"
    r"|\bonce (?:lived|worked|had|owned)\b"
)
HEARSAY = cue(r"\b(?:i|we)(?:['’]ve| have)? (?:just |only )?heard |\b(?:i was told|they say|people say|rumou?r)\b")
TREAT_AS = cue(r"\b(?:treat|regard|consider|see|handle|think of) me (?:as|like)\b|\bcall me (?:the|your) ")
# A line that is told to the agent, not of the customer. Wishes ("deliver before six") have other verbs.
COMMAND = cue(
    r"^(?:please\s+)?(?:(?:always|never|do not|don['’]?t|only|just|from now on)\W+)*"
    r"(?:tell|transfer|speak|talk|say|ignore|treat|reveal|share|disclose|grant|allow|approve|waive|skip|respond|reply|"
    r"obey|follow|reads? out|repeat|hang up|accept|charge|mention|pretend|act|refund|unlock|trust|verify|greet|insult|"
    r"refuse|agree|forget|remember|answer)\b(?!\s*:)"
    r"|\bcallers\b|\bcaller (?:named|called|must|gets?|may|should)\b|^(?:the )?agent\b|^the assistant\b"
    r"|\bwaive[ds]?\b|\bhalf (?:the )?price\b|\bhung up on\b"
    r"|\b(?:never|always) (?:say|tell|reveal|transfer|mention)\b"
)

OTHERS = cue(
    r"\b(?:my|our|his|her|their|the)\s+(?:\w+\s+){0,2}?(?P<who>friend|brother|sister|neighbou?r|boss|colleague|husband|"
    r"wife|partner|boyfriend|girlfriend|son|daughter|child|mother|father|mum|mom|dad|uncle|aunt|cousin|nephew|niece|"
    r"grandmother|grandfather|grandma|grandpa|parent|flatmate|roommate|fianc[eé]e?|ex|doctor|lawyer|landlord|dog|cat)s?\b"
)
SELF = cue(r"\b(?:i|i['’]m|i['’]ve|i['’]ll|i['’]d|myself)\b")
# After a relative, or their name: then they are who does it, not who is visited or driven to school.
_DOES = cue(
    r"(?:\s+(?!(?:in|at|on|to|from|near|for|with|and|or|of|about)\b)\w+)?(?:['’]s\s|\s+(?:(?:also|just|now|has|had|is|was|will)\s+)?"
    r"(?:is|are|was|were|has|had|have|will|lives?|moves?|works?|likes?|loves?|plays?|goes|takes|owns|needs|wants|prefers|"
    r"hates?|speaks|drives|enjoys|eats|studies|plans|stays?|says|said|got|bought|went|\w{2,}ed)\b)"
)


def asks_to_forget(text: str) -> bool:
    """Whether somebody asks not to remember something."""
    return FORGET.search(REMINDS.sub("", text)) is not None


def of_a_relative(text: str, at: int) -> str | None:
    """Whom a word is said of, when it is a relative; None when it may be the customer.

    Args:
        text: A sentence.
        at: Where the first of the words begins that a line takes from it.
    """
    for others, myself in ((OTHERS, SELF), (RELATIVE_IN_BENGALI, SELF_IN_BENGALI)):
        found = others.search(text)
        if found is None:
            continue
        if not myself.search(text):
            return found["who"].casefold()
        doers = [m for m in others.finditer(text) if m.end() <= at and _does(m, text)]
        if doers and not any(doers[-1].end() <= m.start() < at for m in myself.finditer(text)):
            return doers[-1]["who"].casefold()
    return None


def _does(relative: re.Match[str], text: str) -> bool:
    """Whether a relative is who does what follows: in Bengali, named without an ending."""
    if relative.re is OTHERS:
        return _DOES.match(text, relative.end()) is not None
    return relative.end("who") == relative.end()
