"""Speech and language engines by provider: what hears, thinks and speaks in a call, chosen by the keys that are set.

With a key the provider is used, without one an embedded engine; `describe` says which and why. Heavy libraries and
models are loaded by `preload` and `build` only, never at import. Not here: model files (models.py), the call (call.py).
"""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from voicectl.voice import models

if TYPE_CHECKING:
    import aiohttp
    from livekit.agents import Agent, llm, stt, tts, vad
    from livekit.agents.llm import Tool, Toolset
    from livekit.agents.voice.agent_session import SessionConnectOptions
    from livekit.agents.voice.turn import TurnHandlingOptions

    from voicectl.voice.config import VoiceSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """Models in memory. One process uses them for one call after another; None where a provider does the work."""

    whisper: Any = None
    piper: Any = None


@dataclass(frozen=True)
class Engines:
    """What a call hears, thinks and speaks with. Close it with the call.

    Args:
        stt: Streaming recogniser.
        tts: Voice.
        vad: Voice activity detector.
        llm: Language model, one attempt and a bounded wait.
        names: Role (`stt`, `llm`, `tts`, `vad`) → engine and why, for people.
    """

    stt: stt.STT[Any]
    tts: tts.TTS[Any]
    vad: vad.VAD
    llm: llm.LLM[Any]
    names: dict[str, str]
    closers: tuple[Callable[[], Awaitable[None]], ...] = field(default=(), repr=False)

    async def aclose(self) -> None:
        """Close connections and threads. The session closes none of them by itself."""
        for close in self.closers:
            await close()


def describe(settings: VoiceSettings) -> dict[str, str]:
    """Role → engine and why it was chosen. Loads nothing, imports no LiveKit."""
    why = "VOICE_LOCAL" if settings.local else "embedded, no key set"
    llm_why = "OPENAI_API_KEY" if settings.openai_api_key else "OPENAI_BASE_URL"
    llm_at = f" at {settings.openai_base_url}" if settings.openai_base_url else ""
    return {
        "stt": f"faster-whisper tiny.en ({why})" if settings.stt_is_local() else "Deepgram nova-3 (DEEPGRAM_API_KEY)",
        "llm": f"Qwen2.5-Coder-1.5B ({why})"
        if settings.llm_is_local()
        else f"{settings.llm_model}{llm_at} ({llm_why})",
        "tts": f"piper en_US-joe ({why})" if settings.tts_is_local() else "Cartesia sonic-3 (CARTESIA_API_KEY)",
        "vad": "silero and turn-detector v1-mini (embedded)",
    }


def needed_models(settings: VoiceSettings) -> list[str]:
    """Model files these settings need; none for a role that a provider fills."""
    roles = (
        (settings.stt_is_local(), models.EAR),
        (settings.tts_is_local(), models.VOICE),
        (settings.llm_is_local(), models.LANGUAGE),
    )
    return [name for needed, name in roles if needed]


def plugin_modules(settings: VoiceSettings) -> list[str]:
    """Modules of the chosen providers, for the worker's `preload_modules`: 0.9 s that no call should wait for.

    They start no threads beyond the framework's; the local engines' libraries do and are left out (see `preload`).
    """
    here = "voicectl.voice.engines"
    found = [f"{here}.llm", f"{here}.stt", f"{here}.tts", f"{here}.vad", "aiohttp"]
    # The last three are imported by the first request otherwise, which stands the loop still for 0.2 s.
    remote = ("livekit.plugins.openai", "openai.resources.chat.completions", "openai.lib.streaming.chat")
    found += [f"{here}.local_llm.adapter"] if settings.llm_is_local() else [*remote, "anyio._backends._asyncio"]
    found += [] if settings.stt_is_local() else ["livekit.plugins.deepgram"]
    return found + ([] if settings.tts_is_local() else ["livekit.plugins.cartesia"])


def preload(settings: VoiceSettings) -> Loaded:
    """Load what a call needs before there is one: libraries and speech models, 2-3 s, 250 MB, warm when it returns.

    Call it in each job process (the worker's `setup_fnc`), before a call is offered to it. Never in the forkserver's
    parent, not even as `preload_modules`: importing onnxruntime or faster-whisper already starts threads there, and a
    child of fork has only the thread that forked (measured: 2 threads more after `import onnxruntime`).

    Raises:
        ModelMissing: A model file is not on this disk.
    """
    from voicectl.voice.engines import stt, tts

    for module in plugin_modules(settings):
        importlib.import_module(module)
    whisper = piper = None
    if settings.stt_is_local():
        import numpy as np

        whisper = stt.load_whisper(models.require(models.EAR, settings.home))
        stt.hear(whisper, np.zeros(stt.WHISPER_RATE, np.float32), [])
    if settings.tts_is_local():
        piper = tts.load_piper(models.require(models.VOICE, settings.home) / "en_US-joe-medium.onnx")
    return Loaded(whisper, piper)


def build(
    settings: VoiceSettings, *, keyterms: Callable[[], list[str]] | None = None, preloaded: Loaded | None = None
) -> Engines:
    """The engines of one call. Needs a running event loop; opens no connection yet.

    Args:
        settings: Keys, addresses and VOICE_HOME.
        keyterms: Words likely in the next utterance (names, open order ids).
        preloaded: What `preload` returned in this process; None loads now, which blocks for 2-3 s.

    Raises:
        ModelMissing: A model file is not on this disk.
        SettingError: The local language model has no address.
    """
    import aiohttp

    from voicectl.voice.engines import llm, stt, tts, vad
    from voicectl.voice.proxies import proxy_for

    sessions: list[aiohttp.ClientSession] = []

    def session(url: str) -> aiohttp.ClientSession:
        # Not the job's shared session: that one follows the worker's proxy setting, which is off for a local LiveKit.
        sessions.append(aiohttp.ClientSession(proxy=proxy_for(url)))
        return sessions[-1]

    loaded = preloaded or preload(settings)
    detector = vad.build()
    language = llm.local(settings) if settings.llm_is_local() else llm.remote(settings)
    if settings.stt_is_local():
        inner = stt.LocalSTT(loaded.whisper, keyterms)
        ear, ear_closer = stt.streaming(inner, detector), inner.aclose
    else:
        ear = stt.deepgram(settings, session, keyterms)
        ear_closer = ear.aclose
    voice = tts.LocalTTS(loaded.piper) if settings.tts_is_local() else tts.cartesia(settings, session)
    closers = (ear_closer, voice.aclose, language.aclose, *(s.close for s in sessions))
    return Engines(ear, voice, detector, language, describe(settings), closers)


async def warm_up(settings: VoiceSettings, instructions: str = "", tools: Sequence[Tool | Toolset] = ()) -> None:
    """Let the small model read the prompt that calls begin with, so that the first turn is as fast as the next.

    Nothing happens with a remote model; a local one that does not answer is logged, its calls will say so themselves.

    Args:
        settings: The installation's settings.
        instructions: The default desk's instructions.
        tools: Its tools, in the session's order.
    """
    from livekit.agents import APIError

    from voicectl.voice.engines import llm
    from voicectl.voice.engines.local_llm import kept_prompt
    from voicectl.voice.engines.local_llm.errors import ModelMissing
    from voicectl.voice.engines.local_llm.server import model_file

    if not settings.llm_is_local() or settings.local_llm_url is None:
        return
    model = llm.local_model(settings)
    try:
        took = await model.warm_up(instructions, tools)
        log.info("language model warm", extra={"seconds": round(took.seconds, 2), "tokens_read": took.tokens_read})
        with contextlib.suppress(ModelMissing):  # a server of somebody else's, which keeps what it likes
            await kept_prompt.keep(model, took, settings.home, model_file(settings.home))
    except APIError as e:
        log.warning("language model not warm; the first turn will be slow", extra={"why": str(e)})
    finally:
        await model.aclose()


async def warm_up_call(made: Engines, agent: Agent, greeting: str) -> None:
    """Let the small model read the prompt of one call while its greeting is heard; nothing for other engines.

    Args:
        made: The call's engines.
        agent: The agent, with what is known in its instructions.
        greeting: What is being said.
    """
    from livekit.agents import APIError

    from voicectl.voice.engines.llm import WatchedLLM
    from voicectl.voice.engines.local_llm.adapter import LocalLLM

    model = made.llm.inner if isinstance(made.llm, WatchedLLM) else made.llm
    if not isinstance(model, LocalLLM):
        return
    try:
        took = await model.warm_up(agent.instructions, agent.tools, greeting)
        log.info("the call's prompt is read", extra={"seconds": round(took.seconds, 2), "tokens": took.tokens_read})
    except APIError as e:
        log.warning("the first answer will be slow", extra={"why": str(e)})


def turn_handling(settings: VoiceSettings) -> TurnHandlingOptions:
    """AgentSession's `turn_handling` for these settings."""
    from voicectl.voice.engines import vad

    return vad.turn_handling(settings)


def connect_options(settings: VoiceSettings) -> SessionConnectOptions:
    """AgentSession's `conn_options`: speech engines may retry once, the language model is bounded by its watchdog.

    A language model that fails turn after turn does not end the call: each time the customer is told, and may ask on.
    """
    from livekit.agents import APIConnectOptions
    from livekit.agents.voice.agent_session import SessionConnectOptions

    return SessionConnectOptions(
        stt_conn_options=APIConnectOptions(max_retry=3, retry_interval=0.5, timeout=5.0),
        llm_conn_options=APIConnectOptions(max_retry=0, timeout=settings.llm_timeout_s),
        tts_conn_options=APIConnectOptions(max_retry=1, retry_interval=0.2, timeout=5.0),
        max_unrecoverable_errors=50,
    )
