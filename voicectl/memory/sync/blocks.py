"""One customer's profile and its blocks in Letta: read, take edits over, render, put, read back.

The profile is the truth and Letta's blocks are its view and its inbox. What an operator saves between our read and our
put, about 60 ms, is lost: Letta has no compare-and-set. Not here: texts and their differences (text.py).
"""

from __future__ import annotations

import logging

from voicectl.memory import profile
from voicectl.memory.backends import NotThere
from voicectl.memory.errors import Refused
from voicectl.memory.identity import hashed
from voicectl.memory.profile import Block, Line, Origin, Source
from voicectl.memory.sync import ledger, ledger_agents
from voicectl.memory.sync.agents import ensure_agent, lost
from voicectl.memory.sync.ledger_agents import BlockRow
from voicectl.memory.sync.states import Point
from voicectl.memory.sync.text import Edit, edits, render
from voicectl.memory.sync.tools import Tools

log = logging.getLogger(__name__)


def sync_blocks(tools: Tools, customer: str) -> int:
    """Make profile and blocks equal. Returns how many edits were found in Letta.

    A customer without an agent has none made: that is for the first turn.

    Raises:
        BackendFault: Letta does not answer or refuses; the profile stays as it is.
        StoreUnavailable: The store does not answer.
        FencedOut: Somebody else has the customer's lease.
    """
    if ledger_agents.agent(tools.store, customer) is None:
        return 0
    generation = ledger.generation(tools.store, customer)
    ensure_agent(tools, customer)
    known = ledger_agents.blocks(tools.store, customer)
    try:
        found = tools.backend.get_blocks({label: row.block_id for label, row in known.items()})
    except NotThere:
        # Never "empty": a block or the agent was deleted in Letta. It is looked up and made whole again next time.
        lost(tools, customer)
        raise
    taken = 0
    for label, row in known.items():
        taken += _take_edits(tools, customer, generation, Block(label), row, found[label])
    if taken:
        tools.signal(Point.EDITS_LOGGED)
        log.info("edits came back from Letta", extra={"customer": hashed(customer), "count": taken})
    seen = ledger_agents.last_op(tools.store, customer)
    present = profile.lines(tools.store, customer)
    for label, row in known.items():
        _put(tools, customer, label, row, found[label], render(present, Block(label)))
    ledger_agents.blocks_checked(tools.store, customer, seen)
    return taken


def _take_edits(tools: Tools, customer: str, generation: int, block: Block, row: BlockRow, text: str) -> int:
    if text in (row.exchanged, row.sending):
        return 0  # `sending`: our own put whose answer we did not live to see
    refused: list[str] = []
    found = edits(row.exchanged, text)
    for edit in found:
        try:
            _take(tools, customer, block, edit, Origin(Source.ADE, generation=generation))
        except Refused as e:
            refused.append(f"{edit.new} ({e.why})")
            log.error(
                "a line written in Letta was not taken",
                extra={"customer": hashed(customer), "block": block, "why": e.why},
            )
    ledger_agents.block(tools.store, customer, block, refused="\n".join(refused))
    return len(found) - len(refused)


def _take(tools: Tools, customer: str, block: Block, edit: Edit, origin: Origin) -> None:
    old = _line(profile.lines(tools.store, customer), block, edit.old)
    if edit.new is None:
        if old is not None:
            profile.remove(tools.store, customer, old.op_id, origin)
        return
    made = profile.put(tools.store, customer, edit.new, origin, block)
    # `put` took the old line's place if both are about the same thing; else the old line is still there.
    if old is not None and old.op_id != made and _line(profile.lines(tools.store, customer), block, edit.old):
        profile.remove(tools.store, customer, old.op_id, origin)


def _line(present: list[Line], block: Block, text: str | None) -> Line | None:
    if text is None:
        return None
    return next((x for x in present if x.block == block and x.text.casefold() == text.casefold()), None)


def _put(tools: Tools, customer: str, label: str, row: BlockRow, found: str, wanted: str) -> None:
    if found == wanted:
        if row.exchanged != wanted or row.sending is not None:
            ledger_agents.block(tools.store, customer, label, exchanged=wanted, sending=None)
        return
    # What we read is what both sides have now: a crash below must not take it for an edit a second time.
    ledger_agents.block(tools.store, customer, label, exchanged=found, sending=wanted)
    tools.signal(Point.BLOCK_INTENT)
    tools.renew()
    tools.backend.put_block(row.block_id, wanted)
    tools.signal(Point.BLOCK_PUT)
    ledger_agents.block(tools.store, customer, label, exchanged=wanted, sending=None)
    back = tools.backend.get_blocks({label: row.block_id})[label]
    if back != wanted:
        # Somebody saved after our put. The next look takes it for the edit it is.
        log.info("a block changed right after it was put", extra={"customer": hashed(customer), "block": label})
