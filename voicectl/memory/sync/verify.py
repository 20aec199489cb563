"""Store and Letta side by side, row by row: what differs, and how.

Reads only. A call that differs is looked at a second time, as a turn may arrive between the two reads.
Not here: making them equal (syncer.py), printing (cli/commands/sync.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from sqlalchemy import and_, func, select

from voicectl.memory import profile
from voicectl.memory.backends import Backend, Message, NotThere
from voicectl.memory.identity import hashed
from voicectl.memory.profile import Block
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import calls, customers, letta_conversations
from voicectl.memory.sync import foreign, ledger, ledger_agents
from voicectl.memory.sync.letters import letters
from voicectl.memory.sync.states import LetterState
from voicectl.memory.sync.text import lines_of, render
from voicectl.memory.sync.transcript import messages


class Kind(StrEnum):
    """How Letta differs from the store."""

    WAITING = "waiting"  # not sent yet
    MISSING = "missing"  # sent, and not there
    DOUBLED = "doubled"  # there more than once
    ORDER = "order"  # not where it belongs
    TEXT = "text"  # other words, or another role
    FOREIGN = "foreign"  # in a call's conversation, and not ours
    DEAD = "dead"  # not taken by Letta; needs a person
    AGENT = "agent"  # not one agent a customer
    BLOCK = "block"  # the profile is another one


@dataclass(frozen=True)
class Difference:
    """One of them.

    Args:
        customer: Customer key.
        call: The call; "" where none is concerned.
        row: `call#seq` of the turn, an id in Letta, or a block's label.
        kind: What is wrong.
        detail: More about it, without what was said.
    """

    customer: str
    call: str
    row: str
    kind: Kind
    detail: str = ""


@dataclass
class Compared:
    """The result."""

    customers: int = 0
    calls: int = 0
    rows: int = 0
    differences: list[Difference] = field(default_factory=list)


def verify(store: Store, backend: Backend, customer: str | None = None) -> Compared:
    """Compare all customers with calls, or one.

    Args:
        store: The store.
        backend: Letta.
        customer: A customer key that exists; None: all.

    Raises:
        BackendUnavailable: Letta does not answer; nothing is known.
        StoreUnavailable: The store does not answer.
    """
    keys = _customers(store) if customer is None else [customer]
    result = Compared(customers=len(keys))
    for key in keys:
        number, rows, found = _customer(store, backend, key)
        if found:
            number, rows, found = _customer(store, backend, key)
        result.calls += number
        result.rows += rows
        result.differences += found
    return result


def _customers(store: Store) -> list[str]:
    present = and_(customers.c.key == calls.c.customer, customers.c.generation == calls.c.generation)
    statement = select(calls.c.customer).join(customers, present).distinct().order_by(calls.c.customer)
    with store.read() as connection:
        return [str(key) for key in connection.execute(statement).scalars()]


def _customer(store: Store, backend: Backend, customer: str) -> tuple[int, int, list[Difference]]:
    agents = backend.agents(hashed(customer))
    titles = {c: title for agent in agents for c, title in backend.conversations(agent).items()}
    abroad = foreign.conversations_of(store, customer)
    for agent in sorted({a for a, _ in abroad.values()}):
        titles |= {c: t for c, t in foreign.titles(backend, agent).items() if foreign.call_in(t) in abroad}
    # Letta before the store: what is said in between is waiting then, and not foreign.
    shown = {conversation: _turns(backend, conversation) for conversation in titles}
    dead = {(x.call, x.seq): x for x in letters(store, customer)}
    found: list[Difference] = []
    rows = number = 0
    for call_id, conversation, cursor in _calls(store, customer):
        number += 1
        letter = dead.get((call_id, ledger.WHOLE_CALL))
        wanted = messages(call_id, ledger.rows(store, call_id))
        there = shown.get(conversation or "", [])
        rows += len(there)
        if letter is not None:
            if letter.state == LetterState.DEAD:
                found.append(Difference(customer, call_id, call_id, Kind.DEAD, letter.why))
            continue
        for message in list(wanted):
            if one := dead.get((call_id, _seq(message))):
                wanted.remove(message)
                if one.state == LetterState.DEAD:
                    found.append(Difference(customer, call_id, message.marker, Kind.DEAD, one.why))
        found += compare(customer, call_id, wanted, there, cursor)
        found += [
            Difference(customer, call_id, other, Kind.DOUBLED, f"a second conversation with {len(shown[other])} rows")
            for other, title in titles.items()
            if other != conversation and foreign.call_in(title) == call_id and shown[other]
        ]
    found += _agents(store, customer, agents, some=bool(agents) and rows > 0)
    found += _blocks(store, backend, customer)
    return number, rows, found


def _calls(store: Store, customer: str) -> list[tuple[str, str | None, int]]:
    statement = (
        select(
            calls.c.id,
            letta_conversations.c.conversation_id,
            func.coalesce(letta_conversations.c.mirrored_seq, 0),
        )
        .join(customers, and_(customers.c.key == calls.c.customer, customers.c.generation == calls.c.generation))
        .outerjoin(letta_conversations, letta_conversations.c.call_id == calls.c.id)
        .where(calls.c.customer == customer)
        .order_by(calls.c.started_ms, calls.c.id)
    )
    with store.read() as connection:
        return [(str(a), None if b is None else str(b), int(c)) for a, b, c in connection.execute(statement)]


def _turns(backend: Backend, conversation: str) -> list[Message]:
    try:
        return backend.list_turns(conversation)
    except NotThere:
        return []


def compare(
    customer: str, call_id: str, wanted: list[Message], there: list[Message], cursor: int
) -> Iterable[Difference]:
    """How the rows of one conversation differ from those of its call.

    Args:
        customer: Customer key.
        call_id: The call.
        wanted: What the store has.
        there: What Letta has.
        cursor: Rows up to this number were confirmed.
    """
    by_marker = {m.marker: m for m in wanted}
    times = Counter(m.marker for m in there)
    for message in wanted:
        if not times[message.marker]:
            kind = Kind.MISSING if _seq(message) <= cursor else Kind.WAITING
            yield Difference(customer, call_id, message.marker, kind)
    seen: set[str] = set()
    latest = -1
    for at, row in enumerate(there):
        ours = by_marker.get(row.marker)
        if ours is None:
            yield Difference(customer, call_id, row.marker or f"row {at + 1}", Kind.FOREIGN, f"role {row.role}")
            continue
        if row.marker in seen:
            yield Difference(customer, call_id, row.marker, Kind.DOUBLED)
            continue
        seen.add(row.marker)
        if row.role != ours.role:
            yield Difference(customer, call_id, row.marker, Kind.TEXT, f"role {row.role}, not {ours.role}")
        elif row.text != ours.text:
            lengths = f"{len(row.text)} characters, not {len(ours.text)}"
            yield Difference(customer, call_id, row.marker, Kind.TEXT, lengths)
        if _seq(row) < latest:
            yield Difference(customer, call_id, row.marker, Kind.ORDER, f"after #{latest}")
        latest = max(latest, _seq(row))


def _seq(message: Message) -> int:
    return int(message.marker.rpartition("#")[2])


def _agents(store: Store, customer: str, agents: list[str], *, some: bool) -> Iterable[Difference]:
    known = ledger_agents.agent(store, customer)
    recorded = known.agent_id if known else None
    if len(agents) > 1:
        yield Difference(customer, "", recorded or "", Kind.AGENT, f"{len(agents)} agents: {', '.join(agents)}")
    elif recorded is not None and recorded not in agents:
        yield Difference(customer, "", recorded, Kind.AGENT, "is not in Letta")
    elif recorded is None and some:
        yield Difference(customer, "", agents[0], Kind.AGENT, "is not in the store")


def _blocks(store: Store, backend: Backend, customer: str) -> Iterable[Difference]:
    known = ledger_agents.blocks(store, customer)
    present = profile.lines(store, customer)
    try:
        found = backend.get_blocks({label: row.block_id for label, row in known.items()})
    except NotThere as e:
        yield Difference(customer, "", "", Kind.BLOCK, str(e))
        return
    for label, text in found.items():
        if lines_of(text) != lines_of(render(present, Block(label))):
            yield Difference(customer, "", label, Kind.BLOCK, f"{len(text)} characters in Letta")
