"""What of a proposal is taken: each change checked against the customer's words, all of it in one transaction.

The lines go into the one log (memory/profile.py), in the same transaction as the step's and the call's done-marks, and
only if the step is still this attempt's: so the effect is there once or not at all. What is not taken is kept with its
reason. Nothing vanishes without the customer's words, and what people or the call itself wrote stands above a step.
Not here: whether the words carry it, which is decided before the store is locked (verdicts.py, grounding.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, select, update

from voicectl.memory import profile
from voicectl.memory.calls import now_ms
from voicectl.memory.errors import Refused
from voicectl.memory.learning.due import Intent, of_attempt
from voicectl.memory.learning.grounding import Ungrounded, corrects, significant
from voicectl.memory.learning.proposal import Proposal, Refusal
from voicectl.memory.learning.quoted import Heard
from voicectl.memory.learning.states import Learnt, Point, Signal, StepState
from voicectl.memory.learning.verdicts import About, Verdict, about_call, judge
from voicectl.memory.lines import Block, Entry, Op, Origin, Source, subject_of, tidy, weight
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import calls, customers, memory_steps, profile_ops

MAX_LINES = 20  # that one call may teach
# Of these there is one at a time, so a new one takes the old one's place; of others there may be several.
SINGLE = frozenset(
    {"city", "address", "home", "phone", "email", "job", "employer", "birthday", "age", "language", "delivery address"}
)
_KEYED = re.compile(r"^(?P<key>[a-z][a-z ]{1,30}):\s+(?P<value>\S.*)$", re.IGNORECASE)


@dataclass
class Taken:
    """What became of a proposal.

    Args:
        operations: Ids of the operations that took effect.
        refused: What was not taken.
    """

    operations: list[int] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)


def apply(store: Store, intent: Intent, proposal: Proposal, signal: Signal) -> Taken | None:
    """Take what the customer's words carry; durable on return.

    Args:
        store: The store.
        intent: The attempt.
        proposal: What a model made of the call.
        signal: Called at each crash point.

    Returns:
        What became of it; None when the step is not this attempt's any more, or the customer was forgotten.

    Raises:
        StoreUnavailable: Nothing was taken.
    """
    verdicts, about = judge(intent, proposal.wishes), about_call(intent, proposal.last_call)
    with store.write() as connection:
        store.lock(connection, "profile", intent.customer)
        if not _is_ours(connection, intent):
            return None
        taken = Taken()
        writer = _Writer(connection, intent, taken)
        for verdict in verdicts:
            writer.take(verdict)
        writer.last_call(about)
        values = {"state": StepState.DONE, "why": "", "learnt": len(taken.operations), "at_ms": now_ms()}
        kept = json.dumps([{"line": r.line[:300], "why": r.why} for r in taken.refused], ensure_ascii=False)
        values |= {"refused": len(taken.refused), "refusals": kept}
        connection.execute(update(memory_steps).where(of_attempt(intent)).values(values))
        connection.execute(update(calls).where(calls.c.id == intent.call_id).values(learnt=Learnt.YES))
        signal(Point.APPLYING)
    return taken


def _is_ours(connection: Connection, intent: Intent) -> bool:
    """Whether the step is still this attempt's, its call not learnt and its customer not forgotten."""
    found = connection.execute(
        select(calls.c.learnt)
        .join(customers, (customers.c.key == calls.c.customer) & (customers.c.generation == calls.c.generation))
        .join(memory_steps, memory_steps.c.call_id == calls.c.id)
        .where(of_attempt(intent))
        .with_for_update()
    ).first()
    return found is not None and found.learnt == Learnt.NO


class _Writer:
    """Takes changes into the log, inside the transaction."""

    def __init__(self, connection: Connection, intent: Intent, taken: Taken) -> None:
        self._connection, self._intent, self._taken = connection, intent, taken
        self._removed = self._removed_since_the_call_began()

    def take(self, verdict: Verdict) -> None:
        """Take one change, or note why not."""
        wish = verdict.wish
        try:
            if wish.new is None:
                self._remove(wish.old or "", verdict)
            else:
                self._put(tidy(wish.new), verdict)
        except (Ungrounded, Refused) as e:
            self._refuse(wish.new or f"- {wish.old}", e.why)

    def _refuse(self, line: str, why: str) -> None:
        self._taken.refused.append(Refusal(line, why))

    def _origin(self, turn: Heard | None = None) -> Origin:
        item = turn.item_id if turn is not None else None
        return Origin(Source.MEMORY_STEP, self._intent.call_id, item, model=self._intent.model)

    def _put(self, line: str, verdict: Verdict) -> None:
        if len(self._taken.operations) >= MAX_LINES:
            raise Refused("remember", f"one call teaches {MAX_LINES} lines at most")
        if verdict.turn is None:
            raise Ungrounded(verdict.why)
        if any(_same(line, gone) for gone in self._removed):
            raise Refused("remember", "it was taken away during or after the call")
        line = self._of_several(line)
        present = profile.present_rows(self._connection, self._intent.customer, Block.PROFILE)
        before = self._place_of(line, verdict, present)
        if before is not None and self._is_newer(before):
            raise Refused("remember", "a later call says otherwise")
        if before is not None and not _about_the_same(before.line, line):
            self._replace(before, line, verdict.turn, present)
        else:
            made = profile.put_in(
                self._connection, self._intent.customer, line, self._origin(verdict.turn), Block.PROFILE
            )
            if not self._is_mine(made):
                raise Refused("remember", "it is known, or somebody whose word stands above made that line")
            self._note(made)

    def _note(self, op_id: int) -> None:
        if op_id not in self._taken.operations:
            self._taken.operations.append(op_id)

    def _is_mine(self, op_id: int) -> bool:
        row = self._connection.execute(
            select(profile_ops.c.source, profile_ops.c.call_id).where(profile_ops.c.id == op_id)
        ).one()
        return bool(row.source == Source.MEMORY_STEP and row.call_id == self._intent.call_id)

    def _place_of(self, line: str, verdict: Verdict, present: Sequence[Row[Any]]) -> Row[Any] | None:
        """The line whose place a new one takes: of the same subject, or the one it corrects in shared words."""
        subject = subject_of(line)
        if subject is not None and (same := next((r for r in present if subject_of(r.line) == subject), None)):
            return same
        old = verdict.wish.old
        if old is None:
            return None
        found = next((r for r in present if r.line.casefold() == old.casefold()), None)
        if found is None and any(old.casefold() == b.text.casefold() for b in self._intent.base):
            raise Refused("remember", "somebody changed the line that it corrects meanwhile")
        if found is None or (subject_of(found.line) or "") == "name":
            return None
        # Unsupported: the new line is added, and the old one stays.
        return found if corrects(line, found.line) or verdict.over else None

    def _replace(self, before: Row[Any], line: str, turn: Heard, present: Sequence[Row[Any]]) -> None:
        entry = self._entry(self._origin(turn), Block.PROFILE)
        position = int(before.position)
        if weight(Source.MEMORY_STEP) < weight(before.source):
            profile.log_op(
                self._connection,
                entry,
                Op.REPLACE,
                line,
                before.line,
                position=position,
                overruled_by=int(before.op_id),
            )
            raise Refused("remember", f"{before.source} made the line that it would replace")
        if any(r.line.casefold() == line.casefold() for r in present):
            raise Refused("remember", "it is known")
        profile.refuse_undone(self._connection, entry.customer, Block.PROFILE, line, self._intent.call_id)
        profile.check_room(present, Block.PROFILE, line, before.line)
        self._note(profile.replace_in(self._connection, entry, position, before.line, line))

    def _remove(self, line: str, verdict: Verdict) -> None:
        present = profile.present_rows(self._connection, self._intent.customer, Block.PROFILE)
        row = next((r for r in present if r.line.casefold() == line.casefold()), None)
        if row is None:
            return
        if (subject_of(line) or "") == "name" or not verdict.over:
            raise Refused("forget a fact", "the customer did not say that it is over")
        entry = self._entry(self._origin(), Block.PROFILE)
        if weight(Source.MEMORY_STEP, Op.REMOVE) < weight(row.source) or self._is_newer(row):
            profile.log_op(
                self._connection, entry, Op.REMOVE, row.line, position=int(row.position), overruled_by=int(row.op_id)
            )
            raise Refused("forget a fact", f"{row.source} made that line, which stands above the memory step")
        self._note(profile.remove_in(self._connection, entry, int(row.position), row.line))

    def _entry(self, origin: Origin, block: Block) -> Entry:
        found = self._connection.execute(
            select(customers.c.generation).where(customers.c.key == self._intent.customer)
        ).scalar_one()
        return Entry(self._intent.customer, int(found), block, origin)

    def _of_several(self, line: str) -> str:
        """A keyed line of which there may be several loses its key's place, so that it takes nobody else's."""
        keyed = _KEYED.match(line)
        if keyed is None or keyed["key"].casefold() in SINGLE:
            return line
        return f"{keyed['value'].rstrip('.')} ({keyed['key']})"

    def _is_newer(self, row: Row[Any]) -> bool:
        """Whether a later call made the line: steps that failed for a while come out of order."""
        began = self._connection.execute(
            select(calls.c.started_ms)
            .join(profile_ops, profile_ops.c.call_id == calls.c.id)
            .where(profile_ops.c.id == row.op_id)
        ).scalar()
        return began is not None and int(began) > self._intent.started_ms

    def _removed_since_the_call_began(self) -> list[str]:
        statement = select(profile_ops.c.line).where(
            profile_ops.c.customer == self._intent.customer,
            profile_ops.c.block == Block.PROFILE,
            profile_ops.c.op == Op.REMOVE,
            profile_ops.c.overruled_by.is_(None),
            profile_ops.c.at_ms >= self._intent.started_ms,
        )
        return [str(text) for text in self._connection.execute(statement).scalars()]

    def last_call(self, about: About) -> None:
        """Say what the call was about, in place of what a step said of an earlier one."""
        later = select(calls.c.id).where(
            calls.c.customer == self._intent.customer,
            calls.c.started_ms > self._intent.started_ms,
            calls.c.learnt == Learnt.YES,
        )
        if self._connection.execute(later.limit(1)).first() is not None:
            return
        if about.why:
            self._refuse(about.words, about.why)
        line = about.line
        if line is None:
            return
        present = profile.present_rows(self._connection, self._intent.customer, Block.LAST_CALL)
        ours = [r for r in present if r.source == Source.MEMORY_STEP]
        entry = self._entry(self._origin(), Block.LAST_CALL)
        try:
            profile.check_room(present, Block.LAST_CALL, line, ours[0].line if ours else None)
        except Refused as e:
            self._refuse(line, e.why)
            return
        if ours:
            profile.replace_in(self._connection, entry, int(ours[0].position), ours[0].line, line)
        else:
            profile.put_in(self._connection, self._intent.customer, line, self._origin(), Block.LAST_CALL)
        for row in ours[1:]:
            profile.remove_in(self._connection, entry, int(row.position), row.line)


def _about_the_same(line: str, other: str) -> bool:
    subject = subject_of(line)
    return subject is not None and subject == subject_of(other)


def _same(line: str, other: str) -> bool:
    """Whether two lines say the same, or one says a part of the other."""
    a, b = significant(line), significant(other)
    return bool(a and b and (a <= b or b <= a)) or _about_the_same(line, other)
