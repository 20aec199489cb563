"""Forgetting a customer in a whole installation: the store and Letta, the rooms of LiveKit, the files of our own Letta.

Not here: the order and what a crash leaves (memory/forget.py), asking for confirmation (cli/commands/memory_data.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from voicectl.cli.errors import CliFault
from voicectl.cli.system import letta, letta_install, letta_server
from voicectl.cli.system.letta_install import LettaOff
from voicectl.cli.system.letta_processes import LettaServer
from voicectl.cli.system.letta_scrub import scrub
from voicectl.cli.system.supervisor import LOG_BACKUPS, LOG_BYTES
from voicectl.memory.config import MemorySettings
from voicectl.memory.forget import Forgetting, Receipt
from voicectl.memory.in_letta import InLetta
from voicectl.memory.store.engine import Store
from voicectl.memory.store.leases import open_leases
from voicectl.memory.sync.reach import letta_if_any
from voicectl.voice.config import VoiceSettings
from voicectl.voice.errors import ServerSilent


def forget(settings: VoiceSettings, store: Store, customer: str, *, end_calls: bool) -> Receipt:
    """Forget a customer, or finish what an earlier run began.

    Args:
        settings: The settings.
        store: The store.
        customer: Customer key.
        end_calls: End a call that is on; else it is a reason to refuse.

    Raises:
        CustomerUnknown: There is no such customer, and none was forgotten.
        Refused: The customer is on a call; nothing was changed.
        StoreUnavailable: The store does not answer; run it again.
    """
    leases = open_leases(settings)
    try:
        with letta_if_any(settings) as backend:
            work = Forgetting(store, leases, settings.home, backend, lambda rooms: _close(settings, rooms))
            receipt = work.run(customer, end_calls=end_calls)
    finally:
        leases.close()
    if receipt.letta == InLetta.CLEAR and letta.is_ours(settings):
        receipt.left += _scrub(settings)
    receipt.kept = kept(settings, store, receipt)
    return receipt


def kept(settings: MemorySettings, store: Store, receipt: Receipt) -> list[str]:
    """What stays, and for how long."""
    found = [
        f"the hash {receipt.stands_for} with generation {receipt.generation}, by which what turns up late is refused",
        f"logs in {settings.home / 'logs'}: customers by hash; {LOG_BACKUPS + 1} files of {LOG_BYTES} a process",
        "backups that you have made of any of this",
    ]
    if not store.is_sqlite:
        found.append(f"write-ahead log, dead rows and backups of {store.where}: as long as that server keeps them")
    if receipt.letta != InLetta.NONE and not (isinstance(settings, VoiceSettings) and letta.is_ours(settings)):
        found.append(f"write-ahead log and backups of Letta at {settings.letta_base_url}: as long as that server keeps")
        if receipt.conversations:
            words = f"rows of {receipt.conversations} deleted conversations, which that Letta hides and does not erase"
            found.append(f"{words}: as long as the agents of the desks exist")
    return found


def as_json(receipt: Receipt) -> dict[str, Any]:
    """The receipt as plain values."""
    return asdict(receipt)


def _close(settings: VoiceSettings, rooms: Sequence[str]) -> str:
    from voicectl.voice.rooms.admin import room_admin

    async def close() -> None:
        async with room_admin(settings) as admin:
            for room in rooms:
                await admin.delete_room(room)

    try:
        asyncio.run(close())
    except ServerSilent as e:
        return str(e)
    return ""


def _scrub(settings: VoiceSettings) -> list[str]:
    try:
        access = letta_server.access_of(settings)
        scrub(LettaServer(letta_install.files(settings.home), access, settings.home, lambda _line: None))
    except (LettaOff, CliFault, OSError) as e:
        return [f"the files of Letta's database still hold deleted rows; run it again with Letta up: {e}"]
    return []
