"""The other arm of spoken_path.py: a plain LiveKit agent, as somebody would write it. Imports nothing of ours.

    PLAIN_DEEPGRAM_URL=… PLAIN_CARTESIA_URL=… OPENAI_BASE_URL=… python -m livekit.agents start bench/plain_spoken.py

Engines, turn handling and session options are those that our worker sets (voicectl/voice/engines), written out.
"""

import os

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, inference
from livekit.plugins import cartesia, deepgram, openai

server = AgentServer(host="127.0.0.1", port=0, num_idle_processes=2, load_fnc=lambda: 0.0)


@server.rtc_session(agent_name="plain")
async def entry(ctx: JobContext) -> None:
    session: AgentSession[None] = AgentSession(
        stt=deepgram.STT(model="nova-3", base_url=os.environ["PLAIN_DEEPGRAM_URL"], mip_opt_out=True),
        llm=openai.LLM(model="scripted"),
        tts=cartesia.TTS(base_url=os.environ["PLAIN_CARTESIA_URL"]),
        vad=inference.VAD(min_silence_duration=0.4),
        turn_handling={
            "turn_detection": inference.TurnDetector(version="v1-mini"),
            "endpointing": {"mode": "fixed", "min_delay": 0.3, "max_delay": 1.5},
            "interruption": {"enabled": True, "mode": "vad"},
            "preemptive_generation": {"enabled": True},
        },
    )
    agent = Agent(instructions="You are a helpful voice assistant. Answer in one short sentence.")
    await session.start(agent, room=ctx.room, record=False, session_host=False)
    session.say("Hello, nice to meet you. How can I help you?", allow_interruptions=False)
