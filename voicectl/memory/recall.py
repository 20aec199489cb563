"""What we know of a customer, read once when a call begins, and how it looks in a prompt.

One indexed read: the lines of the profile, and the turns that no memory step has covered yet, so that who calls back
after a second is known although nothing has been distilled. Rendered text is data, fenced, each block under its own
label, cut by a token budget; cuts are visible and counted, and the same rows give the same bytes.
Not here: where in the prompt it goes (voice/call.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import bindparam, or_, select

from voicectl.memory.profile import Block, Line, name_of, read_lines
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import calls, turns

CHARS_PER_TOKEN = 4  # English prose; a rule of thumb that errs on the long side for short words
TAIL_CALLS = 3
TAIL_TURNS = 40
SEARCHED_TURNS = 2000

_LABELS = {
    Block.PROFILE: "About the caller",
    Block.LAST_CALL: "Last call",
    Block.OPERATOR_NOTES: "Notes from the team",
}


@dataclass(frozen=True)
class Said:
    """A turn of an earlier call."""

    call_id: str
    role: str
    text: str
    at_ms: int


@dataclass(frozen=True)
class Recalled:
    """What is known of a customer at one moment."""

    customer: str
    lines: list[Line]
    tail: list[Said]  # oldest first
    calls_before: int

    @property
    def name(self) -> str | None:
        """The customer's name, when it is known."""
        return name_of(self.lines)

    @property
    def known(self) -> bool:
        """Whether anything at all is known."""
        return bool(self.lines or self.tail)


@dataclass(frozen=True)
class Rendered:
    """Text for a prompt and how many lines did not fit."""

    text: str
    cut: int


# Built once: `read` runs in each turn of a call beside the reply, and building its statements was 0.6 of its 1 ms.
_RECENT = (
    select(calls.c.id)
    .where(calls.c.customer == bindparam("whose"), calls.c.id != bindparam("but"))
    .order_by(calls.c.started_ms.desc())
    .limit(TAIL_CALLS)
)
_TAIL = (
    select(turns.c.call_id, turns.c.role, turns.c.text, turns.c.at_ms)
    .join(calls, calls.c.id == turns.c.call_id)
    .where(
        turns.c.call_id.in_(bindparam("recent", expanding=True)),
        calls.c.learnt == 0,
        turns.c.role.in_(["user", "assistant"]),
    )
    .order_by(calls.c.started_ms.desc(), turns.c.seq.desc())
    .limit(TAIL_TURNS)
)


def read(store: Store, customer: str, *, but_call: str | None = None) -> Recalled:
    """All that a call needs to know, in one read.

    Args:
        store: Where it is kept.
        customer: Customer key; an unknown one is simply not known.
        but_call: The present call, whose turns are in the conversation already.

    Raises:
        StoreUnavailable: The store did not answer.
    """
    with store.read() as connection:
        lines = read_lines(connection, customer)
        recent = connection.execute(_RECENT, {"whose": customer, "but": but_call or ""}).scalars().all()
        rows = connection.execute(_TAIL, {"recent": recent}).all()
    tail = [Said(r.call_id, r.role, r.text, int(r.at_ms)) for r in reversed(rows)]
    return Recalled(customer, lines, tail, len(recent))


def said_in(store: Store, call_id: str, limit: int) -> list[Said]:
    """The last turns of one call, oldest first: what a successor of its agent must know.

    Raises:
        StoreUnavailable: The store did not answer.
    """
    statement = (
        select(turns.c.call_id, turns.c.role, turns.c.text, turns.c.at_ms)
        .where(turns.c.call_id == call_id, turns.c.role.in_(["user", "assistant"]))
        .order_by(turns.c.seq.desc())
        .limit(limit)
    )
    with store.read() as connection:
        rows = connection.execute(statement).all()
    return [Said(r.call_id, r.role, r.text, int(r.at_ms)) for r in reversed(rows)]


def render(recalled: Recalled, budget_tokens: int) -> Rendered:
    """What is known, as text for a prompt.

    Args:
        recalled: What was read.
        budget_tokens: How long the text may be, in tokens.

    Returns:
        The text, empty when nothing is known. Lines of the profile come first, then notes, then earlier words;
        what does not fit is left out from the end, and said to be.
    """
    room = budget_tokens * CHARS_PER_TOKEN
    parts: list[str] = []
    cut = 0
    for block, label in _LABELS.items():
        wanted = [_quoted(line.text) for line in recalled.lines if line.block == block]
        kept, room = _fitting(wanted, room)
        cut += len(wanted) - len(kept)
        if kept:
            parts.append(f"{label}:\n" + "\n".join(f"- {text}" for text in kept))
    # Newest words first into the budget, then shown in the order they were said.
    wanted = [f"{'Caller' if s.role == 'user' else 'You'}: {_quoted(s.text)}" for s in reversed(recalled.tail)]
    kept, room = _fitting(wanted, room)
    cut += len(wanted) - len(kept)
    if kept:
        parts.append("From earlier calls:\n" + "\n".join(reversed(kept)))
    if not parts:
        return Rendered("", cut)
    if cut:
        parts.append(f"({cut} more lines are in memory; use recall to search them.)")
    return Rendered("\n".join(parts), cut)


def _fitting(wanted: list[str], room: int) -> tuple[list[str], int]:
    kept: list[str] = []
    for text in wanted:
        if len(text) + 3 > room:
            break
        kept.append(text)
        room -= len(text) + 3
    return kept, room


def _quoted(text: str) -> str:
    """One line of data: no line breaks, so that it cannot open a block or speak for somebody else."""
    return " ".join(text.split())[:400]


_WORDS = re.compile(r"[^\W_]{2,}")
_COMMON = frozenset(
    [
        *(
            "a",
            "about",
            "an",
            "and",
            "are",
            "at",
            "be",
            "been",
            "call",
            "did",
            "do",
            "does",
            "for",
            "had",
            "has",
            "have",
        ),
        *("how", "i", "in", "is", "it", "last", "me", "my", "of", "on", "or", "said", "say", "tell", "that", "the"),
        *("this", "time", "to", "told", "was", "we", "were", "what", "when", "where", "which", "who", "with", "you"),
        *("your",),
    ]
)


def search(store: Store, customer: str, query: str, *, limit: int = 3) -> list[Said]:
    """Turns of earlier calls that share words with a question, best first.

    Args:
        store: Where they are kept.
        customer: Customer key.
        query: Words to look for.
        limit: How many turns.

    Raises:
        StoreUnavailable: The store did not answer.
    """
    words = {w for w in (m.casefold() for m in _WORDS.findall(query)) if w not in _COMMON}
    if not words:
        return []
    statement = (
        select(turns.c.call_id, turns.c.role, turns.c.text, turns.c.at_ms)
        .join(calls, calls.c.id == turns.c.call_id)
        .where(
            calls.c.customer == customer,
            turns.c.role == "user",
            or_(*(turns.c.text.icontains(w, autoescape=True) for w in sorted(words))),
        )
        .order_by(turns.c.at_ms.desc())
        .limit(SEARCHED_TURNS)
    )
    with store.read() as connection:
        found = [Said(r.call_id, r.role, r.text, int(r.at_ms)) for r in connection.execute(statement)]
    scored = [(len(words & {m.casefold() for m in _WORDS.findall(s.text)}), s) for s in found]
    return [s for score, s in sorted(scored, key=lambda p: (-p[0], -p[1].at_ms)) if score][:limit]


def day(at_ms: int) -> str:
    """The day of a moment, as it is said: `3 May`."""
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    return f"{moment.day} {moment:%B}"
