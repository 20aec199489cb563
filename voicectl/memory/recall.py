"""What we know of a customer, read once when a call begins, and how it looks in a prompt.

One indexed read: the lines of the profile, and the turns that no memory step has covered yet, so that who calls back
after a second is known although nothing has been distilled. Rendered text is data, fenced, each block under its own
label, cut by a token budget; cuts are visible and counted. The same facts give the same bytes, in whatever order they
were learnt, so that a provider's cache of the prompt serves.
Not here: where in the prompt it goes (voice/call.py), looking for words in all earlier calls (search.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, func, or_, select

from voicectl.memory.learning.states import Learnt
from voicectl.memory.profile import Block, Line, name_of, read_lines
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import calls, profile_ops, turns

CHARS_PER_TOKEN = 4  # English prose; a rule of thumb that errs on the long side for short words
TAIL_CALLS = 3
TAIL_TURNS = 40
LONGEST = 400  # characters of a line; what is cut off shows as …
_FIRST = ("name:", "language:")  # kept before all else
_CUT = "({} more lines are in memory; use recall to search them.)"

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
    item_id: str = ""  # LiveKit's; where it is asked for


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
    .order_by(calls.c.started_ms.desc(), calls.c.id)
    .limit(TAIL_CALLS)
)
_TAIL = (
    select(turns.c.call_id, turns.c.role, turns.c.text, turns.c.at_ms)
    .join(calls, calls.c.id == turns.c.call_id)
    .where(
        turns.c.call_id.in_(bindparam("recent", expanding=True)),
        # The last call's words stay, learnt from or not: a memory step leaves out more than it takes.
        or_(calls.c.learnt != Learnt.YES, calls.c.id == bindparam("last")),
        turns.c.role.in_(["user", "assistant"]),
    )
    .order_by(calls.c.started_ms.desc(), calls.c.id, turns.c.seq.desc())
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
        rows = connection.execute(_TAIL, {"recent": recent, "last": recent[0] if recent else ""}).all()
    tail = [Said(r.call_id, r.role, r.text, int(r.at_ms)) for r in reversed(rows)]
    return Recalled(customer, lines, tail, len(recent))


_CHANGED = select(
    select(func.max(profile_ops.c.id)).where(profile_ops.c.customer == bindparam("whose")).scalar_subquery(),
    select(func.sum(calls.c.last_seq)).where(calls.c.id.in_(_RECENT.scalar_subquery())).scalar_subquery(),
    select(func.sum(calls.c.learnt)).where(calls.c.id.in_(_RECENT.scalar_subquery())).scalar_subquery(),
)


def version(store: Store, customer: str, *, but_call: str | None = None) -> tuple[int | None, ...]:
    """What differs when `read` would give something else: for asking often, it takes a third of the time.

    Raises:
        StoreUnavailable: The store did not answer.
    """
    with store.read() as connection:
        return tuple(connection.execute(_CHANGED, {"whose": customer, "but": but_call or ""}).one())


def said_in(store: Store, call_id: str, limit: int) -> list[Said]:
    """The last turns of one call, oldest first: what a successor of its agent must know.

    Raises:
        StoreUnavailable: The store did not answer.
    """
    statement = (
        select(turns.c.call_id, turns.c.role, turns.c.text, turns.c.at_ms, turns.c.item_id)
        .where(turns.c.call_id == call_id, turns.c.role.in_(["user", "assistant"]))
        .order_by(turns.c.seq.desc())
        .limit(limit)
    )
    with store.read() as connection:
        rows = connection.execute(statement).all()
    return [Said(r.call_id, r.role, r.text, int(r.at_ms), r.item_id) for r in reversed(rows)]


def render(recalled: Recalled, budget_tokens: int) -> Rendered:
    """What is known, as text for a prompt.

    Args:
        recalled: What was read.
        budget_tokens: How long the text may be, in tokens; what says that lines were left out may go beyond it.

    Returns:
        The text, empty when nothing is known or fits. Name and language come into it first, then the profile, notes,
        and earlier words, of each the newest first; what does not fit is left out, counted, and said to be.
    """
    whole = _rendered(recalled, budget_tokens * CHARS_PER_TOKEN)
    if not whole.cut:
        return whole
    note = _CUT.format(whole.cut)
    kept = _rendered(recalled, budget_tokens * CHARS_PER_TOKEN - _cost(note) - 1)
    return Rendered(f"{kept.text}\n{_CUT.format(kept.cut)}" if kept.text else "", kept.cut)


def _rendered(recalled: Recalled, room: int) -> Rendered:
    parts: list[str] = []
    cut = 0
    for block, label in _LABELS.items():
        present = [line for line in recalled.lines if line.block == block]
        by_worth = sorted(present, key=_worth)
        count, room = _fitting([f"- {_quoted(line.text)}" for line in by_worth], label, room)
        cut += len(present) - count
        if count:
            shown = sorted(by_worth[:count], key=_in_order)
            parts.append(f"{label}:\n" + "\n".join(f"- {_quoted(line.text)}" for line in shown))
    # Newest words first into the budget, then shown in the order they were said.
    wanted = [f"{'Caller' if s.role == 'user' else 'You'}: {_quoted(s.text)}" for s in reversed(recalled.tail)]
    count, room = _fitting(wanted, "From earlier calls", room)
    cut += len(wanted) - count
    if count:
        parts.append("From earlier calls:\n" + "\n".join(reversed(wanted[:count])))
    return Rendered("\n".join(parts), cut)


def _place(text: str) -> int:
    lowered = text.casefold()
    return next((n for n, key in enumerate(_FIRST) if lowered.startswith(key)), len(_FIRST))


def _worth(line: Line) -> tuple[int, int, int, str]:
    """What comes into the budget first. A fact's id says only when it was written here, so it decides nothing."""
    return _place(line.text), -line.at_ms, 0 if line.block == Block.PROFILE else -line.op_id, line.text


def _in_order(line: Line) -> tuple[int, int, int, str, str]:
    """Where a line stands. Facts have no order of their own, so they get one; what happened and notes keep theirs."""
    if line.block == Block.PROFILE:
        return _place(line.text), 0, 0, line.text.casefold(), line.text
    return 0, line.at_ms, line.op_id, "", line.text


def _fitting(wanted: Sequence[str], label: str, room: int) -> tuple[int, int]:
    """How many lines fit below a label, and the room that is left."""
    left = room - _cost(label) - 2
    count = 0
    for text in wanted:
        if _cost(text) + 1 > left:
            break
        left -= _cost(text) + 1
        count += 1
    return count, left if count else room


def _cost(text: str) -> int:
    """Characters as the budget counts them: one of another script is about a token's three quarters."""
    return len(text) if text.isascii() else len(text) + 2 * sum(1 for c in text if c > "\x7f")


def _quoted(text: str) -> str:
    """One line of data: no line breaks, so that it cannot open a block or speak for somebody else."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
