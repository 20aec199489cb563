"""What a customer asks of their own memory during a call: remember this, forget that; with an answer that is true.

    against = remember(store, "user:42", "favourite colour is red", origin)  # None: the profile says so now
    forgotten = forget(store, "user:42", "that I'm allergic to nuts", origin)

Only lines of the profile and of the last call go; what was said in a call stays said (`voicectl memory forget` erases
all of it). Not here: the tools that a model calls (voice/memory_tools.py), whose word stands (lines.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlalchemy import select

from voicectl.memory import profile
from voicectl.memory.errors import Refused
from voicectl.memory.learning.quoted import gives_orders
from voicectl.memory.lines import PEOPLE, Block, Line, Op, Origin, subject_of, tidy, weight
from voicectl.memory.search import is_common, shares, words_of
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import profile_lines

MOST_ASKED = 4  # lines to choose from; more cannot be said
_NOT = re.compile(r"n['’]t\b|\b(?:not|never|no)\b", re.IGNORECASE)
_ASKING = {"forget", "delete", "erase", "remove", "stop", "anymore", "longer", "fact", "thing", "everything"}


@dataclass(frozen=True)
class Forgotten:
    """What became of a request to forget.

    Args:
        gone: Lines that were taken away.
        stays: Lines that people made: only they take them away.
        which: Lines that may have been meant, when it is not clear which; nothing was taken away.
    """

    gone: tuple[str, ...] = ()
    stays: tuple[str, ...] = ()
    which: tuple[str, ...] = ()


def remember(store: Store, customer: str, fact: str, origin: Origin) -> str | None:
    """Add a fact to the profile, or replace the one on the same subject; durable on return.

    Args:
        store: Where it is kept.
        customer: Customer key.
        fact: The line.
        origin: The turn that taught it.

    Returns:
        None when the profile says so now; else the line that people made, which stands against it.

    Raises:
        Refused: As `profile.put`; or it gives orders.
        StoreUnavailable: Nothing was written.
    """
    if gives_orders(fact):
        raise Refused("remember", "it gives orders about the agent, it is no fact about the caller")
    with store.write() as connection:
        store.lock(connection, "profile", customer)
        op_id = profile.put_in(connection, customer, fact, origin, Block.PROFILE)
        mine = (profile_lines.c.customer == customer) & (profile_lines.c.op_id == op_id)
        there = str(connection.execute(select(profile_lines.c.line).where(mine)).scalar_one())
    return None if there.casefold() == tidy(fact).casefold() else there


def forget(store: Store, customer: str, fact: str, origin: Origin) -> Forgotten:
    """Take away what the profile says about something; durable on return.

    A line is meant when it says just that, or is about just that ("my phone number"), or is the only one with all the
    words. Of several that could be meant none goes. A note of the team never goes.

    Args:
        store: Where it is kept.
        customer: Customer key.
        fact: What to forget, in the customer's words.
        origin: The turn that asked.

    Raises:
        Refused: The customer was forgotten since the call began.
        StoreUnavailable: What is not done yet is left; asking again does the rest.
    """
    present = profile.lines(store, customer)
    meant, doubtful = _meant([line for line in present if line.block != Block.OPERATOR_NOTES], fact)
    notes, _ = _meant([line for line in present if line.block == Block.OPERATOR_NOTES], fact)
    gone: list[str] = []
    stays: list[str] = []
    for line in meant:
        theirs = weight(origin.source, Op.REMOVE) < weight(line.source)
        try:
            if profile.remove(store, customer, line.op_id, origin) is not None:
                gone.append(line.text)
        except Refused:
            if not theirs:
                raise
            stays.append(line.text)
    stays += [line.text for line in notes if weight(line.source) >= PEOPLE]
    which = [] if gone or stays else [line.text for line in doubtful]
    return Forgotten(tuple(dict.fromkeys(gone)), tuple(dict.fromkeys(stays)), tuple(dict.fromkeys(which))[:MOST_ASKED])


def _meant(present: list[Line], fact: str) -> tuple[list[Line], list[Line]]:
    """The lines that are meant, and those that may be."""
    asked = _content(fact)
    if not asked:  # "everything you know about me": all of it may be meant, and that is for people to erase
        return [], present
    holding = [line for line in present if _holds(line.text, asked) and _denies(line.text) == _denies(fact)]
    exact = [
        line
        for line in holding
        if _holds(fact, _content(line.text)) or _holds(fact, _content(subject_of(line.text) or ""))
    ]
    if exact:
        # The summary of the last call only repeats it.
        return exact + [line for line in holding if line.block == Block.LAST_CALL and line not in exact], []
    if len({line.text.casefold() for line in holding}) == 1:
        return holding, []
    near = holding or [line for line in present if 2 * shares(asked, line.text) >= len(asked)]
    return [], sorted(near, key=lambda line: (-shares(asked, line.text), line.text))


def _content(said: str) -> list[str]:
    return [w for w in words_of(said) if not is_common(w) and w not in _ASKING]


def _denies(said: str) -> bool:
    """Whether it says that something is not so: `vegetarian` is not what `is not vegetarian` says."""
    return _NOT.search(said) is not None


def _holds(said: str, asked: list[str]) -> bool:
    return bool(asked) and shares(asked, said) == len(asked)
