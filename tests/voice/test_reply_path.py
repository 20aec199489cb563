"""Nothing of memory is on the reply path: replies come while store, syncer or Letta are held, and no turn is lost.

Order, not time: what a reply must not wait for is held shut until the replies are there. A reply that waited for it
would never come. How long replies take is measured by bench/reply_path.py.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection

from bench.moody_letta import MoodyLetta, syncer
from bench.our_turns import CUSTOMER, OurTurns
from tests.support.waiting import wait_for
from voicectl.memory import history
from voicectl.memory.config import MemorySettings, load
from voicectl.memory.recorder import Journal, Signals
from voicectl.memory.store.engine import Store, open_store, store_url

pytestmark = [pytest.mark.unit, pytest.mark.timeout(60)]
TURNS = 12  # more than the event loop has threads for blocking work on two cores


class HangingStore(Store):
    """A store whose reads hang while the gate is shut, as on a network that swallows packets."""

    def __init__(self, settings: MemorySettings) -> None:
        open_store(settings).close()
        super().__init__(store_url(settings))
        self.gate = threading.Event()
        self.gate.set()
        self.hanging = 0

    @contextmanager
    def read(self) -> Iterator[Connection]:
        if not self.gate.is_set():
            self.hanging += 1
            self.gate.wait(60)
        with super().read() as connection:
            yield connection


@asynccontextmanager
async def running(ours: OurTurns) -> AsyncIterator[OurTurns]:
    await ours.open()
    try:
        yield ours
    finally:
        await ours.close()


async def answered(ours: OurTurns, count: int = TURNS) -> None:
    """Run turns to their replies, with one request to the model for each."""
    before = ours.llm.calls
    for number in range(count):
        await ours.turn(f"turn {number}")
    assert ours.llm.calls - before == count


def all_recorded(ours: OurTurns) -> str:
    missing = [x for x in ours.handed_over if x not in ours.recorded()]
    return f"not in the store: {missing}" if missing else ""


async def kept_in_order(ours: OurTurns, count: int = TURNS) -> None:
    """Every turn, the customer's and the agent's, is in the store once and in order."""
    await asyncio.to_thread(wait_for, lambda: all_recorded(ours), 10)
    assert ours.recorded() == ours.handed_over
    assert len(ours.handed_over) == 2 * count


async def test_replies_come_while_another_process_holds_the_stores_lock(tmp_path: Path) -> None:
    async with running(OurTurns(tmp_path)) as ours:
        await asyncio.to_thread(ours.recorder.flush, 10)
        before = ours.rows()
        with ours.store.write():
            await answered(ours)
            assert await asyncio.to_thread(ours.recorder.flush, 10)
            assert ours.rows() == before, "the store was not locked"
            assert Journal(tmp_path / "journal" / f"{ours.call.id}.jsonl").waiting

        await kept_in_order(ours)


async def test_names_that_are_said_while_the_store_is_locked_are_learnt_in_order_once_it_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = load(MemorySettings, home=tmp_path)
    open_store(settings).close()
    async with running(OurTurns(tmp_path, Store(store_url(settings), busy_ms=50))) as ours:
        with ours.store.write():
            await ours.turn("My name is Oliver.")
            await ours.turn("My name is Daniel.")
            await asyncio.to_thread(wait_for, lambda: "" if "a name " in caplog.text else "nothing was tried", 10)

        await asyncio.gather(*ours.tasks)
        assert [v.line for v in history.history(ours.store, CUSTOMER)] == ["name: Oliver", "name: Daniel"]
        assert "name: Daniel" in ours.knowledge.text()


async def test_replies_come_while_no_turn_can_be_made_durable(tmp_path: Path) -> None:
    gate = threading.Event()
    async with running(OurTurns(tmp_path, signals=Signals(before_commit=lambda: gate.wait(60) and None))) as ours:
        await answered(ours)
        assert ours.rows() == 0, "the writer was not held"
        assert ours.recorder.pending == len(ours.handed_over)
        gate.set()

        await kept_in_order(ours)


async def test_replies_come_while_memory_cannot_be_read_and_threads_are_left_for_them(
    tmp_path: Path, settings: MemorySettings
) -> None:
    store = HangingStore(settings)
    async with running(OurTurns(tmp_path, store)) as ours:
        store.gate.clear()
        try:
            await answered(ours)
            hanging = store.hanging
            # Addresses for the next reply's connections are resolved in these threads.
            await asyncio.get_running_loop().getaddrinfo("localhost", 80)
        finally:
            store.gate.set()
        await kept_in_order(ours)

    assert hanging == 1, "one read may wait, not one for each turn"
    store.close()


@pytest.mark.process
@pytest.mark.parametrize("mood", ["hung", "500"])
async def test_replies_come_while_letta_is_out_of_order(tmp_path: Path, mood: str) -> None:
    async with running(OurTurns(tmp_path)) as ours:
        with MoodyLetta() as letta, syncer(tmp_path, letta.url):
            await answered(ours, 1)
            await asyncio.to_thread(wait_for, lambda: "" if letta.markers() else "nothing is mirrored", 30)
            letta.mood, asked = mood, letta.asked
            await ours.turn("is anybody there?")
            await asyncio.to_thread(wait_for, lambda: "" if letta.asked > asked else "Letta is not asked", 30)
            mirrored = len(letta.markers())
            await answered(ours)
            assert len(letta.markers()) == mirrored, "Letta was not out of order"

            await kept_in_order(ours, TURNS + 2)


@pytest.mark.process
async def test_replies_come_while_the_syncer_is_stopped_in_the_middle_of_a_write(tmp_path: Path) -> None:
    async with running(OurTurns(tmp_path)) as ours:
        with MoodyLetta() as letta, syncer(tmp_path, letta.url) as mirror:
            await answered(ours, 1)
            await asyncio.to_thread(wait_for, lambda: "" if letta.markers() else "nothing is mirrored", 30)
            mirror.stop_in_a_write()
            await ours.turn("something to write about")
            await asyncio.to_thread(wait_for, lambda: "" if mirror.stopped else "the syncer runs", 30)
            before = ours.rows()
            await answered(ours)
            assert await asyncio.to_thread(ours.recorder.flush, 10)
            assert mirror.stopped
            assert ours.rows() == before, "the syncer did not hold the store's lock"
            mirror.go_on()

            await kept_in_order(ours, TURNS + 2)
            expected = 2 * (TURNS + 2)
            await asyncio.to_thread(
                wait_for, lambda: "" if len(letta.markers()) == expected else f"mirrored: {len(letta.markers())}", 30
            )
            assert len(set(letta.markers())) == expected
