"""One call, from joining the room to the clean-up. What our desks use is what any LiveKit agent can use.

    @server.rtc_session(agent_name="front-desk", on_request=accept_call)
    async def entry(ctx: JobContext) -> None:
        call = await join_call(ctx)
        agent = Agent(instructions=call.instructions("You are the front desk."), tools=call.tools)
        await call.start(AgentSession(...), agent)

The room has one agent, the lease holder; turns are recorded as heard and nothing waits for it; what is known is in the
prompt before the first word; every way of ending goes through `MemoryCall.end`.
Not here: offers (offers.py), what is known (knowledge.py), turns (listening.py), who is there (presence.py), clean-up
(ending.py).
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterable
from dataclasses import replace
from typing import Any

from livekit import rtc
from livekit.agents import Agent, AgentSession, AgentStateChangedEvent, CloseEvent, CloseReason, ErrorEvent, JobContext
from livekit.agents.beta import Instructions
from livekit.agents.llm import FunctionTool
from livekit.agents.stt import STTError
from livekit.agents.tts import TTSError
from livekit.agents.types import NOT_GIVEN
from livekit.agents.voice import room_io

from voicectl.memory import profile, recall
from voicectl.memory.calls import Call
from voicectl.memory.config import load
from voicectl.memory.errors import FencedOut, MemoryFault
from voicectl.memory.identity import hashed
from voicectl.memory.recorder import Recorder
from voicectl.memory.store.engine import Store
from voicectl.voice import words
from voicectl.voice.config import VoiceSettings
from voicectl.voice.customer import customer_of
from voicectl.voice.ending import Ending, leave_empty
from voicectl.voice.events import Attribute, EndReason
from voicectl.voice.knowledge import Knowledge
from voicectl.voice.listening import Listener, guarded
from voicectl.voice.memory_tools import memory_tools
from voicectl.voice.once import Once
from voicectl.voice.opening import Opening
from voicectl.voice.outage import Outage, recording
from voicectl.voice.page_link import PageLink
from voicectl.voice.presence import Presence
from voicectl.voice.rooms import registry, standing
from voicectl.voice.rooms.admin import room_admin
from voicectl.voice.rooms.guard import Guard
from voicectl.voice.takeover import add_result, left_in
from voicectl.voice.tasks import Tasks

log = logging.getLogger(__name__)

Sound = AsyncIterable[rtc.AudioFrame]
MAX_TYPED = 2000  # characters of a typed turn: what a model of any size reads at once
LAST_WORDS_S = 20.0  # a closing line, with a voice that fails and is tried again
END_LIMIT_S = 60.0
JOB_SHUTDOWN_S = 10.0  # from the framework's closing of the session, 2 s itself, to its callback
# The framework's words for a worker that stops, a lost connection, an entry point that raised (ipc/job_proc_lazy_main);
# anything else was given to JobContext.shutdown by somebody who wants the call to end.
NOT_OUR_DOING = ("parent process shutdown", "room disconnected", "job crashed")


class NotOurs(MemoryFault):
    """The job has no call to take: the room is another agent's, or no customer came. It has been shut down."""


async def join_call(ctx: JobContext, *, desk: str = "") -> MemoryCall:
    """Join the room of a job as its one agent, and find out who is on the line and what is known of them.

    Args:
        ctx: The job.
        desk: What the customer chose to talk to; kept with the call.

    Raises:
        NotOurs: Another agent has the room, or no customer came; the job is shutting down.
        StoreForeign: The database is not ours.
    """
    settings = load(VoiceSettings)
    await ctx.connect()
    room = ctx.room
    me = room.local_participant
    taking = registry.Taking(settings, room.name, me.identity, ctx.job.agent_name, me.attributes.get(Attribute.FENCE))
    fenced_out = asyncio.Event()
    keeper: registry.Keeper | None = None
    try:
        keeper = await registry.keep(taking, fenced_out.set)
        if keeper.fence == 0:
            standing.refuse_if_second(room)
    except FencedOut as e:
        if keeper is not None:
            keeper.stop()
        ctx.shutdown(EndReason.FENCED_OUT)
        raise NotOurs(str(e)) from e
    try:
        participant = await asyncio.wait_for(ctx.wait_for_participant(), settings.reconnect_grace_s)
    except TimeoutError as e:
        await leave_empty(settings, room.name, keeper)
        ctx.shutdown(EndReason.NO_CUSTOMER)
        raise NotOurs(f"no customer came to {room.name} in {settings.reconnect_grace_s} s") from e
    opening = Opening(settings, customer_of(participant), room.name, desk)
    try:
        store, call, known, house = await opening.begin(keeper.fence)
    except FencedOut as e:
        keeper.stop()
        ctx.shutdown(EndReason.FENCED_OUT)
        raise NotOurs(str(e)) from e
    made = MemoryCall(ctx, opening, store, keeper, fenced_out, call, known)
    made.knowledge.house = house
    return made


class MemoryCall:
    """The call of one customer, made by `join_call`.

    Attributes:
        customer: Who is on the line.
        call: Its record: id, desk, fence, and whether another job began it.
        knowledge: What is known of the customer now.
        store: The store, for tools of your own.
        settings: The installation's settings.
        effects: The tools of this call that do something in the world, by name; `Once` adds itself.
        one_effect: Held while one of them is at it.
    """

    def __init__(
        self,
        ctx: JobContext,
        opening: Opening,
        store: Store,
        keeper: registry.Keeper,
        fenced_out: asyncio.Event,
        call: Call,
        known: recall.Recalled,
    ) -> None:
        settings, customer = opening.settings, opening.customer
        self.customer, self.call, self.store, self.settings = customer, call, store, settings
        self._opening = opening
        self.knowledge = Knowledge(store, call, settings, known)
        self._ctx = ctx
        self._keeper = keeper
        self._fenced_out = fenced_out
        self._session: AgentSession[Any] | None = None
        self._listener: Listener | None = None
        self.effects: dict[str, Once] = {}
        self.one_effect = asyncio.Lock()
        self._over: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None
        self._disconnected: rtc.DisconnectReason.ValueType | None = None
        self._tasks = Tasks()
        self._outage = Outage()
        self._presence = Presence(customer.identity, settings, lambda reason: self._tasks.spawn(self.end(reason)))
        self._page = PageLink(ctx.room, self)
        self.knowledge.on_change(self._page.show)
        loop = asyncio.get_running_loop()

        def fenced_from_thread() -> None:
            loop.call_soon_threadsafe(fenced_out.set)

        self._recorder = Recorder(
            store,
            call,
            journal_dir=settings.home / "journal",
            on_fenced_out=fenced_from_thread,
        )
        self._ending = Ending(settings, store, call, ctx.room.name, self._recorder, keeper)
        ctx.room.on("disconnected", guarded(self._on_disconnected))
        if not call.stored:
            standing.watch(ctx.room, keeper, fenced_out.set)
            self._tasks.spawn(self._open_late())
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
        return self.knowledge.instructions(static)

    @property
    def tools(self) -> list[FunctionTool[..., Any]]:
        """The memory tools, bound to this customer: remember, forget_fact, recall."""
        return memory_tools(self)

    def greeting(self) -> str:
        """The first words: by name when it is known. A template, so it is always right and takes no time."""
        known = self.knowledge.now
        return words.CUT_OFF if self.call.continued else words.greeting(known.name, known.calls_before)

    def keyterms(self) -> list[str]:
        """Names that recognition should expect in this call."""
        return [self.knowledge.now.name] if self.knowledge.now.name else []

    def origin(self, source: profile.Source) -> profile.Origin:
        """Where something learnt now comes from: this call, the customer's last words."""
        return profile.Origin(source, self.call.id, self.last_user_item)

    @property
    def last_user_item(self) -> str | None:
        """LiveKit's id of the customer's last turn, of this job or the one before it."""
        return self._listener.last_user_item if self._listener else None

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
        session.on("user_input_transcribed", guarded(self._outage.on_transcribed))
        session.on("agent_state_changed", guarded(self._on_agent_state))
        owes_answer = self.call.continued and await self._restore(agent)
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
        self._presence.watch(room)
        self._page.open()
        self._tasks.spawn(self._stand_guard())
        self._following = asyncio.create_task(self.knowledge.follow(), name=f"follow-memory-{self.call.id}")
        self._tasks.spawn(room.local_participant.set_attributes(self._marks()))
        if self._fenced_out.is_set():  # while the engines were loaded; the guard ends it before a word
            return
        if owes_answer and greeting is None:
            session.say(words.CUT_OFF_ANSWERS, allow_interruptions=False, add_to_chat_ctx=False)
            session.generate_reply()
            return
        first = self.greeting() if greeting is None else greeting
        if first:
            session.say(first, allow_interruptions=False)

    async def _restore(self, agent: Agent) -> bool:
        """Go on where the earlier job died; True when the customer waits for an answer."""
        left = await asyncio.to_thread(left_in, self.store, self.call)
        for effect in left.unknown:
            try:
                once = self.effects.get(effect.tool)
                found = await once.settle(effect) if once is not None else None
            except Exception:  # of the business database: it is asked again when the tool is called
                log.exception("what a tool did is not known", extra={"tool": effect.tool})
                found = None
            if found is not None:
                add_result(left.history, replace(effect, result=found))
        await agent.update_chat_ctx(left.history)
        if self._listener is not None:
            self._listener.last_user_item = left.last_user_item
        return left.owes_answer

    async def _stand_guard(self) -> None:
        async with room_admin(self.settings) as admin:
            await Guard(self._ctx.room, admin, self._keeper, self.store).stand(self._fenced_out)
        await self.end(EndReason.FENCED_OUT)

    def _on_user_turn(self, item_id: str, text: str) -> None:
        self._tasks.spawn(self.knowledge.learn_name(text, item_id))

    def _on_agent_state(self, event: AgentStateChangedEvent) -> None:
        if event.new_state == "speaking":
            self._tasks.spawn(self.knowledge.refresh())  # an operator's edit is used from the next turn

    def _on_error(self, event: ErrorEvent) -> None:
        kind = getattr(event.error, "type", "?")
        if getattr(event.error, "recoverable", True) or self._session is None:
            return
        log.error("an engine failed", extra={"engine": kind, "why": str(event.error)[:300]})
        if isinstance(event.error, STTError | TTSError) and self._outage.is_final(event.error):
            self._tasks.spawn(self.refuse(words.OUTAGE, EndReason.ERROR, audio=recording()))
        elif kind in ("llm_error", "tts_error") and not self._outage.over:
            self._session.say(words.APOLOGY)

    async def _open_late(self) -> None:
        """Give a call that began without the store to it, as soon as it answers."""
        try:
            self.call = self.knowledge.call = self._ending.call = await self._opening.later(self.call, self._keeper)
        except FencedOut:
            self._fenced_out.set()
            return
        if self.call.continued and self._session is not None:
            left = await asyncio.to_thread(left_in, self.store, self.call)
            agent = self._session.current_agent
            await agent.update_chat_ctx(agent.chat_ctx.copy().merge(left.history))
        self._recorder.opened(self.call)
        await self._ctx.room.local_participant.set_attributes(self._marks())
        await self.knowledge.refresh()

    def _marks(self) -> dict[str, str]:
        """What the room is told of this agent."""
        return {
            str(Attribute.CALL): self.call.id,
            str(Attribute.PID): str(os.getpid()),
            str(Attribute.FENCE): str(self._keeper.fence),
            str(Attribute.MEMORY): "" if self.call.stored else "away",
        }

    # -- the one way to end ------------------------------------------------------------------------------------

    async def say_closing(self) -> None:
        """Commit that the call is ending, then say the closing line to its end. For the `end_call` tool."""
        first = await self._ending.begin(EndReason.AGENT_ENDED)
        if first and self.settings.closing_line:
            await self._say_to_the_end(self.settings.closing_line)

    async def refuse(self, words: str, reason: EndReason, audio: Sound | None = None) -> None:
        """Say why there is no call, to the end, and end it; `audio` is said in place of the voice's."""
        await self._ending.begin(reason)
        await self._say_to_the_end(words, audio)
        await self.end(reason)

    async def _say_to_the_end(self, words: str, audio: Sound | None = None) -> None:
        if self._session is None:
            return
        said = self._session.say(words, audio=audio or NOT_GIVEN, allow_interruptions=False)
        try:
            await asyncio.wait_for(said.wait_for_playout(), LAST_WORDS_S)
        except TimeoutError:
            log.error("the last words were not heard; the call ends without them")

    async def end(self, reason: EndReason) -> None:
        """End the call; whoever asks first decides the reason, everybody waits for the same end."""
        if self._over is None:
            self._over = asyncio.create_task(self._end(reason), name=f"end-{self.call.id}")
        await asyncio.shield(self._over)

    async def _end(self, reason: EndReason) -> None:
        log.info("the call ends", extra={"reason": reason})
        self._presence.close()
        if self._following is not None:
            self._following.cancel()
        try:
            async with asyncio.timeout(END_LIMIT_S):
                if reason not in (EndReason.FENCED_OUT, EndReason.HANDED_OVER):
                    await self._ending.begin(reason)
                    await self._ending.close_line()
                if self._session is not None:
                    await self._session.aclose()
                await self._ending.wind_up(reason)
        except TimeoutError:
            log.error("winding the call up hangs; its job ends without it", extra={"reason": reason})
        finally:
            self._ctx.shutdown(reason)

    def _on_close(self, event: CloseEvent) -> None:
        if event.reason in (CloseReason.USER_INITIATED, CloseReason.JOB_SHUTDOWN) and not self._ending.begun:
            self._tasks.spawn(self._closed())
            return
        reason = EndReason.ERROR if event.reason == CloseReason.ERROR else EndReason.AGENT_ENDED
        self._tasks.spawn(self.end(reason))

    async def _closed(self) -> None:
        """The agent's code closed the session, or the framework, because the job ends: then its callback decides."""
        await asyncio.sleep(JOB_SHUTDOWN_S)
        await self.end(EndReason.AGENT_ENDED)

    def _on_disconnected(self, reason: rtc.DisconnectReason.ValueType) -> None:
        if self._disconnected is None:
            self._disconnected = reason
        if reason == rtc.DisconnectReason.PARTICIPANT_REMOVED:  # the framework would think about it for two seconds
            self._tasks.spawn(self.end(EndReason.FENCED_OUT))

    async def _on_job_shutdown(self, why: str) -> None:
        if self._fenced_out.is_set() or self._disconnected == rtc.DisconnectReason.PARTICIPANT_REMOVED:
            await self.end(EndReason.FENCED_OUT)
        elif self._disconnected == rtc.DisconnectReason.ROOM_DELETED:
            await self.end(EndReason.ROOM_DELETED)
        elif why in NOT_OUR_DOING:
            await self.end(EndReason.HANDED_OVER)  # the call goes on elsewhere
        else:
            await self.end(EndReason.AGENT_ENDED)


async def _typed(session: AgentSession[Any], event: room_io.TextInputEvent) -> None:
    """A typed turn. The framework's own callback loses the text during a line that cannot be interrupted."""
    text = event.text.strip()
    if not text:
        return
    if len(text) > MAX_TYPED:
        log.warning("a typed turn was cut", extra={"characters": len(text)})
    try:
        await session.interrupt()
    except RuntimeError:
        log.info("typed while a line plays that cannot be interrupted; it is answered next")
    session.generate_reply(user_input=text[:MAX_TYPED])
