"""What the customer's page sees of memory during a call, and what it may ask for: show, forget.

Only the linked customer is shown anything or may ask. Not here: the profile itself (memory/profile.py).
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING

from livekit import rtc

from voicectl.memory import profile
from voicectl.memory.errors import Refused, StoreUnavailable
from voicectl.voice.events import Rpc, Topic

if TYPE_CHECKING:
    from voicectl.voice.call import MemoryCall

log = logging.getLogger(__name__)


class PageLink:
    """The customer's view of memory in one call.

    Args:
        room: The connected room.
        call: The call.
    """

    def __init__(self, room: rtc.Room, call: MemoryCall) -> None:
        self._room = room
        self._call = call
        self._shown = ""
        self._lock = asyncio.Lock()

    def open(self) -> None:
        """Answer the page's requests from now on."""
        self._room.local_participant.register_rpc_method(Rpc.FORGET, self._forget)

    async def show(self, lines: list[profile.Line]) -> None:
        """Send what is remembered to the customer, when it changed. A page that has gone misses nothing."""
        facts = [
            {"id": str(line.op_id), "text": line.text, "because": line.because, "source": line.source}
            for line in lines
            if line.block == profile.Block.PROFILE
        ]
        text = json.dumps({"facts": facts}, ensure_ascii=False)
        async with self._lock:
            if text == self._shown:
                return
            try:
                await self._room.local_participant.send_text(
                    text, topic=Topic.MEMORY, destination_identities=[self._call.customer.identity]
                )
            except (RuntimeError, rtc.StreamError) as e:
                log.info("the page was not told", extra={"why": str(e)})
                return
            self._shown = text

    async def _forget(self, request: rtc.RpcInvocationData) -> str:
        if request.caller_identity != self._call.customer.identity:
            return json.dumps({"ok": False, "error": "only the caller may ask that"})
        try:
            op_id = int(json.loads(request.payload)["id"])
        except (ValueError, KeyError, TypeError):
            return json.dumps({"ok": False, "error": "which fact? an id is needed"})
        origin = profile.Origin(profile.Source.PAGE, self._call.call.id)
        try:
            gone = await asyncio.to_thread(profile.remove, self._call.store, self._call.customer.key, op_id, origin)
        except Refused as e:
            return json.dumps({"ok": False, "error": e.why})
        except StoreUnavailable as e:
            log.warning("a fact was not forgotten", extra={"why": e.reason})
            return json.dumps({"ok": False, "error": "memory cannot be reached now; please try again"})
        await self._call.knowledge.refresh()
        return json.dumps({"ok": True} if gone is not None else {"ok": False, "error": "that fact is gone already"})
