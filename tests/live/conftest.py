"""One real installation for all live tests; every call is another customer, so tests share it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from tests.support.installation import CACHE, Installation
from tests.support.letta_server import RealLetta, real_letta
from tests.support.llm_stub import LLMStub, Reply, by_keyword
from voicectl.voice.caller import Caller
from voicectl.voice.speech import Ear, Voice

Call = Callable[..., AbstractAsyncContextManager[Caller]]


@pytest.fixture(scope="session")
def llm() -> Iterator[LLMStub]:
    with LLMStub(by_keyword({})) as stub:
        yield stub


@pytest.fixture
def script(llm: LLMStub) -> LLMStub:
    """The stub with an answer to everything; a test sets `script.script`."""
    llm.script = by_keyword({"goodbye": Reply(tool="end_call")}, otherwise="I see.")
    llm.requests.clear()
    return llm


@pytest.fixture(scope="session")
def installation(llm: LLMStub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    home = tmp_path_factory.mktemp("voice") / "home"
    with Installation(home, llm.url) as running:
        yield running


@pytest.fixture(scope="session")
def letta(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealLetta]:
    """One Letta server for the tests that need its time only; what they look at is their own customers'."""
    with real_letta(tmp_path_factory.mktemp("letta")) as server:
        yield server


@pytest.fixture(scope="session")
def ear() -> Ear:
    return Ear(CACHE / "home")


@pytest.fixture(scope="session")
def voice() -> Voice:
    return Voice(CACHE / "home", "af_heart")


@pytest.fixture
def customer() -> str:
    """A customer that no other test has."""
    return f"user:{secrets.token_hex(4)}"


@pytest.fixture
def place_call(installation: Installation, ear: Ear, voice: Voice) -> Call:
    """Place a call as a customer: `async with place_call("user:1") as caller`."""

    @asynccontextmanager
    async def place(customer: str, name: str = "", desk: str = "") -> AsyncIterator[Caller]:
        url, token = installation.token(customer, name, desk)
        async with Caller(url, token, voice=voice, ear=ear) as caller:
            yield caller

    return place
