"""What Letta's JSON says in our words. Pure functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from voicectl.memory.backends import Message

UNLISTED = "unlisted"
ROLES = {"user_message": "user", "assistant_message": "assistant"}


def all_of(page: Callable[[dict[str, object]], list[Any]], size: int) -> list[Any]:
    """All rows of a list, page by page; oldest first, as the default order stops after one page (letta.md 12)."""
    found: list[Any] = []
    after: dict[str, object] = {}
    while True:
        items = page(after)
        found += items
        if len(items) < size:
            return found
        after = {"after": items[-1]["id"]}


def generation_of(agent: Any) -> int:
    """The generation of the customer it was made for; 0 when it does not say."""
    return next((int(t[4:]) for t in agent.get("tags") or [] if t.startswith("gen:") and t[4:].isdigit()), 0)


def message_of(item: Any, shown: bool) -> Message:
    """A row as the turn it stands for; one that its conversation does not show has the role UNLISTED."""
    content = item.get("content")
    if isinstance(content, list):
        content = "\n".join(str(part.get("text", "")) for part in content)
    role = ROLES.get(item["message_type"], item["message_type"]) if shown else UNLISTED
    return Message(item.get("sender_id") or "", role, str(content or ""))
