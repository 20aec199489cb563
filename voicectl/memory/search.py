"""Deep recall: what was said in any earlier call of one customer, found by words, with its day and the answer to it.

    for found in search(store, "user:42", "what did I order last time?", but_call=call.id):
        print(day(found.at_ms), found.said, found.answer)

The database's own full text finds the rows (SQLite FTS5, PostgreSQL tsvector; migration 0007 keeps them level), here
words of a question become what it takes, and exchanges are put in order: most words first, the newest of equals.
Nothing a caller says is ever read as syntax of a query. Not here: what is in the prompt without asking (recall.py),
searching all customers as an operator (admin.py).
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select, text

from voicectl.memory.calls import now_ms
from voicectl.memory.identity import refuse_no_text
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import calls, customers, turns

MOST_HITS = 100  # rows of the index looked at, the newest; who has more with the same words gets the newest
MOST_EXCHANGES = 12  # whose other half is read
MOST_WORDS = 12  # of a question
REACH = 6  # rows between a turn and its answer: tools, hand-offs, a turn in two parts
SPOKEN = ("user", "assistant")

_COMMON = frozenset(
    re.findall(
        r"\w+",
        "a about again ago all am an and any are as asked at be been before but by call called can could did do does "
        "earlier ever for from get give had has have hey how i if in into is it its just know last let like may me "
        "mention mentioned my no not of ok okay on once or our please previous previously recall remember said say "
        "should so some something tell than that the their them then there they this time to told us was we were what "
        "when where which who why will with would yes you your",
    )
)


@dataclass(frozen=True)
class Exchange:
    """What a customer said in an earlier call, and what they were answered.

    Args:
        call_id: The call.
        said: The customer's words; empty where the agent spoke first.
        answer: The agent's; empty where none came.
        at_ms: When, in milliseconds since 1970.
    """

    call_id: str
    said: str
    answer: str
    at_ms: int


# CROSS JOIN keeps the order: the index first, then each of its few rows by key.
_SQLITE = text(
    "SELECT t.call_id, t.seq, t.role, t.text, t.at_ms FROM turn_index "
    "CROSS JOIN turns t ON t.call_id = turn_index.call AND t.seq = turn_index.seq "
    "CROSS JOIN calls c ON c.id = t.call_id "
    "CROSS JOIN customers k ON k.key = c.customer AND k.generation = c.generation "
    "WHERE turn_index MATCH :wanted AND c.customer = :customer AND c.id <> :but "
    "ORDER BY turn_index.rowid DESC LIMIT :most"
)
# MATERIALIZED: by itself the planner may read all turns of all calls of a customer instead.
_POSTGRESQL = text(
    "WITH hit AS MATERIALIZED (SELECT call_id, seq, role, text, at_ms FROM turns "
    "WHERE words @@ (CAST(:whose AS tsquery) && to_tsquery('pg_catalog.simple', :wanted))) "
    "SELECT t.call_id, t.seq, t.role, t.text, t.at_ms FROM hit t "
    "JOIN calls c ON c.id = t.call_id "
    "JOIN customers k ON k.key = c.customer AND k.generation = c.generation "
    "WHERE c.customer = :customer AND c.id <> :but ORDER BY t.at_ms DESC, t.seq DESC LIMIT :most"
)
_NEAR = select(turns.c.call_id, turns.c.seq, turns.c.role, turns.c.text, turns.c.at_ms).where(
    turns.c.call_id.in_(bindparam("in_calls", expanding=True)),
    turns.c.seq.in_(bindparam("numbers", expanding=True)),
    turns.c.role.in_(SPOKEN),
)
_CALLS = (
    select(calls.c.id, calls.c.last_seq)
    .join(customers, (customers.c.key == calls.c.customer) & (customers.c.generation == calls.c.generation))
    .where(calls.c.customer == bindparam("customer"), calls.c.id != bindparam("but"))
    .order_by(calls.c.started_ms.desc(), calls.c.id)
    .limit(3)
)
_LAST = (
    select(turns.c.call_id, turns.c.seq, turns.c.role, turns.c.text, turns.c.at_ms)
    .where(turns.c.call_id == bindparam("of_call"), turns.c.role == "user")
    .order_by(turns.c.seq.desc())
    .limit(MOST_EXCHANGES)
)


def search(store: Store, customer: str, query: str, *, but_call: str = "", limit: int = 3) -> list[Exchange]:
    """Exchanges of earlier calls that share words with a question, best first, the newest of equals.

    A question without a word of its own ("what did I say last time?") gets the last things said.

    Args:
        store: Where they are kept.
        customer: Customer key; of nobody else, and of no earlier generation, is anything found.
        query: A question or words, in any language.
        but_call: The present call, which the model has before it.
        limit: How many exchanges.

    Raises:
        StoreUnavailable: The store did not answer.
        TypeError: The question is not text.
    """
    refuse_no_text("what to search for", query)
    wanted = wanted_words(query)
    with store.read() as connection:
        hits = _hits(connection, customer, wanted, but_call) if wanted else _newest(connection, customer, but_call)
        hits = sorted(hits, key=lambda h: (-_rank(wanted, h.role == "user", h.text), -int(h.at_ms), -int(h.seq)))
        hits = hits[:MOST_EXCHANGES]
        near = _near(connection, hits)
    found = dict(_exchange(hit, near) for hit in hits)
    ranked = [(_rank(wanted, True, e.said, e.answer), -e.at_ms, at, e) for at, e in found.items()]
    ranked.sort(key=lambda r: (-r[0], *r[1:3]))
    return [exchange for rank, _, _, exchange in ranked if rank or not wanted][:limit]


def _hits(connection: Connection, customer: str, wanted: list[str], but: str) -> list[Row[Any]]:
    whose = f"k{customer.encode().hex()}"
    terms = list(dict.fromkeys(form for word in wanted for form in sorted(forms(word))))
    given: dict[str, Any] = {"customer": customer, "but": but, "most": MOST_HITS}
    if connection.dialect.name == "sqlite":
        # In quotes nothing is syntax, and words hold no quotes.
        either = " OR ".join([f'"{term}"' for term in terms])
        return list(connection.execute(_SQLITE, {**given, "wanted": f'whose:"{whose}" AND said:({either})'}))
    either = " | ".join([f"'{term}'" for term in terms])
    return list(connection.execute(_POSTGRESQL, {**given, "whose": f"'{whose}'", "wanted": either}))


def _newest(connection: Connection, customer: str, but: str) -> list[Row[Any]]:
    for call in connection.execute(_CALLS, {"customer": customer, "but": but}).all():
        if rows := connection.execute(_LAST, {"of_call": call.id}).all():
            return list(rows)
    return []


def _near(connection: Connection, hits: list[Row[Any]]) -> dict[str, list[Row[Any]]]:
    """The turns around the hits, by call, in order."""
    if not hits:
        return {}
    numbers = sorted({int(h.seq) + n for h in hits for n in range(-REACH, REACH + 1)})
    rows = connection.execute(_NEAR, {"in_calls": sorted({h.call_id for h in hits}), "numbers": numbers}).all()
    near: dict[str, list[Row[Any]]] = {}
    for row in sorted(rows, key=lambda r: (r.call_id, r.seq)):
        near.setdefault(row.call_id, []).append(row)
    return near


def _exchange(hit: Row[Any], near: dict[str, list[Row[Any]]]) -> tuple[tuple[str, int], Exchange]:
    """The exchange that a turn is part of, by call and number of its first turn."""
    around = [r for r in near.get(hit.call_id, []) if abs(r.seq - hit.seq) <= REACH]
    before = [r for r in around if r.seq < hit.seq and r.role == "user"]
    if hit.role != "user" and not before:
        return (hit.call_id, int(hit.seq)), Exchange(hit.call_id, "", hit.text, int(hit.at_ms))
    said = hit if hit.role == "user" else before[-1]
    answer = "" if hit.role == "user" else hit.text
    for row in around:
        if answer or (row.seq > said.seq and row.role == "user"):
            break
        if row.seq > said.seq:
            answer = row.text
    return (hit.call_id, int(said.seq)), Exchange(hit.call_id, said.text, answer, int(said.at_ms))


def _rank(wanted: list[str], by_customer: bool, *texts: str) -> float:
    """How many of the words are there; less where the customer only asked.

    "What is my dog called?", asked before, shares more words with the same question than "my dog is Bruno" does.
    """
    there = {fold(word) for said in texts for word in words_of(said)}
    found = sum(1 for word in wanted if not there.isdisjoint(fold(form) for form in forms(word)))
    asked = by_customer and texts[0].rstrip().endswith(("?", "？", "؟"))
    return found * (0.4 if asked else 1.0)


def words_of(said: str) -> list[str]:
    """The words of a text in small letters, in order. Marks are parts of words: Bengali vowels are such."""
    lowered = said.lower()
    if lowered.isascii():
        return _ASCII_WORD.findall(lowered)
    return "".join([c if c.isalnum() or unicodedata.category(c)[0] == "M" else " " for c in lowered]).split()


def fold(word: str) -> str:
    """A word as SQLite's index has it: accents of Latin letters aside."""
    if word.isascii():
        return word
    bare = "".join([c for c in unicodedata.normalize("NFD", word) if not "\u0300" <= c <= "\u036f"])
    return unicodedata.normalize("NFC", bare.casefold())


def wanted_words(query: str) -> list[str]:
    """The words of a question that something can be found by, each once, in order."""
    found = (w for w in words_of(query) if w not in _COMMON and (len(w) > 1 or not w.isascii() or w.isdigit()))
    return list(dict.fromkeys(found))[:MOST_WORDS]


def is_common(word: str) -> bool:
    """Whether a word says nothing by itself, in any of its forms: `likes`, `had`."""
    return not _COMMON.isdisjoint(forms(word)) or (len(word) == 1 and word.isascii() and not word.isdigit())


_ASCII_WORD = re.compile(r"[a-z0-9]+")
_SMALL = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_ENDINGS = (("ies", "y"), ("ied", "y"), ("ing", ""), ("ing", "e"), ("ed", ""), ("ed", "e"), ("es", ""), ("s", ""))


@lru_cache(maxsize=4096)
def forms(word: str) -> frozenset[str]:
    """A word as it may have been said: an English one in its other endings, any other in its spellings in Unicode.

    `ordered` finds `order`, `orders` and `ordering`; neither database knows which language a turn is in.
    """
    if not word.isascii():
        # A PostgreSQL whose locale is C makes small letters of ASCII only.
        cased = (word, word.casefold(), fold(word), *(w.translate(_SMALL) for w in (word.capitalize(), word.upper())))
        return frozenset(unicodedata.normalize(form, spelled) for form in ("NFC", "NFD") for spelled in cased)
    if not (word.isalpha() and len(word) > 2):
        return frozenset([word])
    roots = {word}
    for ending, instead in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) > 2:
            roots.add(word.removesuffix(ending) + instead)
    found: set[str] = set()
    for root in roots:
        found |= {root, f"{root}s"}
        if root.endswith("e"):
            found |= {f"{root}d", f"{root[:-1]}ing"}
        elif root.endswith("y"):
            found |= {f"{root[:-1]}ies", f"{root[:-1]}ied", f"{root}ing"}
        else:
            found |= {f"{root}ed", f"{root}ing"}
    return frozenset(found)


def shares(wanted: Iterable[str], said: str) -> int:
    """How many of the words a text holds, in any of their forms."""
    return int(_rank(list(wanted), False, said))


def day(at_ms: int, *, now: int | None = None) -> str:
    """The day of a moment, as it is said: `3 May`, of another year `3 May 2024`."""
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    present = datetime.fromtimestamp((now_ms() if now is None else now) / 1000, UTC)
    return f"{moment.day} {moment:%B}" + ("" if moment.year == present.year else f" {moment.year}")
