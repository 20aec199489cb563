"""A tool that does something in the world does it once, however often it is called and whoever dies in it.

    orders = Once(call, "place_order", make=lambda key, dish: db.order(key, dish), find=db.order_of)

    @function_tool
    async def place_order(context: RunContext, dish: str) -> str:
        return await orders(context, dish=dish)

The key stands for the call, the customer's turn, the tool and its arguments; it must be unique in the business database
too. Effects of one call are made one after the other. Not here: what is noted about them (memory/effects.py), what a
successor does with what it finds (takeover.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from livekit.agents import RunContext, ToolError

from voicectl.memory import effects
from voicectl.memory.effects import Effect, EffectState
from voicectl.memory.errors import CallOver, FencedOut, StoreUnavailable

if TYPE_CHECKING:
    from voicectl.voice.call import MemoryCall

log = logging.getLogger(__name__)


class Once:
    """One tool of one call. Making it known to the call lets a successor find out what was done.

    Args:
        call: The call.
        tool: The tool's name.
        make: Makes the effect under a key and says what came of it, as JSON text; blocking, in a thread. It raises when
            it may not have been made.
        find: What came of the effect with this key; None when the business database has none. Blocking.
    """

    def __init__(
        self, call: MemoryCall, tool: str, *, make: Callable[..., str], find: Callable[[str], str | None]
    ) -> None:
        self._call, self._tool, self._make, self._find = call, tool, make, find
        call.effects[tool] = self

    async def __call__(self, context: RunContext[Any], **arguments: Any) -> str:
        """Make the effect, or say what came of it when it was made before.

        Raises:
            ToolError: It was not made; in words for the model.
        """
        context.disallow_interruptions()
        async with self._call.one_effect:
            try:
                return await self._made(arguments)
            except (FencedOut, CallOver, StoreUnavailable) as e:
                log.warning("a tool did nothing", extra={"tool": self._tool, "why": str(e)})
                raise ToolError("not done: it cannot be noted now; tell the caller so") from e

    async def _made(self, arguments: dict[str, Any]) -> str:
        call, turn = self._call, self._call.last_user_item or ""
        effect = await asyncio.to_thread(effects.begin, call.store, call.call, turn, self._tool, arguments)
        if effect.state == EffectState.DONE:
            return effect.result
        if not effect.ours and (found := await self.settle(effect)) is not None:
            return found
        try:
            result = await asyncio.to_thread(self._make, effect.key, **arguments)
        except Exception as e:  # whatever the business database raises: whether it took the effect, it knows itself
            log.exception("a tool failed", extra={"tool": self._tool})
            if (found := await self.settle(effect)) is not None:
                return found
            await asyncio.to_thread(effects.failed, call.store, call.call, effect, str(e))
            raise ToolError("not done: it failed; tell the caller so") from e
        await asyncio.to_thread(effects.done, call.store, call.call, effect, result)
        return result

    async def settle(self, effect: Effect) -> str | None:
        """What came of an effect that somebody began; None when it was not made."""
        found = await asyncio.to_thread(self._find, effect.key)
        if found is not None:
            await asyncio.to_thread(effects.done, self._call.store, self._call.call, effect, found)
        return found
