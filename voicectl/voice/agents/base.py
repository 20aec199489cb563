"""What every agent of a desk has in common. Not here: tools (the agents), what is known of the customer (the call)."""

from __future__ import annotations

from collections.abc import AsyncIterator

from livekit.agents import Agent, ModelSettings
from livekit.agents.llm import ChatContext, Tool, Toolset

from voicectl.voice.call import MemoryCall
from voicectl.voice.patience import Piece, patiently, without_filler


class DeskAgent(Agent):
    """An agent whose customer is never left in silence by a slow language model.

    Args:
        call: The call it answers.
        instructions: Its prompt, without what is known of the customer.
        tools: Its tools.
    """

    def __init__(self, call: MemoryCall, *, instructions: str, tools: list[Tool | Toolset]) -> None:
        super().__init__(instructions=call.instructions(instructions), tools=tools)
        self._settings = call.settings

    async def llm_node(
        self, chat_ctx: ChatContext, tools: list[Tool], model_settings: ModelSettings
    ) -> AsyncIterator[Piece]:
        """The model's reply; what bridges its silence is said, and never shown to it."""
        filler = self._settings.filler_line
        reply = Agent.default.llm_node(self, without_filler(chat_ctx, filler), tools, model_settings)
        answers_a_tool = bool(chat_ctx.items) and chat_ctx.items[-1].type == "function_call_output"
        async for piece in patiently(
            reply, "" if answers_a_tool else filler, empty_is_life=self._settings.llm_is_local()
        ):
            yield piece
