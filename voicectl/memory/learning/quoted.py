"""A call as a model is shown it: quoted data, a line a turn, from which orders to the agent are left out.

What callers say is not trusted. Each turn is one line of JSON without angle brackets, so that no words can end the
quotation or speak for somebody else. A turn that gives orders about rules, prompts or rights is not shown at all, and
teaches nothing. Not here: what of it may be learnt (grounding.py).
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from voicectl.memory.store.schema import turns
from voicectl.memory.turns import Role

CUSTOMER, AGENT = "customer", "agent"
WITHHELD = "[left out: it gave orders about the agent]"
MAX_QUOTED = 12_000  # characters in one request; a longer call is read in parts

_ORDER = re.compile(
    r"""
    \b(?:ignore|forget|disregard|override|bypass|overrule|erase|delete|wipe|clear)\b[^.?!]{0,40}
        \b(?:rules?|instructions?|prompts?|guidelines?|restrictions?|training|(?:all|every)\s+(?:facts?|notes?|lines?)|
           (?:previous|prior|above)\b)
    | \b(?:rules?|instructions?)\b[^.?!]{0,20}\b(?:do\ not|don't|no\ longer)\s+(?:apply|count)
    | ^\s*\W{0,3}(?:system|assistant|developer|admin|tool)\s*(?:prompt|message)?\s*:
    | \b(?:system|developer|debug|admin|god|root|maintenance|sudo)\s+(?:prompt|mode|message|override|access|rights?)\b
    | \b(?:you\ are\ now|pretend\ (?:to\ be|that|you|i)|act\ as\ (?:if|an?|the)|role-?\ ?play|jailbreak)\b
    | \bnew\ (?:instructions?|rules?|persona|prompt)\b
    | \b(?:administrator|superuser)\b[^.?!]{0,40}\b(?:rights?|privileges?|access|now)\b
    | \b(?:all|every|each|other)\s+(?:callers?|customers?|users?)\b
    | \b(?:discounts?|refunds?|credits?|free)\b[^.?!]{0,30}\b(?:everybody|everyone|anyone)\b
    | \b(?:language\ model|prompt\ injection|memory_(?:insert|replace|rethink)|core_memory)\b
    | \b(?:write|note|save|put|add|store)\b[^.?!]{0,30}\bquote\b
    | </?\w+>|```|\{"
    """,
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True)
class Heard:
    """A turn of the call.

    Args:
        number: Its sequence number.
        item_id: Its key in the store.
        who: `customer` or `agent`.
        text: What was said.
    """

    number: int
    item_id: str
    who: str
    text: str

    @property
    def counts(self) -> bool:
        """Whether something may be learnt from it."""
        return self.who == CUSTOMER and not gives_orders(self.text)


def gives_orders(text: str) -> bool:
    """Whether somebody tells the agent what it is or what rules it has, instead of something about themselves."""
    return _ORDER.search(plain(text)) is not None


def plain(text: str) -> str:
    """A text as rules read it: without characters that nobody sees, of forms that look alike the usual one."""
    if text.isascii():
        return text
    return unicodedata.normalize("NFKC", "".join(c for c in text if unicodedata.category(c) != "Cf"))


def heard(connection: Connection, call_id: str) -> list[Heard]:
    """What was said in a call, in order, without tools and hand-offs; a turn has `MAX_QUOTED` characters at most."""
    roles = {Role.USER.value: CUSTOMER, Role.ASSISTANT.value: AGENT}
    statement = (
        select(turns.c.seq, turns.c.item_id, turns.c.role, turns.c.text)
        .where(turns.c.call_id == call_id, turns.c.role.in_(list(roles)))
        .order_by(turns.c.seq)
    )
    return [Heard(int(r.seq), r.item_id, roles[r.role], _short(r.text)) for r in connection.execute(statement)]


def quote(said: Sequence[Heard]) -> str:
    """Turns as a fenced quotation."""
    lines = (_line({"turn": h.number, "who": h.who, "said": _shown(h)}) for h in said)
    return "<transcript>\n" + "\n".join(lines) + "\n</transcript>"


def quote_lines(known: Sequence[str]) -> str:
    """Lines of the profile as a fenced quotation: people wrote some of them."""
    return "<known>\n" + "\n".join(_line({"line": text}) for text in known) + "\n</known>"


def parts(said: Sequence[Heard]) -> Iterator[list[Heard]]:
    """The call in parts that fit into a request each."""
    part: list[Heard] = []
    size = 0
    for turn in said:
        if part and size + len(turn.text) > MAX_QUOTED:
            yield part
            part, size = [], 0
        part.append(turn)
        size += len(turn.text)
    if part:
        yield part


def _shown(turn: Heard) -> str:
    return WITHHELD if turn.who == CUSTOMER and gives_orders(turn.text) else _short(turn.text)


def _short(text: str) -> str:
    return " ".join(text.split())[:MAX_QUOTED]


def _line(value: dict[str, object]) -> str:
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c").replace(">", "\\u003e")
