"""The port: what the syncer asks of the place where operators look at memory.

Two adapters: letta.py, the only file that imports letta_client, and embedded.py, for installations without Letta. A
backend is a view of the store and can be rebuilt from it. Every write says by its error whether it may have happened.
Not here: when and in which order these are called (memory/sync/).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from voicectl.memory.backends.desks import DeskBackend
from voicectl.memory.errors import MemoryFault


class BackendFault(MemoryFault):
    """Root of what a backend can answer instead of doing it.

    Args:
        what: What was asked.
        why: What was answered, without anything customers said.
    """

    def __init__(self, what: str, why: str) -> None:
        self.what, self.why = what, why
        super().__init__(f"{what}: {why}")


class BackendUnavailable(BackendFault):
    """Nobody answered, or it errors. A write that ends so was certainly not done. Try again later."""


class Ambiguous(BackendFault):
    """A write was sent and its end is not known: it may have been done, or may yet be. Look before repeating it."""


class Failed(Ambiguous):
    """The backend says that the write failed, so that it is over; whether anything of it is there, only a look proves.

    Letta says so of its own trouble and of a turn it cannot take alike.
    """


class ModelFault(Failed):
    """The backend answers; the model behind it does not: refused key, rate limit, silence. Not the turn's fault.

    Letta takes a write back that ended so (letta.md 8), but only a look proves it.
    """


class Rejected(BackendFault):
    """The request itself was not accepted; repeating it will not help."""


class NotThere(BackendFault):
    """What the request names does not exist (any more)."""


@dataclass(frozen=True)
class Message:
    """One turn as it is mirrored.

    Args:
        marker: `call#seq`, unique; by it the turn is found again.
        role: `user` or `assistant`.
        text: What was said; never empty.
    """

    marker: str
    role: str
    text: str


@dataclass(frozen=True)
class AgentSpec:
    """The agent that stands for one customer.

    Args:
        customer: Hash of the customer key; the key itself does not leave our store.
        generation: Agents of older generations belong to somebody who was forgotten.
        description: What operators see in lists.
        blocks: Label and first text of each block.
        limit: How many characters a block holds; shown, not enforced, by Letta.
        read_only: Labels that only people write.
    """

    customer: str
    generation: int
    description: str
    blocks: Mapping[str, str]
    limit: int
    read_only: frozenset[str]


@dataclass(frozen=True)
class Agent:
    """An agent that exists.

    Args:
        id: The backend's id.
        created: It is new, with the blocks' first texts.
        block_ids: Id of each block by label.
    """

    id: str
    created: bool
    block_ids: Mapping[str, str]


@dataclass(frozen=True)
class BlockCopies:
    """Copies of an agent's blocks that only one conversation sees; they go with it.

    Args:
        conversation_id: The conversation.
        block_ids: Id of each copy by label.
    """

    conversation_id: str
    block_ids: Mapping[str, str]


@dataclass(frozen=True)
class Health:
    """What a backend says of itself.

    Args:
        where: Its address, for people.
        version: Its version.
    """

    where: str
    version: str


@dataclass(frozen=True)
class LlmEndpoint:
    """The language model that the customers' agents use when an operator talks to them.

    Args:
        base_url: An OpenAI-compatible address, ending in /v1.
        api_key: Its key; "none" where it needs none.
        model: Which of its models; "" for the first it lists.
        local: It is the small model on this machine, which calls need for themselves.
    """

    base_url: str
    api_key: str
    model: str = ""
    local: bool = False

    def __repr__(self) -> str:
        return f"LlmEndpoint({self.base_url!r}, '***', {self.model!r})"


class Backend(Protocol):
    """What every adapter does. Reads raise BackendUnavailable or NotThere; writes any BackendFault."""

    @property
    def desks(self) -> DeskBackend:
        """What it does for desks."""

    def health(self) -> Health:
        """Ask it who it is; everything the other methods need is in place when this returns."""

    def model(self) -> str:
        """What agents answer operators with now; changes when the setting or its address does."""

    def ensure_agent(self, spec: AgentSpec) -> Agent:
        """Find the customer's agent or create it, with all its blocks; empty extras are deleted."""

    def agents(self, customer: str) -> list[str]:
        """Ids of all agents of a customer, by the hash of the key; more than one is a fault somebody made."""

    def describe(self, agent_id: str, description: str) -> None:
        """Bring the agent's description and model up to date."""

    def ensure_conversation(self, agent_id: str, key: str, title: str) -> str:
        """Find the conversation of a call by its key, or create it; returns its id."""

    def conversations(self, agent_id: str) -> dict[str, str]:
        """All conversations of an agent: id and title; those of calls begin with the key."""

    def drop_conversation(self, conversation_id: str) -> None:
        """Delete a conversation; one that is not there is fine."""

    def append_turns(self, conversation_id: str, messages: Sequence[Message]) -> None:
        """Add turns in order, and nothing else, all or none."""

    def has_marker(self, conversation_id: str, marker: str) -> bool:
        """Whether the turn with this marker is among the latest of the conversation, shown there or not."""

    def busy(self, conversation_id: str) -> bool:
        """Whether a request to the conversation may still be under way there, or was when the server died."""

    def list_turns(self, conversation_id: str) -> list[Message]:
        """All rows of a conversation in order. One that is not ours has no marker, one not shown another role."""

    def copy_blocks(self, agent_id: str, title: str, labels: Sequence[str]) -> BlockCopies:
        """Make a conversation of an agent with copies of some of its blocks; dropping it deletes them."""

    def ask_agent(self, conversation_id: str, text: str, timeout_s: float) -> None:
        """Have the agent do something with its own model and tools, on the blocks that the conversation sees."""

    def get_blocks(self, block_ids: Mapping[str, str]) -> dict[str, str]:
        """The present text of blocks, by label."""

    def put_block(self, block_id: str, text: str) -> None:
        """Replace a block's text."""

    def forget(self, customer: str, *, before_generation: int | None = None) -> int:
        """Delete the customer's agents with their blocks, of all or of older generations; returns how many."""


__all__ = [
    "Agent",
    "AgentSpec",
    "Ambiguous",
    "Backend",
    "BackendFault",
    "BackendUnavailable",
    "BlockCopies",
    "Failed",
    "Health",
    "LlmEndpoint",
    "Message",
    "ModelFault",
    "NotThere",
    "Rejected",
]
