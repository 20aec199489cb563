"""Letta loses its whole database: who calls back is known, and Letta is built again, also with a call on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.moody_letta import syncer
from bench.our_turns import OurTurns
from tests.support.letta_server import RealLetta
from tests.support.waiting import wait_until
from voicectl.memory import calls, recall
from voicectl.memory.config import MemorySettings
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import calls as calls_table
from voicectl.voice import words

pytestmark = [pytest.mark.letta, pytest.mark.timeout(600)]

WHO, OTHER = "user:rebuilt", "user:rebuilt-other"
TOLD = "My name is Daniel and I am allergic to peanuts."


class RealCall(OurTurns):
    """A call through AgentSession, as a job has it, from the first read of memory to its end; keeps the prompts."""

    def __init__(self, home: Path, customer: str) -> None:
        super().__init__(home, customer=customer)
        self.prompts: list[str] = []
        self._whole = self.llm.chat
        self.llm.chat = self._chat  # type: ignore[method-assign]

    def _chat(self, *, chat_ctx: Any, **more: Any) -> Any:
        self.prompts.append(str(chat_ctx.to_dict()))
        return self._whole(chat_ctx=chat_ctx, **more)

    async def __aenter__(self) -> RealCall:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
        calls.finish(self.store, self.call, "hung up")
        self.store.close()


def voicectl(home: Path, letta: RealLetta, *command: str) -> tuple[int, str]:
    env = {**os.environ, "VOICE_HOME": str(home), "LETTA_BASE_URL": letta.url, "LETTA_API_KEY": letta.access.key}
    argv = [sys.executable, "-m", "voicectl.cli.main", *command]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


def on_the_way(store: Store, *customers: str) -> str:
    """Which calls of these customers are not done in Letta."""
    ours = calls_table.c.customer.in_(customers)
    with store.read() as connection:
        found = connection.execute(calls_table.select().where(ours, calls_table.c.mirror != "done")).all()
    return ", ".join(f"{r.id} of {r.customer}: {r.mirror}" for r in found)


async def test_who_calls_back_after_letta_lost_its_database_is_known_and_it_is_built_again_with_a_call_on(
    letta: RealLetta, store: Store, settings: MemorySettings
) -> None:
    home = settings.home
    with syncer(home, letta.url, letta.access.key):
        async with RealCall(home, WHO) as first:
            await first.turn(TOLD)
            await first.settled()
        await wait_until(lambda: on_the_way(store, WHO), 90)
        async with RealCall(home, OTHER) as on:
            await on.turn("My name is Oliver.")
            await on.settled()
            letta.lose_everything()
            assert letta.number("select count(*) from messages") == 0

            rebuilt = voicectl(home, letta, "memory", "rebuild", "--no-wait")
            async with RealCall(home, WHO) as again:
                greeting = words.greeting(again.knowledge.now.name, again.knowledge.now.calls_before)
                await again.turn("What do you know about me?")
            await on.turn("Are you still there?")
            known_on = on.prompts[-1]
        await wait_until(lambda: on_the_way(store, WHO, OTHER), 90)
        verified = voicectl(home, letta, "sync", "verify")

    assert rebuilt[0] == 0, rebuilt[1]
    assert "Daniel" in greeting
    assert "welcome back" in greeting.lower()
    assert "allergic to peanuts" in again.prompts[0]
    assert "name: Oliver" in known_on
    assert verified[0] == 0, verified[1]
    assert "equal: 2 customers, 3 calls, 8 rows" in verified[1]
    assert letta.number(f"select count(*) from messages where content::text like '%{TOLD}%' and role = 'user'") == 1
    assert recall.read(store, WHO).calls_before == 2
