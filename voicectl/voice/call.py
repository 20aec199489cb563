"""One call, from joining the room to the clean-up. What our desks use is what any LiveKit agent can use.

    @server.rtc_session(agent_name="front-desk", on_request=accept_call)
    async def entry(ctx: JobContext) -> None:
        call = await join_call(ctx)
        agent = Agent(instructions=call.instructions("You are the front desk."), tools=call.tools)
        await call.start(AgentSession(...), agent)

The room has one agent, the lease holder; turns are recorded as heard and nothing waits for it; what is known is in the
prompt before the first word; every way of ending goes through `MemoryCall.end`.
Not here: engines (engines/), desks (agents/), offers (offers.py), events become turns (listening.py), the page's view
(page_link.py).
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any

from livekit import rtc
from livekit.agents import Agent, AgentSession, AgentStateChangedEvent, CloseEvent, CloseReason, ErrorEvent, JobContext
from livekit.agents.beta import Instructions
from livekit.agents.llm import ChatContext, FunctionTool
from livekit.agents.voice import room_io

from voicectl.memory import calls, names, profile, recall
from voicectl.memory.calls import Call
from voicectl.memory.config import load
from voicectl.memory.errors import FencedOut, MemoryFault, StoreUnavailable
from voicectl.memory.identity import hashed
from voicectl.memory.recorder import Recorder
from voicectl.memory.store.engine import Store, open_store
from voicectl.memory.store.leases import open_leases
from voicectl.voice.config import VoiceSettings
from voicectl.voice.customer import Customer, customer_of
from voicectl.voice.errors import ServerSilent
from voicectl.voice.events import Attribute, EndReason
from voicectl.voice.listening import Listener, guarded
from voicectl.voice.memory_tools import memory_tools
from voicectl.voice.page_link import PageLink
from voicectl.voice.rooms import registry
from voicectl.voice.rooms.admin import is_human, room_admin
from voicectl.voice.rooms.guard import Guard

log = logging.getLogger(__name__)

APOLOGY = "I'm sorry, I lost my thread for a moment. Could you say that again, please?"
CUT_OFF = "I'm sorry, we were cut off for a moment. I'm back. Could you say that again, please?"
HISTORY_ITEMS = 20
LEFT = (rtc.DisconnectReason.CLIENT_INITIATED, rtc.DisconnectReason.USER_REJECTED)


class NotOurs(MemoryFault):
    """The job has no call to take: the room is another agent's, or no customer came. It has been shut down."""


async def join_call(ctx: JobContext, *, desk: str = "") -> MemoryCall:
    """Join the room of a job as its one agent, and find out who is on the line and what is known of them.

    Args:
        ctx: The job.
        desk: What the customer chose to talk to; kept with the call.

    Raises:
        NotOurs: Another agent has the room, or no customer came; the job is shutting down.
        StoreUnavailable: The store cannot be opened.
    """
    settings = load(VoiceSettings)
    await ctx.connect()
    room = ctx.room
    leases = await asyncio.to_thread(open_leases, settings)
    try:
        grant = await asyncio.to_thread(registry.hold, leases, room.name, room.local_participant.identity)
    except FencedOut as e:
        ctx.shutdown(EndReason.FENCED_OUT)
        raise NotOurs(str(e)) from e
    lost = asyncio.Event()
    keeper = registry.Keeper(leases, grant, lost.set)
    try:
        participant = await asyncio.wait_for(ctx.wait_for_participant(), settings.reconnect_grace_s)
    except TimeoutError as e:
        await _leave_empty(settings, room, keeper)
        ctx.shutdown(EndReason.NO_CUSTOMER)
        raise NotOurs(f"no customer came to {room.name} in {settings.reconnect_grace_s} s") from e
    customer = customer_of(participant)
    store = await asyncio.to_thread(open_store, settings)
    call = await asyncio.to_thread(_open, store, customer, room.name, desk, keeper.fence)
    known = await asyncio.to_thread(recall.read, store, customer.key, but_call=call.id)
    return MemoryCall(ctx, settings, store, keeper, lost, customer, call, known)


def _open(store: Store, customer: Customer, room: str, desk: str, fence: int) -> Call:
    call = calls.open_call(store, customer=customer.key, room=room, desk=desk, fence=fence)
    if customer.name and profile.name_of(profile.lines(store, customer.key)) is None:
        profile.put(store, customer.key, f"name: {customer.name}", profile.Origin(profile.Source.PAGE, call.id))
    return call


async def _leave_empty(settings: VoiceSettings, room: rtc.Room, keeper: registry.Keeper) -> None:
    """Take a room along that nobody came to; only if the server says that nobody is there."""
    try:
        async with room_admin(settings) as admin:
            people = await admin.participants(room.name)
            if not any(is_human(p) for p in people) and await asyncio.to_thread(keeper.begin_closing):
                await admin.delete_room(room.name)
    except ServerSilent as e:
        log.warning("an empty room stays", extra={"room": room.name, "why": str(e)})
    await asyncio.to_thread(keeper.release)


class MemoryCall:
    """The call of one customer, made by `join_call`.

    Attributes:
        customer: Who is on the line.
        known: What was known when the call began, and what has been learnt since.
        store: The store, for tools of your own.
    """

    def __init__(
        self,
        ctx: JobContext,
        settings: VoiceSettings,
        store: Store,
        keeper: registry.Keeper,
        lost: asyncio.Event,
        customer: Customer,
        call: Call,
        known: recall.Recalled,
    ) -> None:
        self.customer = customer
        self.known = known
        self.store = store
        self.settings = settings
        self.call = call
        self._ctx = ctx
        self._keeper = keeper
        self._lost = lost
        self._instructions: list[Instructions] = []
        self._session: AgentSession[Any] | None = None
        self._listener: Listener | None = None
        self._ending: asyncio.Task[None] | None = None
        self._left: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._disconnected: rtc.DisconnectReason.ValueType | None = None
        ctx.room.on("disconnected", guarded(self._on_disconnected))
        self._page = PageLink(ctx.room, self)
        self._recorder = Recorder(
            store, call, journal_dir=settings.home / "journal", on_fenced_out=self._from_thread(lost.set)
        )
        ctx.log_context_fields = {
            **ctx.log_context_fields,
            "call": call.id,
            "customer": hashed(customer.key),
            "room_name": ctx.room.name,
        }
        ctx.add_shutdown_callback(self._on_job_shutdown)

    # -- what an agent is made of ------------------------------------------------------------------------------

    def instructions(self, static: str) -> Instructions:
        """A prompt with what is known of the caller behind it; it follows what is learnt during the call.

        Args:
            static: The agent's own prompt; byte-stable, so that providers and the local model can cache it.
        """
        made = Instructions(static, dynamic=self._about())
        self._instructions.append(made)
        return made

    @property
    def tools(self) -> list[FunctionTool[..., Any]]:
        """The memory tools, bound to this customer: remember, recall."""
        return memory_tools(self)

    def greeting(self) -> str:
        """The first words: by name when it is known. A template, so it is always right and takes no time."""
        name = self.known.name
        if self.call.continued:
            return CUT_OFF
        if self.known.calls_before and name:
            return f"Hello {name}, welcome back. How can I help you?"
        if name:
            return f"Hello {name}, nice to meet you. How can I help you?"
        return "Hello, nice to meet you. How can I help you?"

    def keyterms(self) -> list[str]:
        """Names that recognition should expect in this call."""
        return [self.known.name] if self.known.name else []

    async def refuse(self, words: str) -> None:
        """Say why there is no call, to the end, and end it."""
        await asyncio.to_thread(self._begin_ending, EndReason.UNKNOWN_DESK)
        if self._session is not None:
            await self._session.say(words, allow_interruptions=False)
        await self.end(EndReason.UNKNOWN_DESK)

    def origin(self, source: profile.Source) -> profile.Origin:
        """Where something learnt now comes from: this call, the customer's last words."""
        return profile.Origin(source, self.call.id, self._listener.last_user_item if self._listener else None)

    def _about(self) -> str:
        budget = min(self.settings.recall_budget_tokens, 160 if self.settings.llm_is_local() else 10_000)
        text = recall.render(self.known, budget).text
        return text or "Nothing is known about the caller yet."

    # -- the call itself ---------------------------------------------------------------------------------------

    async def start(self, session: AgentSession[Any], agent: Agent, *, greeting: str | None = None) -> None:
        """Start the session as this call: recorded, guarded, ended cleanly. Returns when the greeting is on its way.

        Args:
            session: A new session with its engines.
            agent: The first agent. Of a call that another job began, it gets what was said so far.
            greeting: First words; None for `greeting()`, "" for silence.
        """
        self._session = session
        self._listener = Listener(session, self._recorder, self._on_user_turn)
        session.on("close", guarded(self._on_close))
        session.on("error", guarded(self._on_error))
        session.on("agent_state_changed", guarded(self._on_state))
        if self.call.continued:
            await self._restore(agent)
        room = self._ctx.room
        options = room_io.RoomOptions(
            participant_identity=self.customer.identity,
            close_on_disconnect=False,  # ours is `_on_left`: it also serves lost connections
            delete_room_on_close=False,  # only the lease holder's ending path deletes
            text_input=room_io.TextInputOptions(text_input_cb=_typed),
        )
        # session_host would hand prompts, tools and history to anybody in the room (livekit.md 0.1).
        await session.start(agent, room=room, room_options=options, record=False, session_host=False)
        self._keeper.watch_loop()
        room.on("participant_disconnected", guarded(self._on_left))
        room.on("participant_connected", guarded(self._on_back))
        self._page.open()
        self._spawn(self._watch_lease())
        self._spawn(
            room.local_participant.set_attributes({Attribute.CALL: self.call.id, Attribute.PID: str(os.getpid())})
        )
        self._left_call_later(self.settings.max_call_s, EndReason.TOO_LONG)
        words = self.greeting() if greeting is None else greeting
        if words:
            session.say(words, allow_interruptions=False)

    async def _restore(self, agent: Agent) -> None:
        said = await asyncio.to_thread(recall.said_in, self.store, self.call.id, HISTORY_ITEMS)
        history = ChatContext.empty()
        for turn in said:
            history.add_message(role="user" if turn.role == "user" else "assistant", content=turn.text)
        await agent.update_chat_ctx(history)

    async def _watch_lease(self) -> None:
        async with room_admin(self.settings) as admin:
            guard = Guard(self._ctx.room, admin)
            try:
                await self._lost.wait()
            finally:
                await guard.close()
        await self.end(EndReason.FENCED_OUT)

    async def refresh(self) -> None:
        """Read again what is known; the next turn uses it, and the page shows it."""
        try:
            self.known = await asyncio.to_thread(recall.read, self.store, self.customer.key, but_call=self.call.id)
        except StoreUnavailable as e:
            log.warning("memory was not read again", extra={"why": e.reason})
            return
        about = self._about()
        for made in self._instructions:
            made.dynamic = about  # in place: no model call, no history entry, a preemptive reply stays (livekit.md 0.5)
        await self._page.show(self.known.lines)

    def _on_user_turn(self, item_id: str, text: str) -> None:
        name = names.name_in(text)
        if name is not None:
            self._spawn(self._learn_name(name, item_id))

    async def _learn_name(self, name: str, item_id: str) -> None:
        origin = profile.Origin(profile.Source.RULE, self.call.id, item_id)
        try:
            await asyncio.to_thread(profile.put, self.store, self.customer.key, f"name: {name}", origin)
        except MemoryFault as e:
            log.warning("a name was not learnt", extra={"why": str(e)})
        await self.refresh()

    def _on_state(self, event: AgentStateChangedEvent) -> None:
        if event.new_state == "speaking":
            self._spawn(self.refresh())  # an operator's edit is used from the next turn

    def _on_error(self, event: ErrorEvent) -> None:
        if getattr(event.error, "recoverable", True) or self._session is None:
            return
        log.error(
            "an engine failed", extra={"engine": getattr(event.error, "type", "?"), "why": str(event.error)[:300]}
        )
        if getattr(event.error, "type", "") == "llm_error":
            self._session.say(APOLOGY)

    # -- the customer comes and goes ---------------------------------------------------------------------------

    def _on_left(self, participant: rtc.RemoteParticipant) -> None:
        if participant.identity != self.customer.identity:
            return
        if participant.disconnect_reason in LEFT:
            self._spawn(self.end(EndReason.CUSTOMER_LEFT))
        else:
            self._left_call_later(self.settings.reconnect_grace_s, EndReason.CONNECTION_LOST)

    def _on_back(self, participant: rtc.RemoteParticipant) -> None:
        if participant.identity == self.customer.identity:
            self._left_call_later(self.settings.max_call_s, EndReason.TOO_LONG)

    def _left_call_later(self, seconds: float, reason: EndReason) -> None:
        if self._left is not None:
            self._left.cancel()
        self._left = asyncio.get_running_loop().call_later(seconds, lambda: self._spawn(self.end(reason)))

    # -- the one way to end ------------------------------------------------------------------------------------

    async def say_closing(self) -> None:
        """Commit that the call is ending, then say the closing line to its end. For the `end_call` tool."""
        first = await asyncio.to_thread(self._begin_ending, EndReason.AGENT_ENDED)
        if first and self.settings.closing_line and self._session is not None:
            await self._session.say(self.settings.closing_line, allow_interruptions=False)

    def _begin_ending(self, reason: EndReason) -> bool:
        try:
            return calls.begin_ending(self.store, self.call, reason)
        except FencedOut:
            return False
        except StoreUnavailable as e:
            log.warning("the ending was not committed first", extra={"why": e.reason})
            return True

    def _on_close(self, event: CloseEvent) -> None:
        if event.reason == CloseReason.JOB_SHUTDOWN:
            return  # `_on_job_shutdown` decides: a worker that stops hands the call over
        reason = EndReason.ERROR if event.reason == CloseReason.ERROR else EndReason.AGENT_ENDED
        self._spawn(self.end(reason))

    async def _on_job_shutdown(self) -> None:
        if self._lost.is_set() or self._disconnected == rtc.DisconnectReason.PARTICIPANT_REMOVED:
            await self.end(EndReason.FENCED_OUT)
        elif self._disconnected == rtc.DisconnectReason.ROOM_DELETED:
            await self.end(EndReason.ROOM_DELETED)
        else:
            await self.end(EndReason.HANDED_OVER)  # the worker stops, or the job failed: the call goes on elsewhere

    def _on_disconnected(self, reason: rtc.DisconnectReason.ValueType) -> None:
        if self._disconnected is None:
            self._disconnected = reason

    async def end(self, reason: EndReason) -> None:
        """End the call; whoever asks first decides the reason, everybody waits for the same end."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._end(reason), name=f"end-{self.call.id}")
        await asyncio.shield(self._ending)

    async def _end(self, reason: EndReason) -> None:
        ours = reason not in (EndReason.FENCED_OUT, EndReason.HANDED_OVER)
        log.info("the call ends", extra={"reason": reason})
        if self._left is not None:
            self._left.cancel()
        if ours:
            await asyncio.to_thread(self._begin_ending, reason)
        if self._session is not None:
            await self._session.aclose()
        await asyncio.to_thread(self._recorder.close)
        if reason == EndReason.FENCED_OUT:
            self._keeper.stop()
        elif ours:
            await self._close_room(reason)
        if reason != EndReason.FENCED_OUT:
            await self._give_back()
        self._ctx.shutdown(reason)

    async def _close_room(self, reason: EndReason) -> None:
        try:
            await asyncio.to_thread(calls.finish, self.store, self.call, reason)
            if await asyncio.to_thread(self._keeper.begin_closing):
                async with room_admin(self.settings) as admin:
                    await admin.delete_room(self._ctx.room.name)
        except FencedOut as e:
            log.warning("the call is another job's", extra={"why": str(e)})
        except (StoreUnavailable, ServerSilent) as e:
            log.error("the call was not closed cleanly", extra={"why": str(e)})

    async def _give_back(self) -> None:
        try:
            await asyncio.to_thread(self._keeper.release)
        except StoreUnavailable as e:
            log.warning("the lease runs out by itself", extra={"why": e.reason})

    # -- tasks -------------------------------------------------------------------------------------------------

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a task of the call failed", exc_info=task.exception())

    def _from_thread(self, callback: Any) -> Any:
        loop = asyncio.get_running_loop()
        return lambda: loop.call_soon_threadsafe(callback)


async def _typed(session: AgentSession[Any], event: room_io.TextInputEvent) -> None:
    """A typed turn. The framework's own callback loses the text during a line that cannot be interrupted."""
    async with session._claim_user_turn():
        try:
            await session.interrupt()
        except RuntimeError:
            log.info("typed while a line plays that cannot be interrupted; it is answered next")
        session.generate_reply(user_input=event.text)
