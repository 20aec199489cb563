"""What operators are told about a customer in Letta: where the agent is, how to open it, how far it is level.

Not here: how that is printed (cli/commands/memory.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from voicectl.memory.config import MemorySettings, state_path
from voicectl.memory.identity import normalise
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import calls, letta_conversations, turns
from voicectl.memory.sync import ledger_agents
from voicectl.memory.sync.states import MirrorState
from voicectl.memory.sync.transcript import SPOKEN

ADE = "https://app.letta.com"


@dataclass(frozen=True)
class LettaLink:
    """A customer in Letta.

    Args:
        server_url: The Letta server.
        agent_id: The customer's agent; None until the first turn is mirrored.
        key_from: Where its password is; the password itself is not shown.
        mirrored: Turns that are in Letta.
        waiting: Turns that are not, yet.
        dead_calls: Calls that could not be mirrored, with the reason.
        refused: Lines written in Letta that could not be taken, by block.
    """

    server_url: str
    agent_id: str | None
    key_from: str
    mirrored: int
    waiting: int
    dead_calls: dict[str, str]
    refused: dict[str, str]

    @property
    def how(self) -> list[str]:
        """How to look at the agent in Letta's ADE, line by line."""
        return [
            f"Open {ADE} and connect it to a self-hosted server:",
            f"  URL {self.server_url}, password: {self.key_from}",
            "  The browser must run on this machine. If it asks whether the page may reach the local network, allow.",
            f"  Then choose agent {self.agent_id or '(made with the first turn)'}. What you change in its memory",
            "  blocks is used in the customer's calls.",
        ]


def letta_link(store: Store, settings: MemorySettings, customer: str) -> LettaLink | None:
    """Where a customer is in Letta; None when memory is in the store alone.

    Args:
        store: The store.
        settings: The settings.
        customer: Customer key.

    Raises:
        StoreUnavailable: The store did not answer.
    """
    if settings.backend != "letta" or settings.letta_base_url is None:
        return None
    key = normalise(customer)
    known = ledger_agents.agent(store, key)
    in_letta = turns.c.seq <= func.coalesce(letta_conversations.c.mirrored_seq, 0)
    said = (
        select(in_letta.label("there"), func.count().label("number"))
        .select_from(turns)
        .join(calls, calls.c.id == turns.c.call_id)
        .outerjoin(letta_conversations, letta_conversations.c.call_id == calls.c.id)
        .where(calls.c.customer == key, turns.c.role.in_([r.value for r in SPOKEN]))
        .group_by(in_letta)
    )
    dead = (
        select(calls.c.id, letta_conversations.c.last_error)
        .outerjoin(letta_conversations, letta_conversations.c.call_id == calls.c.id)
        .where(calls.c.customer == key, calls.c.mirror == MirrorState.DEAD)
    )
    with store.read() as connection:
        counts = {bool(r.there): int(r.number) for r in connection.execute(said)}
        dead_calls = {r.id: r.last_error or "" for r in connection.execute(dead)}
    return LettaLink(
        server_url=settings.letta_base_url,
        agent_id=known.agent_id if known else None,
        key_from=f"letta_api_key in {state_path(settings.home)}, else LETTA_API_KEY",
        mirrored=counts.get(True, 0),
        waiting=counts.get(False, 0),
        dead_calls=dead_calls,
        refused={k: b.refused for k, b in ledger_agents.blocks(store, key).items() if b.refused},
    )
