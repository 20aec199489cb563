"""Whether a dispatch under the configured name reaches a worker, asked by a person: `voicectl dispatch --canary`.

A worker refuses such an offer for good, which the server keeps as a job that has ended: the server itself says that a
worker was reached, nobody joins and no line is taken. It is 0.2 s, and up to 5 s where workers have registered lately
(measured: 12 of 12, and livekit-server.md 5). The room is deleted afterwards.
Not here: the canary with which a worker finds out by itself that it is reached (worker.py).
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass

from livekit import api

from voicectl.memory.store.leases import Lease, Leases
from voicectl.voice.errors import NotReached, NoWorker
from voicectl.voice.rooms.admin import RoomAdmin
from voicectl.voice.rooms.registry import workers_in

CANARY = "canary-"  # scratch rooms; a room without a customer that no agent ever joins
ASKED = f"{CANARY}ask-"  # of these, the ones a person asks in: any worker answers
NAME_SHOWN = 80  # characters of its name that a worker tells
AGAIN_S = 3.0  # the server loses a dispatch whose name it has not learnt yet, without a word
LOOK_S = 0.1
REACHED = (api.JobStatus.JS_RUNNING, api.JobStatus.JS_SUCCESS)  # running: somebody else's worker, which took it


@dataclass(frozen=True)
class Reached:
    """A worker was reached.

    Args:
        agent_name: The name that was dispatched.
        worker: The server's own id of the worker.
        after_s: Seconds from the first dispatch.
        dispatches: How many were needed.
        registered: The names under which live workers are registered.
    """

    agent_name: str
    worker: str
    after_s: float
    dispatches: int
    registered: list[str]


async def ask(admin: RoomAdmin, leases: Leases, agent_name: str, *, wait_s: float = 10.0) -> Reached:
    """Dispatch into a scratch room until a worker was reached.

    Args:
        admin: The server.
        leases: Where workers say under which name they are registered.
        agent_name: What to dispatch.
        wait_s: For how long, in seconds.

    Raises:
        NoWorker: Nobody was reached and nobody is registered.
        NotReached: Nobody was reached; names both names.
        ServerSilent: The server did not answer.
        StoreUnavailable: The names could not be read.
    """
    room = f"{ASKED}{secrets.token_hex(6)}"
    begun, dispatches, worker = time.monotonic(), 0, None
    try:
        while worker is None and (waited := time.monotonic() - begun) < wait_s:
            if waited >= dispatches * AGAIN_S:
                await admin.dispatch(room, agent_name, {})
                dispatches += 1
            worker = await _worker(admin, room)
            if worker is None:
                await asyncio.sleep(LOOK_S)
        after_s = time.monotonic() - begun
    finally:
        await admin.delete_room(room)
    registered = names_in(await asyncio.to_thread(leases.rows))
    if worker is not None:
        return Reached(agent_name, worker, round(after_s, 2), dispatches, registered)
    if not registered:
        raise NoWorker(agent_name)
    raise NotReached(agent_name[:NAME_SHOWN], registered, wait_s)


async def _worker(admin: RoomAdmin, room: str) -> str | None:
    for dispatch in await admin.dispatches(room):
        for job in dispatch.state.jobs:
            if job.state.status in REACHED:
                return str(job.state.worker_id)
    return None


def names_in(rows: Iterable[Lease]) -> list[str]:
    """The names under which live workers are registered, of leases as they were read."""
    return sorted({str(w.get("agent_name", "a name that it does not tell")) for w in workers_in(rows)})
