"""The beginning of a call in the store: its record, and what is known of the customer. Never waited for.

A store that does not answer within a third of a second costs the customer memory, not the call: it begins without a
record, its turns lie in a journal, and `later` stores it.
Not here: the room's lease (rooms/registry.py), the journal (memory/recorder.py).
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from voicectl.memory import desk_prompt, profile, recall
from voicectl.memory.calls import Call, call_without_store, open_call
from voicectl.memory.desk_prompt import House
from voicectl.memory.errors import Refused, StoreUnavailable
from voicectl.memory.store.engine import Store, is_current, open_store, store_url
from voicectl.voice.config import VoiceSettings
from voicectl.voice.customer import Customer
from voicectl.voice.rooms.registry import Keeper

log = logging.getLogger(__name__)

PATIENCE_MS = 300  # nobody speaks while it lasts
LONGEST_S = 1.2  # whatever a database across a network does with its connections
AGAIN_S = 0.5


@dataclass(frozen=True)
class Opening:
    """Whose call it is and where.

    Args:
        settings: Where the store is.
        customer: Who is on the line.
        room: The room's name.
        desk: What they chose to talk to.
    """

    settings: VoiceSettings
    customer: Customer
    room: str
    desk: str

    async def begin(self, fence: int) -> tuple[Store, Call, recall.Recalled, House]:
        """`at_once`, which a PostgreSQL may keep for LONGEST_S: what it still does then is found by `later`.

        SQLite's own patience ends it; a machine that is only slow must not forget who calls.

        Raises:
            StoreForeign: The database is not ours.
            FencedOut: Another job has the call.
        """
        limit_s = None if store_url(self.settings).get_backend_name() == "sqlite" else LONGEST_S
        try:
            return await asyncio.wait_for(asyncio.to_thread(self.at_once, fence), limit_s)
        except TimeoutError:
            log.warning("a call begins without the store, which says nothing", extra={"room": self.room})
        call = call_without_store(self.customer.key, self.room, self.desk)
        return Store(store_url(self.settings)), call, recall.Recalled(self.customer.key, [], [], 0), House()

    def at_once(self, fence: int) -> tuple[Store, Call, recall.Recalled, House]:
        """The store, the call's record, what is known, what the desk brings; blocking, as far as the store answers.

        Raises:
            StoreForeign: The database is not ours.
            FencedOut: Another job has the call.
        """
        store = Store(store_url(self.settings))
        quick = store.impatient(PATIENCE_MS)
        try:
            if not is_current(quick):
                open_store(self.settings).close()  # brings it up to date
            if fence:
                call = open_call(quick, customer=self.customer.key, room=self.room, desk=self.desk, fence=fence)
                return store, call, self._known(quick, call), desk_prompt.read(quick, call.desk)
        except StoreUnavailable as e:
            log.warning("a call begins without the store", extra={"room": self.room, "why": e.reason})
        finally:
            quick.close()
        call = call_without_store(self.customer.key, self.room, self.desk)
        if store.is_sqlite:
            return store, call, *self._without_record(store.impatient(PATIENCE_MS))
        return store, call, recall.Recalled(self.customer.key, [], [], 0), House()

    def _without_record(self, quick: Store) -> tuple[recall.Recalled, House]:
        """What can be read: a store that is locked takes nothing, but says what it has."""
        try:
            return recall.read(quick, self.customer.key), desk_prompt.read(quick, self.desk)
        except StoreUnavailable:
            return recall.Recalled(self.customer.key, [], [], 0), House()
        finally:
            quick.close()

    def _known(self, store: Store, call: Call) -> recall.Recalled:
        known = recall.read(store, self.customer.key, but_call=call.id)
        if self.customer.name and known.name is None:
            try:
                origin = profile.Origin(profile.Source.PAGE, call.id)
                profile.put(store, self.customer.key, f"name: {self.customer.name}", origin)
            except Refused as e:  # the block is full, or a person took that name back in this very call
                log.warning("a name was not learnt", extra={"why": e.why})
            known = recall.read(store, self.customer.key, but_call=call.id)
        return known

    async def later(self, call: Call, keeper: Keeper) -> Call:
        """The record of a call that began without the store, once both lease and store are there.

        Raises:
            FencedOut: Another job has the call.
            StoreForeign: The database that came back is not ours.
        """
        while True:
            await asyncio.sleep(AGAIN_S)
            if keeper.fence:
                try:
                    return await asyncio.to_thread(self._later, call, keeper.fence)
                except StoreUnavailable:
                    continue  # said when the call began

    def _later(self, call: Call, fence: int) -> Call:
        store = open_store(self.settings)  # its schema was perhaps never looked at
        try:
            opened = open_call(store, customer=call.customer, room=call.room, desk=call.desk, fence=fence, begun=call)
            self._known(store, opened)
            return opened
        finally:
            store.close()
