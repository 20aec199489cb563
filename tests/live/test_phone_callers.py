"""A customer who telephones is the one who called on the page with that number; a withheld number is nobody."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from livekit import api

from tests.live.conftest import Call
from tests.support.installation import Installation
from tests.support.llm_stub import LLMStub
from voicectl.memory import profile, recall
from voicectl.voice.caller import Caller
from voicectl.voice.speech import Ear, Voice

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]


@asynccontextmanager
async def telephone(installation: Installation, number: str, ear: Ear, voice: Voice) -> AsyncIterator[Caller]:
    """A caller as LiveKit's SIP service brings them: kind and attributes in the token, the dispatch by its rule."""
    settings = installation.settings
    key, secret = settings.key_secret()
    room = f"phone-{secrets.token_hex(6)}"
    rule = api.RoomAgentDispatch(agent_name=settings.agent_name, metadata=json.dumps({"desk": "assistant"}))
    token = (
        api.AccessToken(key, secret)
        .with_identity(f"sip_{secrets.token_hex(4)}")
        .with_kind("sip")
        .with_attributes({"sip.phoneNumber": number})
        .with_grants(api.VideoGrants(room_join=True, room=room))
        .with_room_config(api.RoomConfiguration(agents=[rule]))
    )
    async with Caller(settings.livekit_url, token.to_jwt(), voice=voice, ear=ear) as caller:
        yield caller


async def test_who_telephones_is_known_from_the_page(
    installation: Installation, script: LLMStub, place_call: Call, ear: Ear, voice: Voice
) -> None:
    number = f"+88017{secrets.randbelow(10**8):08d}"
    store = installation.store()
    profile.put(store, number, "name: Farida", profile.Origin(profile.Source.TOOL, None))
    async with place_call(number) as caller:
        await caller.hear()

    async with telephone(installation, number.removeprefix("+"), ear, voice) as caller:  # as some trunks send it
        greeting, _ = await caller.hear()

    calls = recall.read(store, number).calls_before
    store.close()
    assert "welcome back" in greeting.lower()
    assert calls >= 2, "the page's call and the telephone's are one customer's"


async def test_a_withheld_number_is_nobody_and_shares_nothing(
    installation: Installation, script: LLMStub, ear: Ear, voice: Voice
) -> None:
    store = installation.store()
    for _ in range(2):
        async with telephone(installation, "anonymous", ear, voice) as caller:
            greeting, _ = await caller.hear()
            assert "nice to meet you" in greeting.lower()

    known = recall.read(store, "demo:anonymous")
    store.close()
    assert known.calls_before == 0
