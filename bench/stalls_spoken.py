"""Two calls by sound through a real LiveKit server and the shipped worker, while a foreign process locks the store.

Both customers ask one question after the other; each must be answered aloud, by the same agent, whatever is locked.
One of them says her name in the middle of it, and is greeted by it when she calls again.
Not here: the text path and Letta (stalls.py), the lock itself (tests/support/locked.py).
"""

from __future__ import annotations

import asyncio
import secrets
import statistics
import sys
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select

from tests.support.installation import CACHE, Installation
from tests.support.llm_stub import LLMStub, by_keyword
from tests.support.locked import locked
from tests.support.waiting import wait_until
from voicectl.memory.store.leases import open_leases
from voicectl.memory.store.schema import calls, turns
from voicectl.voice.caller import Caller, NothingHeard, alike
from voicectl.voice.speech import Ear, Voice

FILES = {"store locked": ["memory.db"], "store and leases locked": ["memory.db", "leases.db"]}
REPLY = "The pizza is on its way."
NAME, NAMED = "My name is Daniel.", "daniel"
QUESTIONS = ["Where is my pizza?", "When does the pizza arrive?", "Is the pizza still hot?"]
TAKEN = "taking a room over"


@dataclass
class Asked:
    """One customer's call, as it was heard."""

    customer: str
    caller: Caller
    phase: str = "before"
    answers: dict[str, list[float]] = field(default_factory=lambda: {"before": [], "during": [], "after": []})
    wrong: list[str] = field(default_factory=list)
    agents: set[str] = field(default_factory=set)

    async def ask(self, line: str) -> None:
        """Say it and hear the answer; what is heard instead of the reply is kept."""
        phase = self.phase
        await self.caller.say(line)
        try:
            text, heard = await self.caller.hear()
        except NothingHeard as e:
            self.wrong.append(f"{phase}: {line} {e}")
            return
        self.agents |= set(self.caller.agents())
        if alike(text, REPLY):
            self.answers[phase].append(heard.first_audible_s)
        else:
            self.wrong.append(f"{phase}: {line} {text}")

    async def talk(self, over: asyncio.Event, number: int) -> None:
        """Ask until it is over; the first customer says her name once while the lock is held."""
        named = number > 0
        while not over.is_set():
            if self.phase == "during" and not named:
                named = True
                await self.ask(NAME)
            await self.ask(QUESTIONS[sum(map(len, self.answers.values())) % len(QUESTIONS)])

    def answered(self, phase: str) -> str:
        return "" if self.answers[phase] or self.wrong else f"{self.customer} has no answer {phase}"


async def arm(installation: Installation, what: str, seconds: float, voice: Voice, ear: Ear) -> dict[str, Any]:
    """Two calls, the lock in their middle, and what the store has afterwards."""
    customers = [f"user:{secrets.token_hex(4)}" for _ in range(2)]
    leases = open_leases(installation.settings)
    taken = sum(installation.log(part).count(TAKEN) for part in ("worker", "web"))
    async with AsyncExitStack() as line:
        asked = []
        for customer in customers:
            caller = Caller(*installation.token(customer), voice=voice, ear=ear)
            asked.append(Asked(customer, await line.enter_async_context(caller)))
            await caller.hear()
        rooms = [a.caller.room.name for a in asked]
        fences = [lease.fence for room in rooms if (lease := leases.read(f"room:{room}"))]
        over = asyncio.Event()
        talking = [asyncio.create_task(a.talk(over, n)) for n, a in enumerate(asked)]
        for phase in ("before", "during", "after"):
            for one in asked:
                one.phase = phase
            if phase == "during":
                with locked(*(installation.home / name for name in FILES[what])):
                    await asyncio.sleep(seconds)
            await wait_until(lambda p=phase: " ".join(filter(None, (a.answered(p) for a in asked))), 60)
        over.set()
        await asyncio.gather(*talking)
        left = [a.caller.disconnect_reason for a in asked if a.caller.disconnect_reason is not None]
        after = [lease.fence for room in rooms if (lease := leases.read(f"room:{room}"))]
    journal = installation.home / "journal"
    await wait_until(lambda: "journals wait" if list(journal.glob("*.jsonl")) else "", 30)
    kept = [await _kept(installation, a) for a in asked]
    async with Caller(*installation.token(customers[0]), voice=voice, ear=ear) as again:
        greeting, _ = await again.hear()
    leases.close()
    result: dict[str, Any] = {
        "stalled_s": seconds,
        "locked": FILES[what],
        "answers": {p: sum(len(a.answers[p]) for a in asked) for p in asked[0].answers},
        "first_audible_median_s": {
            p: round(statistics.median(t for a in asked for t in a.answers[p]), 2) for p in asked[0].answers
        },
        "wrong": [w for a in asked for w in a.wrong],
        "left": left,
        "agents": [len(a.agents) for a in asked],
        "fences_unchanged": fences == after and len(fences) == len(rooms),
        "takeovers": sum(installation.log(part).count(TAKEN) for part in ("worker", "web")) - taken,
        "in_the_store": kept,
        "greeting_after": greeting,
    }
    result["as_promised"] = (
        not result["wrong"]
        and not left
        and result["agents"] == [1, 1]
        and result["fences_unchanged"]
        and result["takeovers"] == 0
        and all(k["replies"] == k["heard"] and k["seqs_whole"] for k in kept)
        and NAMED in greeting.lower()
    )
    return result


async def _kept(installation: Installation, asked: Asked) -> dict[str, Any]:
    """What the store has of the call, once it has ended."""
    store = installation.store()
    ours = calls.c.customer == asked.customer

    def still_on() -> str:
        with store.read() as connection:
            found = connection.execute(select(calls.c.state).where(ours)).scalars().all()
        return "" if found == ["ended"] else f"calls are {found}"

    await wait_until(still_on, 60)
    with store.read() as connection:
        rows = connection.execute(select(turns).join(calls).where(ours).order_by(turns.c.seq)).all()
        why = connection.execute(select(calls.c.reason).where(ours)).scalar_one()
    store.close()
    return {
        "heard": sum(map(len, asked.answers.values())),
        "replies": sum(r.role == "assistant" and r.text == REPLY for r in rows),
        "questions": sum(r.role == "user" for r in rows),
        "seqs_whole": [r.seq for r in rows] == list(range(1, len(rows) + 1)),
        "ended": why,
    }


async def spoken(kinds: list[str], stalls_s: list[float]) -> dict[str, Any]:
    """All stalls, one after the other in one installation."""
    home = Path(tempfile.mkdtemp(prefix="stalls-")) / "home"
    voice, ear = Voice(CACHE / "home"), Ear(CACHE / "home")
    result: dict[str, Any] = {}
    with LLMStub(by_keyword({}, otherwise=REPLY)) as llm, Installation(home, llm.url) as installation:
        for what in [name for name in FILES if name in kinds]:
            for seconds in stalls_s:
                result[f"{what} {seconds:g} s"] = found = await arm(installation, what, seconds, voice, ear)
                print(f"{what} {seconds:g} s: {found}", file=sys.stderr, flush=True)
    return result
