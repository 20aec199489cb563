"""What happens in a session becomes turns: as heard, in order, tools with their results, hand-offs.

Callbacks are synchronous and guarded: an exception in a listener would cost the customer a reply (livekit.md 0.6).
Not here: making turns durable (memory/recorder.py).
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable
from typing import Any, ParamSpec

from livekit.agents import AgentSession, ConversationItemAddedEvent, FunctionToolsExecutedEvent
from livekit.agents.llm import AgentHandoff, ChatMessage

from voicectl.memory.recorder import Recorder, Role, Turn

log = logging.getLogger(__name__)

P = ParamSpec("P")


def guarded(listener: Callable[P, None]) -> Callable[P, None]:
    """A listener whose failure is logged and goes no further."""

    @functools.wraps(listener)
    def safe(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            listener(*args, **kwargs)
        except Exception:  # a TypeError would kill the reply; others would only be lost
            log.exception("a listener failed", extra={"listener": listener.__name__})

    return safe


class Listener:
    """Turns the events of one session into turns of one call.

    Args:
        session: The session.
        recorder: Where turns go; `add` never blocks.
        on_user_turn: Called with item id and text of each user turn, after it was handed to the recorder.
    """

    def __init__(
        self, session: AgentSession[Any], recorder: Recorder, on_user_turn: Callable[[str, str], None]
    ) -> None:
        self._session = session
        self._recorder = recorder
        self._on_user_turn = on_user_turn
        self.last_user_item: str | None = None
        session.on("conversation_item_added", guarded(self._item))
        session.on("function_tools_executed", guarded(self._tools))

    def _agent(self) -> str:
        try:
            return self._session.current_agent.id
        except RuntimeError:
            return ""  # no agent is running: the session starts or ends

    def _item(self, event: ConversationItemAddedEvent) -> None:
        item = event.item
        if isinstance(item, AgentHandoff):
            if item.old_agent_id is None:
                return  # the first agent; nobody handed anything over
            text = f"{item.old_agent_id} -> {item.new_agent_id}"
            self._add(item.id, Role.HANDOFF, text, item.created_at)
            return
        if not isinstance(item, ChatMessage) or item.role not in ("user", "assistant"):
            return
        text = item.text_content or ""
        if not text.strip():
            return
        self._add(item.id, Role(item.role), text, item.created_at, interrupted=item.interrupted)
        if item.role == "user":
            self.last_user_item = item.id
            self._on_user_turn(item.id, text)

    def _tools(self, event: FunctionToolsExecutedEvent) -> None:
        for call, output in event.zipped():
            record = {"tool": call.name, "arguments": call.arguments, "result": output.output if output else None}
            self._add(call.id, Role.TOOL, json.dumps(record, ensure_ascii=False), call.created_at)

    def _add(self, item_id: str, role: Role, text: str, created_s: float, *, interrupted: bool = False) -> None:
        agent = self._agent()
        self._recorder.add(
            Turn(
                item_id=item_id,
                role=role,
                text=text,
                at_ms=int(created_s * 1000),
                interrupted=interrupted,
                agent=agent,
                progress=json.dumps({"agent": agent}),
            )
        )
