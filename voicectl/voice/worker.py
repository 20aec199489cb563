"""The worker: registers with LiveKit under one name, answers offers, runs a process per call, heals what died.

Run by `voicectl run worker`. One worker per VOICE_HOME, by an OS lock held for the life of the process.
Not here: what happens in a call (call.py), which offers are taken (intake.py), who else heals (rooms/reconciler.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import json
import logging
import math
import os
import secrets
import signal
from collections.abc import Awaitable, Iterator
from typing import cast

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, JobProcess, JobRequest

from voicectl.memory.config import load
from voicectl.memory.errors import FencedOut, StoreUnavailable
from voicectl.memory.identity import clean
from voicectl.memory.recorder import replay_left_journals
from voicectl.memory.store.engine import Store, open_store
from voicectl.memory.store.leases import Grant, LeaseState, open_leases
from voicectl.voice import engines, words
from voicectl.voice.agents.desks import desk
from voicectl.voice.build import build_id
from voicectl.voice.call import MemoryCall, NotOurs, join_call
from voicectl.voice.config import VoiceSettings
from voicectl.voice.engines.tts import spell_ids_transform
from voicectl.voice.errors import DeskUnknown, ServerSilent, WorkerRunning
from voicectl.voice.events import EndReason
from voicectl.voice.intake import Intake, metadata
from voicectl.voice.outage import BUSY, recording
from voicectl.voice.proxies import spare_loopback
from voicectl.voice.rooms.admin import RoomAdmin, room_admin
from voicectl.voice.rooms.canary import NAME_SHOWN
from voicectl.voice.rooms.reconciler import Reconciler
from voicectl.voice.rooms.wake import Wake
from voicectl.voice.tasks import Tasks

log = logging.getLogger(__name__)

PRESENCE_TTL_S = 5.0
PRESENCE_RENEW_S = 1.0
WATCH_S = 0.05
CANARY_S = 1.0
DRAIN_S = 20
REPLAY_S = 10.0  # and left to its job is a journal in which something was written so lately
MAX_DESK = 100  # the store keeps so much of its name


def prewarm(process: JobProcess) -> None:
    """Load speech models before a job comes."""
    process.userdata["engines"] = engines.preload(load(VoiceSettings))
    # A full collection would look through all of this for 0.1-0.2 s in the middle of a call.
    gc.collect()
    gc.freeze()


async def entry(ctx: JobContext) -> None:
    """One job: join, build the engines, start the desk. Returns when the call is under way."""
    settings = load(VoiceSettings)
    asked = metadata(ctx.job.metadata)
    wanted = clean(asked.get("desk", ""))[:MAX_DESK] or settings.default_desk
    try:
        call = await join_call(ctx, desk=wanted)
    except NotOurs as e:
        log.info("no call for this job", extra={"why": str(e)})
        return
    if asked.get("busy"):
        # Recorded: a machine on which all lines are busy loads no engine to say so.
        await call.start(
            AgentSession(vad=None, turn_handling={"turn_detection": None}), Agent(instructions=""), greeting=""
        )
        await call.refuse(words.BUSY, EndReason.BUSY, audio=recording(BUSY))
        return
    made = engines.build(settings, preloaded=ctx.proc.userdata.get("engines"), keyterms=call.keyterms)
    ctx.add_shutdown_callback(made.aclose)
    session: AgentSession[None] = AgentSession(
        stt=made.stt,
        llm=made.llm,
        tts=made.tts,
        vad=made.vad,
        turn_handling=engines.turn_handling(settings),
        tts_text_transforms=["filter_markdown", "filter_emoji", spell_ids_transform],
        conn_options=engines.connect_options(settings),
    )
    try:
        chosen = await asyncio.to_thread(desk, call.call.desk, call.store)
    except DeskUnknown as e:
        log.warning("unknown desk", extra={"desk": e.name[:60]})
        await call.start(session, Agent(instructions=""), greeting="")
        await call.refuse("I'm sorry, there is no such desk here. Goodbye.", EndReason.UNKNOWN_DESK)
        return
    agent = chosen.first_agent(call)
    await call.start(session, agent)
    # While the greeting is heard the small model reads what is known, so that the first answer need not wait for it.
    await engines.warm_up_call(made, agent, call.greeting())


class Worker:
    """One registered worker.

    Args:
        settings: The installation's settings.
    """

    def __init__(self, settings: VoiceSettings) -> None:
        key, secret = settings.key_secret()
        spare_loopback(settings.livekit_url)
        self._settings = settings
        self._leases = open_leases(settings)
        self._capacity = settings.calls_at_once()
        self._intake: Intake  # made by `run`, before the first offer
        self.server = AgentServer(
            ws_url=settings.livekit_url,
            api_key=key,
            api_secret=secret,
            http_proxy=None,
            host="127.0.0.1",
            port=settings.worker_port,
            # The SDK would drop bursts without a word; capacity is decided in the offer (livekit-server.md 5).
            load_threshold=math.inf,
            load_fnc=_no_load,
            num_idle_processes=1 if settings.stt_is_local() else 2,
            initialize_process_timeout=60.0,  # loading speech models on a busy machine
            setup_fnc=prewarm,
            preload_modules=["voicectl.voice.worker", *engines.plugin_modules(settings)],
        )
        self.server.rtc_session(entry, agent_name=settings.agent_name, on_request=self._offer)

    async def _offer(self, request: JobRequest) -> None:
        await self._intake.answer(request)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then let calls finish for a while.

        Raises:
            RuntimeError: LiveKit could not be reached for about two minutes.
        """
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        registered = asyncio.Event()
        self.server.on("worker_registered", lambda *_: registered.set())
        store = await asyncio.to_thread(open_store, self._settings)
        await self._replay(store)
        async with room_admin(self._settings) as admin:
            name = f"worker-{os.getpid()}-{secrets.token_hex(2)}"  # another machine may have the same pid
            wake = Wake(self._leases)
            reconciler = Reconciler(name, self._settings, store, self._leases, admin, wake=wake)
            self._intake = Intake(self._capacity, self._leases, reconciler.notes, reconciler.busy, self._running)
            serving = asyncio.create_task(self.server.run(devmode=False), name="serve")
            helpers = [
                asyncio.create_task(self._watch_jobs(reconciler), name="watch jobs"),
                asyncio.create_task(_after(registered, reconciler.run()), name="reconcile"),
                asyncio.create_task(_after(registered, self._be_present(name, admin, store)), name="presence"),
                asyncio.create_task(self._replay_left(store), name="replay journals"),
            ]
            stopping = asyncio.create_task(_after(stop, asyncio.sleep(0)), name="stop")
            done, _ = await asyncio.wait({serving, stopping, *helpers}, return_when=asyncio.FIRST_COMPLETED)
            log.info("the worker stops", extra={"calls": len(self.server.active_jobs)})
            for task in helpers:
                task.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            if serving not in done:
                try:
                    await self.server.drain(timeout=DRAIN_S)
                except TimeoutError:
                    log.warning("calls are handed over", extra={"calls": len(self.server.active_jobs)})
                await self.server.aclose()
            stopping.cancel()
            for task in done - {stopping}:
                task.result()
            await serving
        wake.close()
        store.close()

    async def _replay_left(self, store: Store) -> None:
        """Store what jobs that are gone could not, when the store is back: a call may lie in its journal alone."""
        while True:
            await asyncio.sleep(REPLAY_S)
            await self._replay(store, idle_s=REPLAY_S)

    async def _replay(self, store: Store, idle_s: float = 0.0) -> None:
        """As `replay_left_journals`; callers are served all the same, and it is tried again."""
        try:
            await asyncio.to_thread(replay_left_journals, store, self._settings.home / "journal", idle_s=idle_s)
        except StoreUnavailable as e:
            log.warning("journals wait for the store", extra={"why": e.reason})
        except Exception:
            log.exception("journals could not be stored")

    def _running(self) -> set[str]:
        return {j.accept_arguments.identity for j in self.server.active_jobs}

    async def _warm_up(self, store: Store) -> None:
        chosen = await asyncio.to_thread(desk, self._settings.default_desk, store)
        nobody = cast(MemoryCall, None)  # tools are bound to a call when they are called; here they are only shown
        await engines.warm_up(self._settings, chosen.instructions, chosen.tools(nobody))

    async def _watch_jobs(self, reconciler: Reconciler) -> None:
        """Heal at once when a job's process has died: nobody else sees it for 22 s (livekit-server.md 8)."""
        seen: dict[str, tuple[str, str]] = {}
        healing = Tasks()
        while True:
            now = {j.job.id: (j.job.room.name, j.accept_arguments.identity) for j in self.server.active_jobs}
            for job_id in seen.keys() - now.keys():
                room, identity = seen[job_id]
                healing.spawn(self._heal(reconciler, room, identity))
            seen = now
            await asyncio.sleep(WATCH_S)

    async def _heal(self, reconciler: Reconciler, room: str, identity: str) -> bool:
        try:
            return await reconciler.heal(room, proven_dead=identity)
        except StoreUnavailable as e:
            log.warning("a room waits for the store", extra={"room": room, "why": e.reason})
            return False

    async def _wait_for_offers(self, admin: RoomAdmin) -> None:
        """Return when a dispatch under our name reaches us.

        After a registration the server takes up to 5 s to learn the name; a dispatch in that time is lost without a
        word (livekit-server.md 5).
        """
        while not self._intake.reached.is_set():
            try:
                await admin.dispatch(self._intake.canary, self._settings.agent_name, {})
                await asyncio.wait_for(self._intake.reached.wait(), CANARY_S)
            except TimeoutError:
                log.info("dispatches do not reach this worker yet", extra={"agent_name": self._settings.agent_name})
            except ServerSilent as e:
                log.warning("the server took no dispatch", extra={"why": str(e)})
                await asyncio.sleep(CANARY_S)
        with contextlib.suppress(ServerSilent):  # the server removes an empty room by itself after a minute
            await admin.delete_room(self._intake.canary)

    async def _be_present(self, name: str, admin: RoomAdmin, store: Store) -> None:
        """Keep a lease `worker:…` alive: what readiness and capacity are read from."""
        await asyncio.gather(self._wait_for_offers(admin), self._warm_up(store))
        told = {"capacity": self._capacity, "build": build_id(), "pid": os.getpid()}
        told["agent_name"] = self._settings.agent_name[:NAME_SHOWN]  # an owner has 200 characters
        about = json.dumps(told, ensure_ascii=False)
        grant: Grant | None = None
        try:
            while True:
                try:
                    if grant is None:
                        claim = (f"worker:{name}", about, PRESENCE_TTL_S, LeaseState.HELD)
                        grant = await asyncio.to_thread(self._leases.claim, *claim)
                    else:
                        grant = await asyncio.to_thread(self._leases.renew, grant, PRESENCE_TTL_S)
                except (FencedOut, StoreUnavailable) as e:
                    grant = None
                    log.warning("the worker is not listed", extra={"why": str(e)})
                await asyncio.sleep(PRESENCE_RENEW_S)
        finally:
            if grant is not None:
                self._leases.release(grant)


async def _after(event: asyncio.Event, work: Awaitable[None]) -> None:
    await event.wait()
    await work


def _no_load() -> float:
    return 0.0  # above 0.7 the server stops offering, without a word (livekit-server.md, surprise 4)


@contextlib.contextmanager
def only_worker(settings: VoiceSettings) -> Iterator[None]:
    """Hold the lock of this VOICE_HOME's worker.

    Raises:
        WorkerRunning: Another process holds it; names it.
    """
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (settings.home / "worker.lock").open("a+") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            f.seek(0)
            raise WorkerRunning(f.read().strip() or str(f.name)) from e
        f.truncate(0)
        f.write(f"pid {os.getpid()}")
        f.flush()
        yield


def run_worker(settings: VoiceSettings) -> None:
    """Run the worker of this VOICE_HOME until it is told to stop.

    Raises:
        WorkerRunning: One runs already.
    """
    with only_worker(settings):
        asyncio.run(Worker(settings).run())
