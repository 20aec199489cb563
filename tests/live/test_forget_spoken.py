"""Who is forgotten while talking is disconnected, and is a stranger in the next call."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.conftest import Call
from tests.support.installation import Installation
from tests.support.llm_stub import LLMStub, Reply, by_keyword
from tests.support.waiting import wait_until
from voicectl.memory import profile

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

SECRET = "quicksilver-marzipan"


def files_with(root: Path, *needles: str) -> str:
    """Files that hold one of the needles, what was fetched and linked in left out."""
    found = []
    for path in (p for folder in root.iterdir() if not folder.is_symlink() for p in [folder, *folder.rglob("*")]):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            found += [f"{path.relative_to(root)} has {needle}" for needle in needles if needle.encode() in data]
    return ", ".join(found)


async def forget(installation: Installation, customer: str, *more: str) -> tuple[int, str]:
    """`voicectl memory forget`, as an operator without a terminal runs it."""
    argv = [sys.executable, "-m", "voicectl.cli.main", "memory", "forget", customer, "--yes", *more]
    process = await asyncio.create_subprocess_exec(
        *argv, env=installation.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, said.decode()


async def test_a_call_is_ended_for_it_and_no_byte_of_it_comes_back(
    installation: Installation, script: LLMStub, place_call: Call, customer: str
) -> None:
    note = Reply(tool="remember", arguments={"fact": f"password is {SECRET}"})
    script.script = by_keyword({"result:": Reply("Noted."), "password": note})
    async with place_call(customer, name="Quirinus") as caller:
        await caller.hear()
        await caller.say("My password is a secret.")
        await caller.hear()
        store = installation.store()
        assert f"password is {SECRET}" in [x.text for x in profile.lines(store, customer)]
        store.close()
        assert files_with(installation.home, SECRET)

        refused = await forget(installation, customer)
        done = await forget(installation, customer, "--end-calls")
        reason = await caller.wait_over(15)

    assert refused[0] == 5, refused
    assert done[0] == 0, done
    assert reason == "ROOM_DELETED"
    await wait_until(lambda: files_with(installation.home, SECRET, customer, "Quirinus"), 10)
    async with place_call(customer) as caller:
        greeting, _ = await caller.hear()
    assert "quirinus" not in greeting.casefold()
