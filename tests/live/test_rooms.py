"""Rooms on a real server: one agent each, whoever dispatches what, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys

import psutil
import pytest

from tests.live.conftest import Call
from tests.support.installation import Installation
from tests.support.llm_stub import LLMStub, Reply, by_keyword
from tests.support.waiting import wait_until
from voicectl.memory.config import load
from voicectl.memory.store.leases import open_leases
from voicectl.voice.config import VoiceSettings
from voicectl.voice.events import Attribute
from voicectl.voice.rooms.admin import room_admin
from voicectl.voice.rooms.registry import live_workers

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]
STALL_S = 6.0  # twice the life of a lease


async def test_ready_means_that_a_dispatch_reaches_the_worker(installation: Installation) -> None:
    assert "room=canary-" in installation.log("worker")

    leases = open_leases(load(VoiceSettings, home=installation.home))
    (worker,) = live_workers(leases)
    leases.close()

    assert worker["pid"] == installation.processes["worker"].pid


async def test_the_process_that_takes_a_call_has_loaded_its_models_before_there_is_one(
    installation: Installation, script: LLMStub, place_call: Call, customer: str
) -> None:
    def warm() -> set[int]:
        children = psutil.Process(installation.processes["worker"].pid).children(recursive=True)
        return {c.pid for c in children if any("ctranslate2" in m.path for m in c.memory_maps())}

    await wait_until(lambda: "" if warm() else "no job process has the ear loaded", 60)
    before = warm()
    async with place_call(customer) as caller:
        await caller.hear()
        (agent,) = [p for p in caller.room.remote_participants.values() if p.identity in caller.agents()]

    assert int(agent.attributes[Attribute.PID]) in before


async def test_ten_more_dispatches_change_nothing_for_a_call(
    installation: Installation, script: LLMStub, place_call: Call, customer: str
) -> None:
    async with place_call(customer) as caller:
        await caller.hear()
        before = caller.agents()
        async with room_admin(installation.settings) as admin:
            for _ in range(10):
                await admin.dispatch(caller.room.name, "voicectl", {})
        await caller.say("Are you still there?")
        answer, _ = await caller.hear()

        assert caller.agents() == before
    assert answer.strip()


async def test_after_a_call_its_room_is_gone_and_its_lease_free(
    installation: Installation, script: LLMStub, place_call: Call, customer: str
) -> None:
    async with place_call(customer) as caller:
        await caller.hear()
        room = caller.room.name
    leases = open_leases(load(VoiceSettings, home=installation.home))

    await wait_until(lambda: "" if leases.read(f"room:{room}").state == "free" else "still held", 15)
    async with room_admin(installation.settings) as admin:
        assert room not in [r.name for r in await admin.rooms()]
    leases.close()


async def test_a_killed_worker_is_replaced_and_the_call_goes_on(
    installation: Installation, script: LLMStub, place_call: Call, customer: str
) -> None:
    async with place_call(customer) as caller:
        await caller.hear()
        os.kill(installation.processes.pop("worker").pid, signal.SIGKILL)
        installation.start("worker")  # the supervisor's part
        sorry, _ = await caller.hear(start_s=60)

    assert "cut off" in sorry.lower()


async def test_a_second_worker_of_the_same_installation_is_refused(installation: Installation) -> None:
    second = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "voicectl.cli.main", "run", "worker"),
        env=installation.environment,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await asyncio.wait_for(second.communicate(), 60)

    assert second.returncode == 5
    assert f"pid {installation.processes['worker'].pid}" in said.decode()


async def test_a_worker_that_stops_hands_its_call_over_and_the_customer_stays(
    installation: Installation, script: LLMStub, place_call: Call, customer: str
) -> None:
    script.script = by_keyword({"two": Reply("The second is done.")})
    async with place_call(customer) as caller:
        await caller.hear()
        old = installation.processes.pop("worker")
        old.send_signal(signal.SIGTERM)
        await asyncio.to_thread(old.wait, 60)  # it waits for calls to finish, then gives them up
        installation.start("worker")  # the supervisor's part
        sorry, _ = await caller.hear(start_s=60)
        await caller.say("This is number two.")
        answer, _ = await caller.hear()

        assert caller.disconnect_reason is None
    assert "cut off" in sorry.lower()
    assert "second" in answer.lower()


async def test_a_store_that_stands_still_costs_no_call_its_agent(
    installation: Installation, script: LLMStub, place_call: Call, customer: str
) -> None:
    async with place_call(customer) as caller:
        await caller.hear()
        before = caller.agents()
        writer = sqlite3.connect(installation.home / "leases.db", isolation_level=None)
        writer.execute("begin immediate")
        await asyncio.sleep(STALL_S)
        writer.execute("rollback")
        writer.close()
        await caller.say("Are you still there?")
        answer, _ = await caller.hear()
        await asyncio.sleep(STALL_S)

        assert caller.agents() == before
    assert answer.strip()
    assert "cut off" not in answer.lower()
