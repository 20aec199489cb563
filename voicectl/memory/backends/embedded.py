"""Memory without Letta: the store itself answers, so there is nothing to mirror.

Promise: reads show what the store holds; writes change nothing, as what they would write is there already.
Not here: when to use it (MEMORY_BACKEND=embedded).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import select

from voicectl.memory import profile
from voicectl.memory.backends import Agent, AgentSpec, BlockCopies, Health, Message, NotThere, Rejected
from voicectl.memory.backends.desks import NoDesks
from voicectl.memory.identity import hashed
from voicectl.memory.profile import Block
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import calls, customers
from voicectl.memory.sync import ledger
from voicectl.memory.sync.text import render
from voicectl.memory.sync.transcript import messages


class EmbeddedBackend:
    """The store seen as a backend: an agent is a customer's hash, a conversation is a call.

    Args:
        store: The store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.desks = NoDesks()

    def health(self) -> Health:
        """The store's address."""
        return Health(self._store.where, "embedded")

    def model(self) -> str:
        """None: nobody can talk to these agents."""
        return ""

    def ensure_agent(self, spec: AgentSpec) -> Agent:
        """The customer, who exists."""
        return Agent(spec.customer, False, {label: f"{spec.customer}/{label}" for label in spec.blocks})

    def agents(self, customer: str) -> list[str]:
        """The customer."""
        return [customer]

    def describe(self, agent_id: str, description: str) -> None:
        """Nothing: a description is made of the profile when somebody looks."""

    def ensure_conversation(self, agent_id: str, key: str, title: str) -> str:
        """The call."""
        return key.split("/")[0]

    def conversations(self, agent_id: str) -> dict[str, str]:
        """The customer's calls."""
        customer = self._customer(agent_id)
        with self._store.read() as connection:
            ids = connection.execute(select(calls.c.id).where(calls.c.customer == customer)).scalars().all()
        return {call_id: f"{call_id} · " for call_id in ids}

    def drop_conversation(self, conversation_id: str) -> None:
        """Nothing: the store is the truth."""

    def append_turns(self, conversation_id: str, messages: Sequence[Message]) -> None:
        """Nothing: the recorder has written them.

        Raises:
            NotThere: There is no such call.
        """
        self._call(conversation_id)

    def _call(self, conversation_id: str) -> None:
        with self._store.read() as connection:
            if connection.execute(select(calls.c.id).where(calls.c.id == conversation_id)).first() is None:
                raise NotThere("read call", f"no call {conversation_id}")

    def has_marker(self, conversation_id: str, marker: str) -> bool:
        """Whether the store has the turn."""
        return any(m.marker == marker for m in self.list_turns(conversation_id))

    def busy(self, conversation_id: str) -> bool:
        """Never: the store answers when it is done."""
        return False

    def list_turns(self, conversation_id: str) -> list[Message]:
        """The call's turns.

        Raises:
            NotThere: There is no such call.
        """
        self._call(conversation_id)
        return messages(conversation_id, ledger.rows(self._store, conversation_id))

    def copy_blocks(self, agent_id: str, title: str, labels: Sequence[str]) -> BlockCopies:
        """Never: there is no agent.

        Raises:
            Rejected: Always.
        """
        raise Rejected("copy blocks", "there is no agent without Letta")

    def ask_agent(self, conversation_id: str, text: str, timeout_s: float) -> None:
        """Never: there is no agent.

        Raises:
            Rejected: Always.
        """
        raise Rejected("memory step", "there is no agent without Letta")

    def get_blocks(self, block_ids: Mapping[str, str]) -> dict[str, str]:
        """The blocks as the profile renders them.

        Raises:
            NotThere: There is no such customer.
        """
        found: dict[str, str] = {}
        for label, block_id in block_ids.items():
            present = profile.lines(self._store, self._customer(block_id.split("/")[0]))
            found[label] = render(present, Block(label))
        return found

    def _customer(self, agent_id: str) -> str:
        with self._store.read() as connection:
            for key in connection.execute(select(customers.c.key)).scalars():
                if hashed(key) == agent_id:
                    return str(key)
        raise NotThere("read blocks", f"no customer with hash {agent_id}")

    def put_block(self, block_id: str, text: str) -> None:
        """Nothing: a block is the rendering of the profile."""

    def forget(self, customer: str, *, before_generation: int | None = None) -> int:
        """Nothing beyond the store."""
        return 0
