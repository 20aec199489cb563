"""An agent with a tool that writes into a business database, and dies in it where it is told to.

`ORDERS` is its SQLite file. A file `ORDERS.ROOM` names the point at which the job of that room is killed, once.
Started as any LiveKit agent: python -m livekit.agents start tests/support/order_agent.py
"""

import json
import os
import signal
import sqlite3
from pathlib import Path

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, RunContext, function_tool

from voicectl.voice import Once, accept_call, engines, join_call

AGENT = "orders"
ORDERS = Path(os.environ["ORDERS"])
server = AgentServer(host="127.0.0.1", port=0, initialize_process_timeout=60, load_fnc=lambda: 0.0)


@server.rtc_session(agent_name=AGENT, on_request=accept_call)
async def entry(ctx: JobContext) -> None:
    call = await join_call(ctx)
    room = ctx.room.name

    def make(key: str, dish: str) -> str:
        die_at("started", room)
        with sqlite3.connect(ORDERS) as database:
            database.execute("INSERT INTO orders VALUES (?, ?, ?)", (key, room, dish))
        die_at("made", room)
        return json.dumps({"ordered": dish})

    orders = Once(call, "place_order", make=make, find=find)

    @function_tool
    async def place_order(context: RunContext[None], dish: str) -> str:
        """Order a dish.

        Args:
            context: The turn that called it.
            dish: What to order.
        """
        die_at("called", room)
        said = await orders(context, dish=dish)
        die_at("done", room)
        return said

    made = engines.build(call.settings)
    session: AgentSession[None] = AgentSession(stt=made.stt, llm=made.llm, tts=made.tts, vad=made.vad)
    await call.start(session, Agent(instructions=call.instructions("You take orders."), tools=[place_order]))


def find(key: str) -> str | None:
    """What was ordered under this key."""
    with sqlite3.connect(ORDERS) as database:
        row = database.execute("SELECT dish FROM orders WHERE key = ?", (key,)).fetchone()
    return json.dumps({"ordered": row[0]}) if row else None


def die_at(point: str, room: str) -> None:
    """Be killed here, if this room's job is to be, for the first time."""
    wanted = ORDERS.with_name(f"{ORDERS.name}.{room}")
    if wanted.exists() and wanted.read_text() == point:
        wanted.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
