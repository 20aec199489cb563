"""The stub of Letta with an agent in it that edits copies of its blocks as a test says.

`edit` gets the texts of the blocks that the conversation sees and what the agent was asked, and returns the new texts.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from tests.support.letta_stub import LettaStub

END = 'data: {"message_type":"stop_reason","stop_reason":"end_turn"}\n\ndata: [DONE]\n\n'


class LettaAgentStub(LettaStub):
    """Use as a context manager."""

    def __init__(self) -> None:
        super().__init__()
        self.edit: Callable[[dict[str, str], str], dict[str, str]] = lambda blocks, _asked: blocks
        self.asked: list[str] = []
        self.fails: list[int] = []  # what the next questions are answered with instead

    def copies(self) -> list[dict[str, Any]]:
        """Conversations with copies that are there."""
        return [c for c in self.conversations.values() if c.get("isolated_block_ids")]

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        if path == "/v1/models":
            return 200, [{"provider_name": "voicectl-llm", "handle": "openai-proxy/scripted", "model": "scripted"}]
        parts = path.split("/")
        if (
            method == "POST"
            and path.startswith("/v1/conversations/")
            and body.get("override_model", "").endswith("scripted")
        ):
            return self._ask(parts[3], body)
        if method == "DELETE" and path.startswith("/v1/conversations/"):
            for block_id in self.conversations.get(parts[3], {}).get("isolated_block_ids", []):
                self.blocks.pop(block_id, None)
        status, value = super().answer(method, path, query, body)
        if method == "POST" and path == "/v1/conversations" and body.get("isolated_block_labels"):
            agent = self.agents[value["agent_id"]]
            own = [self.blocks[b["id"]] for b in agent["blocks"] if b["label"] in body["isolated_block_labels"]]
            copied = [{**block, "id": f"block-{uuid.uuid4()}"} for block in own]
            self.blocks |= {block["id"]: block for block in copied}
            value["isolated_block_ids"] = [block["id"] for block in copied]
        return status, value

    def _ask(self, conversation_id: str, body: Any) -> tuple[int, Any]:
        if self.fails:
            return self.fails.pop(0), {"error": {"type": "llm_rate_limit", "message": "no"}}
        seen = {
            self.blocks[i]["label"]: self.blocks[i] for i in self.conversations[conversation_id]["isolated_block_ids"]
        }
        self.asked.append(body["messages"][0]["content"])
        for label, text in self.edit({k: b["value"] for k, b in seen.items()}, self.asked[-1]).items():
            seen[label]["value"] = text
        return 200, END
