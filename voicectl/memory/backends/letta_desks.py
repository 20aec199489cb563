"""Agents of others in Letta, and the shared blocks with what the team says of a desk.

Written for server 0.16.8. Not here: what an error means (letta.py), customers' agents (letta.py).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from voicectl.memory.backends.desks import POLICY_LABEL, OtherAgent
from voicectl.memory.backends.letta_rows import all_of

PAGE = 100
APP_TAG = "app:voicectl"
MARK = "voicectl_desk"  # in a block's metadata: whose policy it is
# Without naming them relations come back empty (letta.md 3), which would look like an agent without memory.
INCLUDE = ["agent.blocks", "agent.tags"]
# Others answer an empty completion with an error and put every turn into one stream (read in 0.16.8: LettaAgentV2).
WITH_CONVERSATIONS = ("letta_v1_agent",)

Context = Callable[[str], AbstractContextManager[None]]


class LettaDesks:
    """The requests for desks.

    Args:
        client: The client of Letta's package.
        reading: Turns errors of reads into ours.
        writing: Turns errors of writes into ours.
        write_s: How long a write may take, in seconds.
    """

    def __init__(self, client: Any, reading: Context, writing: Context, write_s: float) -> None:
        self._client, self._reading, self._writing, self._write_s = client, reading, writing, write_s

    def read(self, agent_id: str) -> OtherAgent:
        """One request, about 20 ms."""
        return _other(self._agent(agent_id))

    def _agent(self, agent_id: str) -> Any:
        with self._reading("read agent"):
            options: Any = {"params": {"include": INCLUDE}}
            return self._client.get(f"/v1/agents/{agent_id}", cast_to=object, options=options)

    def named(self, name: str) -> list[OtherAgent]:
        """By the server's own filter, and compared."""
        return [_other(a) for a in self._agents({"name": name, "include": INCLUDE}) if a.get("name") == name]

    def names(self) -> list[tuple[str, str]]:
        """Page by page: 1.6 s for 2,000 agents."""
        found = self._agents({"include": ["agent.tags"]})
        return [(str(a["id"]), str(a.get("name") or "")) for a in found if APP_TAG not in (a.get("tags") or [])]

    def _agents(self, query: dict[str, object]) -> list[Any]:
        return self._all("/v1/agents/", query)

    def _all(self, path: str, query: dict[str, object]) -> list[Any]:
        def page(after: dict[str, object]) -> list[Any]:
            options: Any = {"params": {**query, **after, "order": "asc", "limit": PAGE}}
            with self._reading(f"list {path.split('/')[2]}"):
                return list(self._client.get(path, cast_to=object, options=options))

        return all_of(page, PAGE)

    def ensure_policy(self, desk: str, text: str, limit: int) -> str:
        """By its metadata; blocks have no other key of ours."""
        for block in self._all("/v1/blocks/", {"label": POLICY_LABEL}):
            if (block.get("metadata") or {}).get(MARK) == desk:
                return str(block["id"])
        words = f"What the team says of the desk {desk}, in every call of it. Read-only for agents."
        with self._writing("create block"):
            made = self._client.blocks.create(
                label=POLICY_LABEL,
                value=text,
                description=words,
                limit=limit,
                read_only=True,
                metadata={MARK: desk},
                timeout=self._write_s,
            )
        return str(made.id)

    def attach_policy(self, agent_id: str, block_id: str) -> None:
        """An agent has one block of a label, so another desk's is detached first."""
        shown = [str(b["id"]) for b in self._agent(agent_id)["blocks"] if b["label"] == POLICY_LABEL]
        if block_id in shown:
            return
        with self._writing("attach block"):
            for other in shown:
                self._client.agents.blocks.detach(other, agent_id=agent_id, timeout=self._write_s)
            self._client.agents.blocks.attach(block_id, agent_id=agent_id, timeout=self._write_s)


def _other(agent: Any) -> OtherAgent:
    blocks = tuple(sorted((str(b["label"]), str(b.get("value") or "")) for b in agent["blocks"]))
    kind = str(agent.get("agent_type") or "letta_v1_agent")
    no_calls = ""
    if kind not in WITH_CONVERSATIONS:
        no_calls = f"Letta keeps no conversations of a {kind}"
    elif agent.get("enable_sleeptime"):
        no_calls = "its sleeptime helper would take a step of its own for every few turns"
    return OtherAgent(
        id=str(agent["id"]),
        name=str(agent.get("name") or ""),
        system=str(agent.get("system") or ""),
        blocks=blocks,
        tags=tuple(agent.get("tags") or ()),
        no_calls=no_calls,
    )
