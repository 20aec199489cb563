"""What the customer's words say of each change of a proposal, found out before the store is locked.

    judge(intent, wishes)  ->  a Verdict for each: the turn that teaches it, or why none does

A long call takes seconds to search, and while one process writes no other does: so nothing here touches the store.
Not here: the rules (grounding.py), what becomes of the lines (applying.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from voicectl.memory.errors import Refused
from voicectl.memory.learning.cues import asks_to_forget
from voicectl.memory.learning.due import Intent
from voicectl.memory.learning.grounding import Evidence, Ungrounded, significant
from voicectl.memory.learning.proposal import Wish
from voicectl.memory.learning.quoted import CUSTOMER, Heard, gives_orders
from voicectl.memory.lines import Block, tidy

MAX_LAST_CALL = 200  # characters: it is in the prompt of every call
_QUOTED_WORDS = 90  # characters of the customer's own words, where no model says what the call was about


@dataclass(frozen=True)
class Verdict:
    """What the call says of one change.

    Args:
        wish: The change.
        turn: The turn that teaches its new line; None when none does.
        why: Why none does.
        over: Whether the customer's words take its old line back.
    """

    wish: Wish
    turn: Heard | None = None
    why: str = ""
    over: bool = False


@dataclass(frozen=True)
class About:
    """What the call was about.

    Args:
        line: The line to show in the next call, if there is any.
        words: A model's words.
        why: Why they are not taken; "" when they are, or there are none.
    """

    line: str | None
    words: str = ""
    why: str = ""


def judge(intent: Intent, wishes: Sequence[Wish]) -> list[Verdict]:
    """The verdict on each change, in order."""
    evidence = Evidence(intent.said, [line.text for line in intent.base if line.block == Block.PROFILE])
    taken_back = Evidence([turn for turn in intent.since if asks_to_forget(turn.text)])
    return [_verdict(evidence, taken_back, wish) for wish in wishes]


def _verdict(evidence: Evidence, taken_back: Evidence, wish: Wish) -> Verdict:
    over = wish.old is not None and evidence.against(wish.old)
    if wish.new is None:
        return Verdict(wish, over=over)
    if taken_back.against(wish.new):
        return Verdict(wish, why="the customer asked to forget it in a later call", over=over)
    try:
        return Verdict(wish, evidence.of(tidy(wish.new)), over=over)
    except (Ungrounded, Refused) as e:
        return Verdict(wish, why=e.why, over=over)


def about_call(intent: Intent, words: str) -> About:
    """The line of `last_call`: the model's words if they are of this call, else the customer's own first ones."""
    words = " ".join(words.split())
    when = datetime.fromtimestamp(intent.started_ms / 1000, UTC)
    day = f"{when.day} {when:%B %Y}"
    why = _unfit(intent.said, words) if words else ""
    if words and not why:
        return About(f"{words} ({day})", words)
    return About(_first_words(intent.said, day), words, why)


def _unfit(said: Sequence[Heard], words: str) -> str:
    """Why a sentence about the call is not taken; "" when it is."""
    if len(words) > MAX_LAST_CALL:
        return f"last_call would have {len(words)} characters, {MAX_LAST_CALL} fit"
    if gives_orders(words):
        return "it gives orders about the agent"
    starts = {w[:5] for h in said if h.counts or h.who != CUSTOMER for w in significant(h.text)}
    own = significant(words)
    if own and sum(w[:5] in starts for w in own) * 2 < len(own):
        return "less than half of its words were said in the call"
    return ""


def _first_words(said: Sequence[Heard], day: str) -> str | None:
    """What the call was about in the customer's own words: the first that are more than a greeting."""
    own = [" ".join(h.text.split()) for h in said if h.counts and not asks_to_forget(h.text)]
    chosen = next((t for t in own if len(significant(t)) >= 2), own[0] if own else "")
    if not chosen:
        return None
    shown = chosen if len(chosen) <= _QUOTED_WORDS else chosen[:_QUOTED_WORDS].rsplit(" ", 1)[0] + " …"
    return f'the caller said "{shown}" ({day})'
