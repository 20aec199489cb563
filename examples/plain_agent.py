"""Somebody else's LiveKit agent, given memory: the five lines marked (+) are all that was added.

Run it beside an installation (`voicectl up`):

    VOICE_HOME=.voice uv run python -m livekit.agents start examples/plain_agent.py

then dispatch `front-desk` into a room as you do with any agent. Who the customer is comes from the participant's
attribute `voice.customer` in the token that you mint, or from the phone number of a SIP call.
"""

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, JobProcess

from voicectl.memory.config import load
from voicectl.voice import accept_call, engines, join_call  # (+)
from voicectl.voice.config import VoiceSettings


def prewarm(process: JobProcess) -> None:
    """Ears and a voice on this machine, loaded before a call comes; your own plugins go here."""
    process.userdata["speech"] = engines.preload(load(VoiceSettings))


# The default load function refuses calls while the machine's processor is busy; on a small machine it always is.
server = AgentServer(host="127.0.0.1", port=0, setup_fnc=prewarm, initialize_process_timeout=60, load_fnc=lambda: 0.0)


@server.rtc_session(agent_name="front-desk", on_request=accept_call)  # (+) on_request: one agent in a room, always
async def entry(ctx: JobContext) -> None:
    call = await join_call(ctx)  # (+) who is on the line, and what is known of them

    speech = engines.build(call.settings, preloaded=ctx.proc.userdata["speech"])
    session = AgentSession(stt=speech.stt, llm=speech.llm, tts=speech.tts, vad=speech.vad)
    agent = Agent(
        instructions=call.instructions("You are the front desk of a small hotel."),  # (+) memory in the prompt
        tools=call.tools,  # (+) remember, forget_fact, recall
    )
    await call.start(session, agent)  # instead of session.start(agent, room=ctx.room)
