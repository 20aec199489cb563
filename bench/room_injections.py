"""A second agent is put into a room, in every way we know of: the lease holder stays and is the one that is heard.

In between, those who must never be evicted stand in the same rooms. Each case is a call of its own, drawn by seed.
Not here: agents that die (room_kills.py), the rivals themselves (room_rivals.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.room_figures import seconds
from bench.room_house import Call, House, call, signal_job
from bench.room_line import Silent
from bench.room_rivals import Other, forged, named, on_behalf_of
from bench.room_speech import TELL
from bench.room_watch import LOOK_S
from tests.support.locked import locked
from voicectl.voice.rooms.admin import RoomAdmin

WITHIN_S, GAP_S = 3.0, 0.3
GIVE_UP_S = 12.0
FREEZE_S = 1.5  # shorter than a lease lives, whenever it was renewed last
LOCKED_S = 5.0
BYSTANDS_S = 5.0  # grace, batch of announcements, an eviction: longer than any of ours takes
WATCHED_S = 1.2  # how long a dispatch that must come to nothing is watched
OUT_OF_REACH_S = {"reconnect": 0.0, "new session": 1.0}  # a session is resumed where the server is there at once
STILL_S = 2.0  # what was on its way from who was put out
PLAIN = "plain"  # name of the real worker of somebody else

WHEN = ["before", "during", "after", "after"]
RIVALS = [1, 1, 2]
NAMES = ["same", "other", "none"]
FORGED = [False, True]
AUDIBLE = [False, True]
HOLDER = ["idle", "busy", "busy", "frozen"]
HOW = ["token"] * 8 + ["dispatch"]
STORE = ["up"] * 12 + ["locked"]
AGENT_LIKE = "robot-agent-1"
BYSTANDERS = [
    "avatar",
    "sip caller",
    f"human {AGENT_LIKE}",
    f"customer {AGENT_LIKE}",
    "egress",
    "reconnect",
    "new session",
]
TOGETHER = " and "
FEW = [TOGETHER.join(["avatar", "sip caller", f"human {AGENT_LIKE}", "egress"]), f"customer {AGENT_LIKE}", "reconnect"]


@dataclass(frozen=True)
class Case:
    """One way to put a rival into a room, and who else is there."""

    when: str = "after"
    rivals: int = 1
    name: str = "same"
    forged: bool = False
    audible: bool = False
    holder: str = "idle"
    how: str = "token"
    store: str = "up"
    bystander: str = ""


@dataclass
class Result:
    """What came of a case; times in seconds.

    Args:
        case: What was done.
        settled_s: From the rival's entry (from the store's return) until there was one agent, the lease holder.
        gap_s: The longest hole in what a busy holder said.
        rival_heard_s: How long rivals were audible.
        wrong: What must not be; empty: as promised.
    """

    case: Case
    settled_s: float | None = None
    gap_s: float | None = None
    rival_heard_s: float = 0.0
    wrong: list[str] = field(default_factory=list)


def draw(count: int, bystanders: int, rng: random.Random, *, plain: bool) -> list[Case]:
    """Cases in which every value of every kind occurs as evenly as their number allows."""

    def dealt(values: list[Any], number: int) -> list[Any]:
        many = (values * (number // len(values) + 1))[:number]
        rng.shuffle(many)
        return many

    how = [*HOW, "worker"] if plain else HOW
    made = []
    columns = [dealt(v, count) for v in (WHEN, RIVALS, NAMES, FORGED, AUDIBLE, HOLDER, how, STORE)]
    for when, rivals, name, forge, audible, holder, way, store in zip(*columns, strict=True):
        if way != "token" or store != "up":
            when = "after"  # a dispatch before the join is the token's own
        if when != "after" or store != "up":
            holder = "idle"
        made.append(Case(when, rivals, name, forge, audible, holder, way, store))
    for who in dealt(BYSTANDERS if bystanders >= len(BYSTANDERS) else FEW, bystanders):
        made.append(Case(rivals=rng.choice([0, 1]), audible=rng.choice(AUDIBLE), bystander=who))
    rng.shuffle(made)
    return made


class Injection:
    """One case at work."""

    def __init__(self, house: House, admin: RoomAdmin, case: Case, stack: AsyncExitStack) -> None:
        self.house, self.admin, self.case, self._stack = house, admin, case, stack
        self.result = Result(case)
        self.others: list[Other] = []
        self.beside: list[Other] = []
        self._reconnected_from = 0

    def _other(self, room: str, number: int) -> Other:
        fence = self.house.leases.read(f"room:{room}")
        same = self.house.first.settings.agent_name
        attributes = named({"same": same, "other": "front-desk"}[self.case.name]) if self.case.name != "none" else {}
        if self.case.forged:
            attributes |= forged((fence.fence if fence else 0) + 1000 + number)
        url = self.house.first.livekit_url
        return Other(url, self.house.keys, room, attributes=attributes, audible=self.case.audible)

    async def run(self) -> Result:
        relaxed = any(who in self.case.bystander for who in ("sip", "human"))
        identity = AGENT_LIKE if self.case.bystander.startswith("customer") else ""
        ticket = self.house.ticket(relaxed=relaxed, identity=identity)
        on = await self._stack.enter_async_context(call(self.house, self.admin, ticket))
        if self.case.when == "after":
            await on.greeted()
        elif self.case.when == "during":
            while not on.watch.now.owner:
                await asyncio.sleep(0.005)
        for who in self.case.bystander.split(TOGETHER):
            await self._bystander(on, who)
        frozen = await self._holder(on)
        async with self._store_stands():
            entered = await self._enter(on)
        returned = time.monotonic() if self.case.store == "locked" else entered
        await self._settle(on, entered, returned)
        if frozen is not None:
            await frozen
        await self._gap(on, entered)
        await self._after(on)
        return self.result

    async def _bystander(self, on: Call, who: str) -> None:
        url, keys, room = self.house.first.livekit_url, self.house.keys, on.ticket.room
        if who == "avatar":
            one = Other(url, keys, room, identity="avatar-1", attributes=on_behalf_of(on.agent), audible=True)
        elif who == "sip caller":
            one = Other(url, keys, room, "sip", identity="sip_+15550100", audible=True)
        elif who.startswith("human"):
            one = Other(url, keys, room, "standard", identity=AGENT_LIKE, audible=True)
        elif who == "egress":
            one = Other(url, keys, room, "egress", identity="EG_agent")
        else:
            return
        self.beside.append(await self._stack.enter_async_context(one))

    async def _holder(self, on: Call) -> asyncio.Task[None] | None:
        """Bring the holder into its state; what thaws it again."""
        if self.case.holder != "idle":
            asked = await on.line.type(TELL)
            await on.line.heard(asked, 6)
            await asyncio.sleep(0.5)
        if self.case.holder == "frozen":
            pid = await on.pid()
            signal_job(pid, signal.SIGSTOP)
            return asyncio.create_task(_thaw(pid))
        elif self.case.bystander in OUT_OF_REACH_S:
            self._reconnected_from = self._reconnects()
            broken = await asyncio.to_thread(self.house.wire.cut, await on.pid(), OUT_OF_REACH_S[self.case.bystander])
            if not broken:
                self.result.wrong.append("the agent's connection was not cut")
        return None

    @contextlib.asynccontextmanager
    async def _store_stands(self) -> Any:
        if self.case.store == "up":
            yield
            return
        files = [self.house.first.home / name for name in ("memory.db", "leases.db")]
        with locked(*files):
            began = time.monotonic()
            yield
            await asyncio.sleep(LOCKED_S - (time.monotonic() - began))

    async def _enter(self, on: Call) -> float:
        """Put the rivals in; when the first was in."""
        room = on.ticket.room
        if self.case.how != "token":
            name = PLAIN if self.case.how == "worker" else self.house.first.settings.agent_name
            asked = time.monotonic()
            await self.admin.dispatch(room, name, {})
            if self.case.how == "dispatch":
                await asyncio.sleep(WATCHED_S)
                if any(len(seen.agents) > 1 for seen in on.watch.changes):
                    self.result.wrong.append("an extra dispatch brought a second agent")
                return asked
            while len(on.watch.now.agents) < 2 and time.monotonic() < asked + GIVE_UP_S:
                await asyncio.sleep(LOOK_S)
            return on.watch.now.at
        others = [self._other(room, n) for n in range(self.case.rivals)]
        entered = await asyncio.gather(*(self._stack.enter_async_context(o) for o in others))
        self.others += entered
        return min((o.joined_at for o in self.others), default=time.monotonic())

    async def _settle(self, on: Call, entered: float, counts_from: float) -> None:
        last = max((o.joined_at for o in self.others), default=entered)
        settled = await on.watch.settle(last + 3 * LOOK_S, GIVE_UP_S)
        if settled is None:
            self.result.wrong.append(f"not one agent after {GIVE_UP_S:g} s: {on.watch.now.words}")
            return
        self.result.settled_s = round(max(0.0, settled - counts_from), 2)
        if self.result.settled_s > WITHIN_S:
            self.result.wrong.append(f"one agent only after {self.result.settled_s} s")

    async def _gap(self, on: Call, entered: float) -> None:
        if self.case.holder == "idle":
            return
        await asyncio.sleep(0.3)
        sound = on.line.sounds.get(on.agent)
        self.result.gap_s = sound.longest_gap_s(entered - 0.3, time.monotonic() - 0.1) if sound else None

    async def _after(self, on: Call) -> None:
        """Who answers now, and who is not there any more."""
        wrong = self.result.wrong
        if self.case.bystander:
            await asyncio.sleep(BYSTANDS_S)
        try:
            await on.line.quiet(0.3, {o.identity for o in self.others}, STILL_S)
            answered = await on.answer(but={o.identity for o in self.beside})
        except Silent as e:
            answered = ""
            wrong.append(str(e))
        expected = on.agent or on.watch.now.owner
        if answered and answered != expected:
            wrong.append(f"{answered} answers, not {expected}")
        if len(owners := on.watch.owners()) > 1:
            wrong.append(f"the room changed hands: {owners}")
        if on.line.disconnected:
            wrong.append(f"the customer was put out: {on.line.disconnected}")
        wrong += [f"{o.identity} was put out: {o.why}" for o in self.beside if o.left_at is not None]
        wrong += [f"{o.identity} is still there" for o in self.others if o.identity in on.watch.now.agents]
        if not on.watch.now.one and not wrong:
            wrong.append(f"in the end: {on.watch.now.words}")
        rivals = [on.line.sounds[o.identity] for o in self.others if o.identity in on.line.sounds]
        self.result.rival_heard_s = round(sum(sum(s.loud) for s in rivals) * 0.02, 2)
        if self.case.bystander in OUT_OF_REACH_S and self._reconnects() == self._reconnected_from:
            wrong.append("the agent did not reconnect")

    def _reconnects(self) -> int:
        return len(self.house.log_lines("successfully recovered"))


async def _thaw(pid: int) -> None:
    try:
        await asyncio.sleep(FREEZE_S)
    finally:
        signal_job(pid, signal.SIGCONT)


async def injections(
    house: House, admin: RoomAdmin, count: int, bystanders: int, seed: int, *, plain: bool = False
) -> dict[str, Any]:
    """Run so many injections with so many must-not-evict cases between them."""
    results: list[Result] = []
    cases = draw(count, bystanders, random.Random(seed), plain=plain)
    for number, case in enumerate(cases):
        async with AsyncExitStack() as stack:
            one = Injection(house, admin, case, stack)
            try:
                result = await asyncio.wait_for(one.run(), 60)
            except (Silent, TimeoutError, ConnectionError) as e:
                result = one.result
                result.wrong.append(f"{type(e).__name__}: {e}")
        results.append(result)
        print(f"{number + 1}/{len(cases)} {_short(case)}: {_words(result)}", file=sys.stderr, flush=True)
    return summary(results)


def _short(case: Case) -> str:
    usual = asdict(Case())
    return ", ".join(f"{k} {v}" for k, v in asdict(case).items() if v != usual[k]) or "as usual"


def _words(result: Result) -> str:
    return "; ".join(result.wrong) or f"one agent after {result.settled_s} s, gap {result.gap_s}"


def summary(results: list[Result]) -> dict[str, Any]:
    """What was promised, and what came."""
    injected = [r for r in results if not r.case.bystander]
    beside = [r for r in results if r.case.bystander]
    gaps = {state: [r.gap_s for r in results if r.case.holder == state] for state in ("busy", "frozen")}
    found = {
        "injections": len(injected),
        "as_promised_of_them": sum(not r.wrong for r in injected),
        "one_agent_after": seconds([r.settled_s for r in injected if r.settled_s is not None]),
        "gap_of_a_speaking_holder": seconds(gaps["busy"]),
        "gap_of_a_frozen_one": seconds(gaps["frozen"]),  # shows that a gap is seen where there is one
        "must_not_evict": len(beside),
        "untouched_of_them": sum(not r.wrong for r in beside),
        "rival_heard": seconds([r.rival_heard_s for r in results if r.case.audible and r.case.how == "token"]),
        "kinds": dict(Counter(f"{k}: {v}" for r in results for k, v in asdict(r.case).items() if v not in ("", "up"))),
        "wrong": [{"case": _short(r.case), "what": r.wrong} for r in results if r.wrong],
    }
    p95 = found["gap_of_a_speaking_holder"].get("p95_s", 0.0)
    found["as_promised"] = not found["wrong"] and p95 <= GAP_S
    return found
