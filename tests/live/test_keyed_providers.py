"""Calls with providers' keys, against stand-ins on loopback that speak the providers' protocols with real speech."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import psutil
import pytest
from sqlalchemy import select

from tests.support.cartesia_stub import CartesiaStub
from tests.support.deepgram_stub import DeepgramStub
from tests.support.installation import CACHE, FOREIGN, Installation, free_port
from tests.support.llm_stub import LLMStub, Reply, by_keyword
from tests.support.waiting import wait_until
from voicectl.cli.system import preflight
from voicectl.cli.system.home import Home
from voicectl.cli.system.roster import table
from voicectl.memory.config import load
from voicectl.memory.store.schema import calls, turns
from voicectl.voice import engines, models
from voicectl.voice.caller import Caller
from voicectl.voice.config import VoiceSettings
from voicectl.voice.events import Attribute
from voicectl.voice.speech import Ear, Voice

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

DEEPGRAM_KEY, CARTESIA_KEY = "dg-right-key", "ca-right-key"

Dial = Callable[[str], AbstractAsyncContextManager[Caller]]


@pytest.fixture(scope="module")
def deepgram() -> Iterator[DeepgramStub]:
    with DeepgramStub(DEEPGRAM_KEY, CACHE / "home") as stub:
        yield stub


@pytest.fixture(scope="module")
def cartesia() -> Iterator[CartesiaStub]:
    with CartesiaStub(CARTESIA_KEY, CACHE / "home") as stub:
        yield stub


@pytest.fixture
def right_keys(deepgram: DeepgramStub, cartesia: CartesiaStub) -> Iterator[None]:
    """The providers take their keys when a test begins, whatever it does to them."""
    yield
    deepgram.key, cartesia.key = DEEPGRAM_KEY, CARTESIA_KEY


def provider_environment(deepgram: DeepgramStub, cartesia: CartesiaStub) -> dict[str, str]:
    return {
        "DEEPGRAM_API_KEY": DEEPGRAM_KEY,
        "VOICE_DEEPGRAM_BASE_URL": deepgram.url,
        "CARTESIA_API_KEY": CARTESIA_KEY,
        "VOICE_CARTESIA_BASE_URL": cartesia.url,
    }


@pytest.fixture(scope="module")
def keyed(
    llm: LLMStub, deepgram: DeepgramStub, cartesia: CartesiaStub, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """All three keys; on its disk the LiveKit server, and no model."""
    home = tmp_path_factory.mktemp("keyed") / "home"
    for empty in ("models", "cache"):
        (home / empty).mkdir(parents=True)
    environment = {**provider_environment(deepgram, cartesia), "HF_HOME": str(home / "cache" / "huggingface")}
    with Installation(home, llm.url, environment) as running:
        yield running


def dialler(installation: Installation, ear: Ear, voice: Voice) -> Dial:
    @asynccontextmanager
    async def dial(customer: str) -> AsyncIterator[Caller]:
        url, token = installation.token(customer)
        async with Caller(url, token, voice=voice, ear=ear) as caller:
            yield caller

    return dial


@pytest.fixture
def dial(keyed: Installation, ear: Ear, voice: Voice, right_keys: None) -> Dial:
    return dialler(keyed, ear, voice)


def said_in(installation: Installation, customer: str) -> list[tuple[str, str]]:
    store = installation.store()
    with store.read() as connection:
        found = connection.execute(
            select(turns.c.role, turns.c.text)
            .join(calls)
            .where(calls.c.customer == customer, turns.c.role.in_(["user", "assistant"]))
            .order_by(calls.c.started_ms, turns.c.seq)
        ).all()
    store.close()
    return [(r.role, r.text) for r in found]


def end_of(installation: Installation, customer: str) -> list[tuple[str, str]]:
    store = installation.store()
    with store.read() as connection:
        found = connection.execute(select(calls.c.state, calls.c.reason).where(calls.c.customer == customer)).all()
    store.close()
    return [(r.state, r.reason) for r in found]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A VOICE_HOME in which nothing is yet."""
    return tmp_path / "new"


def files_under(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def libraries_of_job(caller: Caller) -> str:
    """What the process that takes this call has mapped, as one text."""
    (agent,) = [p for p in caller.room.remote_participants.values() if p.identity in caller.agents()]
    return " ".join(m.path for m in psutil.Process(int(agent.attributes[Attribute.PID])).memory_maps())


async def test_with_all_keys_a_call_passes_and_no_model_comes_to_this_machine(
    keyed: Installation,
    dial: Dial,
    script: LLMStub,
    deepgram: DeepgramStub,
    cartesia: CartesiaStub,
    customer: str,
) -> None:
    script.script = by_keyword({"opening": Reply("We open at nine in the morning.")})

    async with dial(customer) as caller:
        greeting, _ = await caller.hear()
        await caller.say("What are your opening hours?")
        answer, _ = await caller.hear()
        libraries = libraries_of_job(caller)
    await wait_until(lambda: "" if end_of(keyed, customer) == [("ended", "customer left")] else "not ended", 15)

    assert "help you" in greeting.lower()
    assert "nine" in answer.lower() or "9" in answer
    spoken = said_in(keyed, customer)
    assert [role for role, _ in spoken] == ["assistant", "user", "assistant"]
    assert "opening hours" in spoken[1][1].lower()
    assert spoken[2][1] == "We open at nine in the morning."

    assert any("opening hours" in text.lower() for text in deepgram.heard)
    assert deepgram.seconds > 1
    asked = deepgram.asked[-1]
    assert (asked["model"], asked["language"], asked["encoding"]) == (["nova-3"], ["en-US"], ["linear16"])
    assert (asked["sample_rate"], asked["channels"]) == (["16000"], ["1"])
    assert asked["mip_opt_out"] == ["true"], "customers' speech is not given away for training"
    assert {a.key for a in deepgram.attempts} == {DEEPGRAM_KEY}
    assert "We open at nine in the morning." in cartesia.spoken
    assert {a.key for a in cartesia.attempts} == {CARTESIA_KEY}
    assert set(cartesia.versions) == {"2025-04-16"}
    wanted = cartesia.asked[-1]
    assert (wanted["model_id"], wanted["language"], wanted["add_timestamps"]) == ("sonic-3", "en", True)
    assert wanted["voice"]["mode"] == "id"
    assert wanted["output_format"] == {"container": "raw", "encoding": "pcm_s16le", "sample_rate": 24000}

    assert files_under(keyed.home / "models") == []
    assert files_under(keyed.home / "cache") == []
    assert "liblivekit_ffi" in libraries, "these are the libraries of a call"
    assert "ctranslate2" not in libraries, "there is a local ear in memory"
    assert "piper" not in libraries, "there is a local voice in memory"


async def test_lines_that_break_in_a_call_are_dialled_again_and_the_call_goes_on(
    dial: Dial, script: LLMStub, deepgram: DeepgramStub, cartesia: CartesiaStub, customer: str
) -> None:
    script.script = by_keyword(
        {
            "opening": Reply("We open at nine in the morning and close at six in the evening, every day."),
            "parking": Reply("Yes, parking is free."),
        }
    )

    async with dial(customer) as caller:
        await caller.hear()
        connections = len(deepgram.asked)
        cut = (deepgram.cut(), cartesia.cut())
        await wait_until(lambda: "" if len(deepgram.asked) > connections else "Deepgram was not called again", 10)
        cartesia.cut_next = True  # in the middle of the answer
        await caller.say("What are your opening hours?")
        half, _ = await caller.hear(end_silence_s=2.5)
        await caller.say("Is there any parking?")
        answer, _ = await caller.hear()

    assert min(cut) >= 1
    assert not cartesia.cut_next, "the voice was not cut off"
    assert "say that again" in half.lower()
    assert "evening" not in half.lower(), "the rest of the answer was not heard"
    assert "free" in answer.lower()


@pytest.mark.parametrize(("provider", "when"), [("deepgram", "in the call"), ("cartesia", "before it")])
async def test_a_key_that_is_refused_is_told_in_words_and_the_call_ends(
    keyed: Installation,
    dial: Dial,
    script: LLMStub,
    deepgram: DeepgramStub,
    cartesia: CartesiaStub,
    customer: str,
    provider: str,
    when: str,
) -> None:
    stub = deepgram if provider == "deepgram" else cartesia
    refused = stub.refused
    if when == "before it":
        stub.revoke()

    async with dial(customer) as caller:
        if when == "in the call":
            await caller.hear()
            stub.revoke()
        words, _ = await caller.hear()
        over = await caller.wait_over()
    await wait_until(lambda: "" if end_of(keyed, customer) == [("ended", "an error")] else "not ended", 15)

    assert stub.refused > refused
    assert "not working" in words.lower()
    assert "try again later" in words.lower(), "the last words are heard to their end"
    assert over == "ROOM_DELETED"
    assert DEEPGRAM_KEY not in keyed.log("worker")
    assert CARTESIA_KEY not in keyed.log("worker")


async def test_with_only_the_key_of_a_language_model_ear_and_voice_are_here_and_its_model_is_not(
    llm: LLMStub, script: LLMStub, ear: Ear, voice: Voice, customer: str, tmp_path: Path
) -> None:
    script.script = by_keyword({"opening": Reply("We open at nine in the morning.")})
    home = tmp_path / "installation"
    (home / "models").mkdir(parents=True)
    for name in (models.EAR, models.VOICE):
        (home / "models" / name).symlink_to(CACHE / "home" / "models" / name)

    with Installation(home, llm.url) as running:
        async with dialler(running, ear, voice)(customer) as caller:
            greeting, _ = await caller.hear()
            await caller.say("What are your opening hours?")
            answer, _ = await caller.hear()
        started = sorted(running.processes)

    assert "help you" in greeting.lower()
    assert "nine" in answer.lower() or "9" in answer
    assert "opening hours" in str(script.requests[-1]["messages"]).lower()
    assert started == ["livekit", "web", "worker"]
    assert sorted(p.name for p in (home / "models").iterdir()) == sorted([models.EAR, models.VOICE])


@pytest.mark.parametrize(
    ("keys", "here"),
    [
        ({}, [models.EAR, models.VOICE, models.LANGUAGE]),
        ({"openai_api_key": "sk"}, [models.EAR, models.VOICE]),
        ({"openai_api_key": "sk", "deepgram_api_key": "dg", "cartesia_api_key": "ca"}, []),
    ],
    ids=["no key", "language only", "all keys"],
)
def test_what_a_key_replaces_is_neither_fetched_nor_started(keys: dict[str, str], here: list[str], home: Path) -> None:
    settings = load(VoiceSettings, home=home, livekit_api_key="k", livekit_api_secret="s" * 32, **keys)

    planned = [i.name for i in preflight.items(settings, build_livekit=False, build_page=False)]
    parts = [p.name for p in table(settings, Home(home), None)]

    assert engines.needed_models(settings) == planned == here
    assert ("llm" in parts) == (models.LANGUAGE in here)


def test_wrong_keys_are_refused_before_anything_is_fetched_or_started(home: Path, llm: LLMStub) -> None:
    with DeepgramStub(DEEPGRAM_KEY) as deepgram, CartesiaStub(CARTESIA_KEY) as cartesia:
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)},
            **provider_environment(deepgram, cartesia),
            "OPENAI_BASE_URL": llm.url,
            "VOICE_HOME": str(home),
            "VOICE_ENV_FILE": str(home / "none.env"),
            "VOICE_HTTP_PORT": str(free_port()),
            "MEMORY_BACKEND": "embedded",
        }

        def voicectl(*arguments: str, **wrong: str) -> subprocess.CompletedProcess[str]:
            argv = [sys.executable, "-m", "voicectl.cli.main", *arguments]
            return subprocess.run(argv, env={**environment, **wrong}, capture_output=True, text=True, timeout=60)

        ear = voicectl("up", DEEPGRAM_API_KEY="dg-wrong-key")
        voice = voicectl("up", CARTESIA_API_KEY="ca-wrong-key")
        doctor = voicectl("doctor", "--json", DEEPGRAM_API_KEY="dg-wrong-key", CARTESIA_API_KEY="ca-wrong-key")

        findings = {f["text"]: f["verdict"] for f in json.loads(doctor.stdout)["findings"] if f["check"] == "keys"}
        assert (ear.returncode, voice.returncode, doctor.returncode) == (5, 5, 1)
        assert f"DEEPGRAM_API_KEY is refused by {deepgram.url} (401)" in ear.stderr
        assert f"CARTESIA_API_KEY is refused by {cartesia.url} (401)" in voice.stderr
        assert findings[f"DEEPGRAM_API_KEY at {deepgram.url} is refused (401)"] == "failed"
        assert findings[f"CARTESIA_API_KEY at {cartesia.url} is refused (401)"] == "failed"
        everything = "".join(d.stdout + d.stderr for d in (ear, voice, doctor))
        assert "wrong-key" not in everything
        assert not (home / "models").exists()
        assert not (home / "livekit.yaml").exists()
