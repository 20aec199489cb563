"""`voicectl rooms` and `voicectl dispatch` on a real installation, while a call is on that must not notice."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from livekit import api, rtc
from typer.testing import CliRunner

from tests.live.conftest import Call
from tests.support.installation import FOREIGN, Installation
from tests.support.llm_stub import LLMStub
from tests.support.waiting import wait_until
from voicectl.cli.faults import explained
from voicectl.cli.main import app
from voicectl.memory import room_log
from voicectl.voice.rooms.admin import room_admin

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]
PAUSE_S = 3.0  # in the words of a voice that starts while the next job process is made ready, on a busy machine


async def voicectl(installation: Installation, *words: str, **settings: str) -> tuple[int, str, str]:
    """A command in a process of its own: exit code, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "voicectl.cli.main", *words),
        env={**installation.environment, **settings},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, told = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, said.decode(), told.decode()


async def at_once(installation: Installation, *words: str) -> tuple[int, str]:
    """A command in this process: it begins without the second that an interpreter takes to load."""
    own = {k: v for k, v in installation.environment.items() if k.startswith(FOREIGN)}

    def invoke() -> tuple[int, str]:
        result = CliRunner().invoke(app, words, env={**os.environ, **own})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            answer = explained(result.exception)
            assert answer is not None, result.exception
            return answer.code, answer.text
        return result.exit_code, result.output

    return await asyncio.to_thread(invoke)


@asynccontextmanager
async def joined(installation: Installation, room: str, identity: str, kind: str = "") -> AsyncIterator[rtc.Room]:
    """Somebody in a room who came past our token endpoint."""
    key, secret = installation.settings.key_secret()
    token = api.AccessToken(key, secret).with_identity(identity)
    token = token.with_grants(api.VideoGrants(room_join=True, room=room))
    if kind:
        token = token.with_kind(kind)  # type: ignore[arg-type]
    there = rtc.Room()
    await there.connect(installation.livekit_url, token.to_jwt())
    try:
        yield there
    finally:
        await there.disconnect()


async def make_room(installation: Installation, name: str, desk: str = "") -> None:
    key, secret = installation.settings.key_secret()
    metadata = json.dumps({"voice.desk": desk}) if desk else ""
    async with api.LiveKitAPI(installation.livekit_url, key, secret) as server:
        await server.room.create_room(api.CreateRoomRequest(name=name, metadata=metadata, empty_timeout=120))


async def test_a_call_goes_on_undisturbed_whatever_an_operator_asks_of_its_room(
    installation: Installation, script: LLMStub, place_call: Call, customer: str
) -> None:
    mark = secrets.token_hex(4)
    async with place_call(customer) as caller:
        await caller.hear()
        (agent,) = caller.agents()
        room, sid = caller.room.name, await caller.room.sid
        own = caller.room.local_participant.identity

        code, said, _ = await voicectl(installation, "rooms", "list", "--json")
        assert code == 0
        (seen,) = [r for r in json.loads(said)["rooms"] if r["name"] == room]
        assert (seen["sid"], seen["state"], seen["customers"]) == (sid, "audible", [own])
        assert [(a["identity"], a["is_holder"], a["audible"]) for a in seen["agents"]] == [(agent, True, True)]
        assert (seen["lease"]["owner"], seen["call"]["state"], seen["call"]["desk"]) == (agent, "open", "assistant")
        code, said = await at_once(installation, "rooms", "show", sid)
        assert (code, f"room name  {room}\nroom sid   {sid}\nstate      audible\n" in said) == (0, True)

        for identity, why in {agent: "it holds the room", own: "it is a customer"}.items():
            code, said = await at_once(installation, "rooms", "evict", room, identity, "--yes")
            assert (code, why in said) == (5, True), said
        await evict_a_rival(installation, room)

        code, said = await at_once(installation, "rooms", "dispatch", room)
        assert (code, f"nothing is dispatched: {agent} has the room" in said) == (0, True), said
        await make_room(installation, f"left-{mark}", desk="assistant")
        await make_room(installation, f"theirs-{mark}")
        code, said = await at_once(installation, "rooms", "clean", "--yes", "--json")
        rows: dict[str, Any] = {r["room"]: r for r in json.loads(said)["rooms"]}
        assert (rows[f"left-{mark}"]["deleted"], rows[f"theirs-{mark}"]["why"]) == (True, "it is not ours")
        assert (rows[room]["deleted"], rows[room]["why"]) == (False, f"a customer is in it: {own}")

        code, said, _ = await voicectl(installation, "dispatch", "--canary", "--json")
        reached = json.loads(said)
        assert (code, reached["agent_name"], reached["registered"]) == (0, "voicectl", ["voicectl"])
        other = {"VOICE_AGENT_NAME": f"other-{mark}"}
        code, _, told = await voicectl(installation, "dispatch", "--canary", "--wait-s", "2", **other)
        assert (code, f"'other-{mark}' reached no worker" in told, "registered as 'voicectl'" in told) == (
            1,
            True,
            True,
        )

        await caller.say("Are you still there?")
        answer, _ = await caller.hear()
        assert answer.strip()
        assert (caller.agents(), await caller.room.sid, caller.disconnect_reason) == ([agent], sid, None)

        code, said = await at_once(installation, "rooms", "evict", room, agent, "--yes", "--holder")
        assert (code, "it had the room; a reconciler gives the customer another one" in said) == (0, True), said
        sorry, _ = await caller.hear(start_s=20, end_silence_s=PAUSE_S)
        assert "cut" in sorry.lower()
        assert (len(caller.agents()), await caller.room.sid, caller.disconnect_reason) == (1, sid, None)
        assert caller.agents() != [agent]
    async with room_admin(installation.settings) as admin:
        left = {r.name for r in await admin.rooms()}
        assert f"left-{mark}" not in left
        assert f"theirs-{mark}" in left
        assert [r for r in left if r.startswith("canary-")] == []
        await admin.delete_room(f"theirs-{mark}")


async def evict_a_rival(installation: Installation, room: str) -> None:
    """By command, before the room's own agent does it, which takes two seconds."""
    for _ in range(5):
        rival = f"agent-{secrets.token_hex(4)}"
        async with joined(installation, room, rival, "agent") as there:
            code, said = await at_once(installation, "rooms", "evict", room, rival, "--yes")
            await wait_until(lambda there=there: "still in" if there.isconnected() else "")  # type: ignore[misc]
        if code == 0:
            break
        assert (code, "there are:" in said) == (4, True), said
    else:
        pytest.fail("the room's agent was always faster")
    store = installation.store()
    by_hand = [n.theirs for n in room_log.recent(store, room=room) if n.ours == "voicectl"]
    store.close()
    assert by_hand == [rival]


async def test_a_customer_without_an_agent_gets_one_by_command_and_it_says_so_when_it_is_audible(
    installation: Installation, script: LLMStub
) -> None:
    room = f"call-{secrets.token_hex(4)}"
    await make_room(installation, room, desk="assistant")
    async with joined(installation, room, "robot-agent-abbott") as there:
        code, said = await at_once(installation, "rooms", "dispatch", room, "--wait-s", "20")

        assert (code, f"{room} ({await there.sid}) is audible: agent-" in said) == (0, True), said
        kinds = [p.kind for p in there.remote_participants.values()]
        assert kinds == [rtc.ParticipantKind.PARTICIPANT_KIND_AGENT]
    async with room_admin(installation.settings) as admin:
        await admin.delete_room(room)
