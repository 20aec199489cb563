"""Rooms on a real server: one agent each, whoever dispatches what, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from contextlib import AsyncExitStack

import aiohttp
import psutil
import pytest
from livekit import api
from sqlalchemy import select

from tests.live.conftest import Call
from tests.support.installation import Installation
from tests.support.llm_stub import LLMStub, Reply, by_keyword
from tests.support.locked import locked
from tests.support.waiting import wait_until
from voicectl.memory import profile, recall
from voicectl.memory.config import load
from voicectl.memory.store.leases import open_leases
from voicectl.memory.store.schema import calls, turns
from voicectl.voice.caller import Caller, alike
from voicectl.voice.config import VoiceSettings
from voicectl.voice.events import Attribute, EndReason
from voicectl.voice.rooms.admin import room_admin
from voicectl.voice.rooms.registry import live_workers
from voicectl.voice.speech import Ear, Voice

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]
STALL_S = 6.0  # twice the life of a lease
PAUSE_S = 3.0  # in the words of a voice that starts while the next job process is made ready, on a busy machine


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


async def webhooks(installation: Installation) -> dict[str, float]:
    """How many LiveKit sent, by what became of them."""
    async with aiohttp.ClientSession() as client, client.get(f"{installation.url}/metrics") as answer:
        found = re.findall(r'voice_webhooks_total\{outcome="(\w+)"\} (\S+)', await answer.text())
    return {outcome: float(number) for outcome, number in found}


async def test_after_a_call_its_room_is_gone_and_its_lease_free(
    installation: Installation, script: LLMStub, place_call: Call, customer: str
) -> None:
    reported = await webhooks(installation)
    async with place_call(customer) as caller:
        await caller.hear()
        room = caller.room.name
    leases = open_leases(load(VoiceSettings, home=installation.home))

    def still_held() -> str:
        lease = leases.read(f"room:{room}")
        return "" if lease is not None and lease.state == "free" else f"the lease is {lease}"

    await wait_until(still_held, 15)
    async with room_admin(installation.settings) as admin:
        assert room not in [r.name for r in await admin.rooms()]
    leases.close()

    async def unreported() -> str:
        """The room began and ended, customer and agent came and left: the server says so, signed with our key."""
        now = await webhooks(installation)
        assert now["refused"] == reported["refused"]
        return "" if now["woke"] >= reported["woke"] + 6 else f"webhooks: {now}, before the call {reported}"

    await wait_until(unreported, 15)


async def test_a_killed_worker_is_replaced_and_the_call_goes_on(
    installation: Installation, script: LLMStub, place_call: Call, customer: str
) -> None:
    async with place_call(customer) as caller:
        await caller.hear()
        os.kill(installation.processes.pop("worker").pid, signal.SIGKILL)
        installation.start("worker")  # the supervisor's part
        sorry, _ = await caller.hear(start_s=60, end_silence_s=PAUSE_S)

    assert "cut" in sorry.lower()


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
    script.script = by_keyword({"pizza": Reply("Here is your pizza.")})
    async with place_call(customer) as caller:
        await caller.hear()
        await caller.say("My name is Daniel.")
        await caller.hear()
        old = installation.processes.pop("worker")
        old.send_signal(signal.SIGTERM)
        await asyncio.to_thread(old.wait, 60)  # it waits for calls to finish, then gives them up
        installation.start("worker")  # the supervisor's part
        sorry, _ = await caller.hear(start_s=60, end_silence_s=PAUSE_S)
        await caller.say("I would like a pizza.")
        answer, _ = await caller.hear()

        assert caller.disconnect_reason is None
    assert "cut" in sorry.lower()
    assert "pizza" in answer.lower()
    async with place_call(customer) as caller:
        greeting, _ = await caller.hear()
    store = installation.store()
    name = recall.read(store, customer).name
    store.close()
    assert name, "the name that was told before the restart"
    assert "welcome back" in greeting.lower(), "who calls back after the restart is known"
    assert any(name in line.text for line in caller.transcripts), "and called by name"


async def test_a_store_that_stands_still_costs_no_call_its_agent_and_no_turn(
    installation: Installation, script: LLMStub, place_call: Call, customer: str
) -> None:
    reply = "The pizza is on its way."
    script.script = by_keyword({}, otherwise=reply)
    async with place_call(customer) as caller:
        await caller.hear()
        before = caller.agents()
        with locked(installation.home / "memory.db", installation.home / "leases.db"):
            stalled = asyncio.get_running_loop().time()
            await caller.say("Where is my pizza?")
            during, _ = await caller.hear()
            journal = list((installation.home / "journal").glob("*.jsonl"))
            await asyncio.sleep(STALL_S - (asyncio.get_running_loop().time() - stalled))
        await caller.say("Is the pizza hot?")
        after, _ = await caller.hear()
        await asyncio.sleep(STALL_S)

        assert caller.agents() == before
        assert caller.disconnect_reason is None
    assert [alike(words, reply) for words in (during, after)] == [True, True], (during, after)
    assert journal, "the store was not locked"
    await wait_until(lambda: not_kept(installation, customer, user=2, assistant=3), 15)


async def test_a_call_that_begins_while_the_store_is_locked_is_answered_and_nothing_of_it_is_lost(
    installation: Installation, script: LLMStub, place_call: Call, customer: str
) -> None:
    reply = "The pizza is on its way."
    script.script = by_keyword({}, otherwise=reply)
    store = installation.store()
    profile.put(store, customer, "name: Daniel", profile.Origin(profile.Source.OPERATOR))
    store.close()

    def seen(caller: Caller) -> dict[str, str]:
        (agent,) = [p for p in caller.room.remote_participants.values() if p.identity in caller.agents()]
        return dict(agent.attributes)

    with locked(installation.home / "memory.db", installation.home / "leases.db"):
        async with place_call(customer) as caller:
            greeting, _ = await caller.hear()
            during = seen(caller)
            await caller.say("Where is my pizza?")
            answer, _ = await caller.hear()
    async with place_call(customer) as caller:  # the lock is gone, and so is the first call
        await caller.hear()

    assert "daniel" in greeting.lower(), "what is locked can still be read"
    assert (during[Attribute.FENCE], during[Attribute.MEMORY]) == ("0", "away")
    assert alike(answer, reply)
    await wait_until(lambda: not_kept(installation, customer, user=1, assistant=3), 40)


async def test_a_call_that_began_without_the_store_takes_its_lease_when_it_is_back(
    installation: Installation, script: LLMStub, place_call: Call, customer: str
) -> None:
    leases = open_leases(load(VoiceSettings, home=installation.home))
    async with AsyncExitStack() as line:
        with locked(installation.home / "memory.db", installation.home / "leases.db"):
            caller = await line.enter_async_context(place_call(customer))
            await caller.hear()
            before = caller.agents()
        (agent,) = [p for p in caller.room.remote_participants.values() if p.identity in before]

        def still_away() -> str:
            seen = agent.attributes
            return "" if seen[Attribute.FENCE] != "0" and not seen.get(Attribute.MEMORY) else str(seen)

        await wait_until(still_away, 10)
        held = leases.read(f"room:{caller.room.name}")
        await caller.say("Are you there?")
        await caller.hear()

        assert held is not None
        assert (held.owner, str(held.fence)) == (agent.identity, agent.attributes[Attribute.FENCE])
        assert caller.agents() == before
    leases.close()
    await wait_until(lambda: not_kept(installation, customer, user=1, assistant=2), 15)


async def test_who_waited_too_long_for_a_line_hears_so_and_is_let_go(
    installation: Installation, ear: Ear, voice: Voice, customer: str
) -> None:
    key, secret = installation.settings.key_secret()
    room = f"line-{customer.partition(':')[2]}"
    token = (  # without a desk in its metadata the room is nobody's to serve
        api.AccessToken(key, secret)
        .with_identity(room)
        .with_attributes({str(Attribute.CUSTOMER): customer})
        .with_grants(api.VideoGrants(room_join=True, room=room))
    )

    async with Caller(installation.livekit_url, token.to_jwt(), voice=voice, ear=ear) as caller:
        async with room_admin(installation.settings) as admin:
            await admin.dispatch(room, "voicectl", {"busy": "1"})  # as a reconciler does after half a minute
        heard, _ = await caller.hear(start_s=20)
        await wait_until(lambda: "" if caller.disconnect_reason else "still on the line")

    assert "lines are busy" in heard.lower()
    assert caller.disconnect_reason == "ROOM_DELETED"
    store = installation.store()
    with store.read() as connection:
        ended = connection.execute(select(calls.c.state, calls.c.reason).where(calls.c.customer == customer)).all()
    store.close()
    assert [tuple(row) for row in ended] == [("ended", EndReason.BUSY)]


def not_kept(installation: Installation, customer: str, **wanted: int) -> str:
    """Which turns of the customer's calls are not in the store."""
    store = installation.store()
    statement = select(turns.c.role).join(calls).where(calls.c.customer == customer)
    with store.read() as connection:
        found = list(connection.execute(statement).scalars())
    store.close()
    return "" if all(found.count(role) >= number for role, number in wanted.items()) else f"kept: {found}"
