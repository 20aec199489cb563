"""A test of a LiveKit agent by voice: it is called, spoken to, and heard, without a provider's key.

    LIVEKIT_URL=ws://127.0.0.1:7880 LIVEKIT_API_KEY=devkey LIVEKIT_API_SECRET=secret \
        uv run pytest -o asyncio_mode=auto examples/test_front_desk.py

The agent is `plain_agent.py` of this folder; yours is tested in the same way, whatever it is made of.
"""

from voicectl.voice.pytest_plugin import CallAgent


async def test_the_front_desk_knows_its_guest_when_he_calls_again(call_agent: CallAgent) -> None:
    guest = {"voice.customer": "user:daniel"}
    async with call_agent("front-desk", attributes=guest) as caller:
        await caller.hear(start_s=30)
        await caller.say("Hello. My name is Daniel.")
        await caller.hear()
        await caller.say("I want a room with a window.")
        answer, heard = await caller.hear()
    assert answer
    assert heard.first_audible_s < 20

    async with call_agent("front-desk", attributes=guest) as caller:
        greeting, _ = await caller.hear(start_s=30)
    assert "daniel" in greeting.lower()
