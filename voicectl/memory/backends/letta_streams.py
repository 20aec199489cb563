"""Sending to a conversation in Letta as a stream: its run is completed there, that of a plain request never is.

Not here: what a failure means (letta.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from voicectl.memory.backends import Ambiguous, BlockCopies, NotThere

STEPS = 12  # of the agent in one memory step: more are a model that goes in circles


def send(
    client: Any,
    what: str,
    conversation_id: str,
    messages: Sequence[Mapping[str, str]],
    model: str,
    timeout_s: float,
    clock: Callable[[], float],
    ends: Sequence[str] = ("end_turn",),
    **more: object,
) -> None:
    """Send messages and wait for the end of the run.

    Args:
        client: The client of Letta's package.
        what: What this is, for errors.
        conversation_id: Where to.
        messages: As Letta takes them.
        model: The model's handle.
        timeout_s: How long the whole of it may take, in seconds.
        clock: Seconds, only differences count.
        ends: The ends that count as done.
        more: Further fields of the request.

    Raises:
        Ambiguous: It ended otherwise, or not in time.
    """
    deadline = clock() + timeout_s
    ended = ""
    with client.conversations.messages.create(
        conversation_id, messages=messages, override_model=model, streaming=True, timeout=timeout_s, **more
    ) as stream:
        for event in stream:
            if clock() > deadline:  # pings would keep a stuck stream alive for ever
                raise Ambiguous(what, f"no end after {timeout_s:.0f} s")
            if event.message_type == "stop_reason":
                ended = str(event.stop_reason)
    if ended not in ends:
        raise Ambiguous(what, f"the stream ended with {ended or 'nothing'}")


def copy_blocks(client: Any, agent_id: str, title: str, labels: Sequence[str], timeout_s: float) -> BlockCopies:
    """A conversation of an agent with copies of some of its blocks, which only it sees (proved 0.16.8)."""
    options: Any = {"params": {"agent_id": agent_id}, "timeout": timeout_s}
    body = {"summary": title, "isolated_block_labels": list(labels)}
    made: Any = client.post("/v1/conversations/", body=body, cast_to=object, options=options)
    copies: dict[str, str] = {}
    for block_id in made.get("isolated_block_ids") or []:
        copies[client.blocks.retrieve(block_id).label] = str(block_id)
    if set(copies) != set(labels):
        raise NotThere("copy blocks", f"asked for {len(labels)} copies, got {len(copies)}")
    return BlockCopies(str(made["id"]), copies)


def drop_copies(client: Any, agent_id: str) -> None:
    """Delete an agent's conversations with copies of blocks: deleting the agent would leave the copies behind."""
    options: Any = {"params": {"agent_id": agent_id, "limit": 100}}
    found: Any = client.get("/v1/conversations/", cast_to=object, options=options)
    for conversation in found:
        if conversation.get("isolated_block_ids"):
            client.conversations.delete(conversation["id"])
