"""Finding the agent in Letta that a desk is to speak for: by id or by name, and never a customer's of ours.

    find(backend, "Agent_66")

Not here: what becomes of it (desks.py).
"""

from __future__ import annotations

import difflib
import re

from voicectl.memory.backends import Backend, NotThere
from voicectl.memory.backends.desks import OtherAgent
from voicectl.memory.errors import AgentUnknown, Refused

_ID = re.compile(r"agent-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # any other is a 422 of Letta, not a 404
SHOWN = 8
OURS = "cust:"  # the tag of customers' agents


def find(backend: Backend, wanted: str) -> OtherAgent:
    """The agent of an id, or the only one of a name.

    Raises:
        AgentUnknown: There is none; the error lists names that look like it.
        Refused: There are several of that name, or it is the agent of a customer of ours.
        BackendUnavailable: Letta does not answer.
    """
    wanted = wanted.strip()
    if _ID.fullmatch(wanted.lower()):
        try:
            found = [backend.desks.read(wanted.lower())]
        except NotThere:
            found = []
    else:
        found = backend.desks.named(wanted)
    others = [a for a in found if not any(t.startswith(OURS) for t in a.tags)]
    if found and not others:
        why = "it is the memory of one of our customers, not somebody to talk to"
        raise Refused(f"agent {wanted}", why, "Make an agent for the desk in Letta.")
    if len(others) > 1:
        ids = ", ".join(a.id for a in others)
        raise Refused(f"agent {wanted}", f"Letta has {len(others)} agents of that name: {ids}", "Give the id.")
    if not others:
        raise AgentUnknown(wanted, _near(wanted, backend.desks.names()))
    return others[0]


def _near(wanted: str, there: list[tuple[str, str]]) -> list[str]:
    """Names that look like it; some that there are where none does."""
    names = sorted({name for _, name in there})
    by_folded = {name.casefold(): name for name in reversed(names)}
    close = difflib.get_close_matches(wanted.casefold(), list(by_folded), SHOWN, cutoff=0.5)
    return [by_folded[c] for c in close] or names[:SHOWN]
