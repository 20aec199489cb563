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
from voicectl.memory.calls import Call
from voicectl.memory.effects import Effect, EffectState
from voicectl.memory.errors import CallOver, FencedOut, StoreUnavailable
from voicectl.memory.store.engine import Store

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
        turn = self._call.last_user_item or ""  # before the wait: the customer may say more meanwhile
        async with self._call.one_effect:
            try:
                effect = await asyncio.to_thread(
                    effects.begin, self._call.store, self._call.call, turn, self._tool, arguments
                )
            except (FencedOut, CallOver, StoreUnavailable) as e:
                log.warning("a tool did nothing", extra={"tool": self._tool, "why": str(e)})
                raise ToolError("not done: it cannot be noted now; tell the caller so") from e
            return await self._made(effect, arguments)

    async def _made(self, effect: Effect, arguments: dict[str, Any]) -> str:
        if effect.state == EffectState.DONE:
            return effect.result
        try:
            found = None if effect.ours else await self.settle(effect)
            if found is None:
                found = await asyncio.to_thread(self._make, effect.key, **arguments)
                await self._note(effects.done, effect, found)
        except Exception as e:  # whatever the business database raises: whether it took the effect, it knows itself
            log.exception("a tool failed", extra={"tool": self._tool})
            found = await self._after_failure(effect, e)
        return found

    async def _after_failure(self, effect: Effect, failure: Exception) -> str:
        try:
            found = await self.settle(effect)
        except Exception as e:
            raise ToolError("it is not known whether this was done; tell the caller so") from e
        if found is not None:
            return found
        await self._note(effects.failed, effect, str(failure))
        raise ToolError("not done: it failed; tell the caller so") from failure

    async def settle(self, effect: Effect) -> str | None:
        """What came of an effect that somebody began; None when it was not made. Raises what `find` raises."""
        found = await asyncio.to_thread(self._find, effect.key)
        if found is not None:
            await self._note(effects.done, effect, found)
        return found

    async def _note(self, how: Callable[[Store, Call, Effect, str], None], effect: Effect, result: str) -> None:
        """Note what is certain; where that is not taken, whoever comes next asks the business database by the key."""
        try:
            await asyncio.to_thread(how, self._call.store, self._call.call, effect, result)
        except (FencedOut, CallOver, StoreUnavailable) as e:
            log.error("what a tool did is not noted", extra={"tool": self._tool, "key": effect.key, "why": str(e)})
