"""The agent's voice: piper in this process, or Cartesia; and how ids are written so that a voice reads them right.

Not here: what is said, when it may be interrupted (the call), the caller's voice of tests (caller.py).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livekit.agents import tts, utils
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, APIConnectOptions

if TYPE_CHECKING:
    import aiohttp

    from voicectl.voice.config import VoiceSettings

# O302, AB-129, INV-2024-001, o302; six digits and more; 555-0147. Not MP3, x86, 10am, 2nd, 1,299.99, 2026-11-14.
_ID = re.compile(
    r"(?<![\w.,$€£-])(?!\d{4}-\d\d-\d\d\b)"
    r"(?:[A-Z]{1,4}-?\d{2,}(?:-[A-Za-z0-9]+)*|[a-z]{1,4}-?\d{3,}|\+?\d{6,}|\d+(?:-\d+)+)"
    r"(?![\w%]|[.,]\d)"
)


def load_piper(file: Path) -> Any:
    """Load a piper voice; 1.1-2 s, 120 MB. Say one word with it, or the first sentence of a call pays 0.2 s more."""
    from piper import PiperVoice

    voice = PiperVoice.load(file, config_path=file.with_name(file.name + ".json"))
    for _ in voice.synthesize("Hello."):
        pass
    return voice


def spell_ids(text: str) -> str:
    """Spell order ids and long numbers character by character: `O302` becomes `O, 3, 0, 2`.

    Every voice reads `O302` as "O three hundred two", which no ear hears as an id (local_models.md 0.4).
    """
    return _ID.sub(lambda m: ", ".join("plus" if c == "+" else c.upper() for c in m[0] if c != "-"), text)


async def spell_ids_transform(text: AsyncIterable[str]) -> AsyncIterator[str]:
    """`spell_ids` for a stream of pieces, for AgentSession's `tts_text_transforms`; a piece may end inside an id."""
    held = ""
    async for piece in text:
        held += piece
        cut = max(held.rfind(" "), held.rfind("\n")) + 1
        if cut:
            yield spell_ids(held[:cut])
            held = held[cut:]
    if held:
        yield spell_ids(held)


class LocalTTS(tts.TTS[Any]):
    """piper as a LiveKit voice: one chunk of audio a sentence, made in a thread of its own.

    Args:
        voice: What `load_piper` returned.
    """

    def __init__(self, voice: Any) -> None:
        super().__init__(
            capabilities=tts.TTSCapabilities(streaming=False), sample_rate=voice.config.sample_rate, num_channels=1
        )
        self._voice = voice
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="local-tts")

    @property
    def model(self) -> str:
        """The voice's name, for metrics."""
        return "en_US-joe-medium"

    @property
    def provider(self) -> str:
        """The engine's name, for metrics."""
        return "piper"

    def chunks(self, text: str) -> Iterator[bytes]:
        """PCM of the text, 16 bit mono, a sentence at a time. Blocks between chunks."""
        for chunk in self._voice.synthesize(text):
            yield chunk.audio_int16_bytes

    def synthesize(
        self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> tts.ChunkedStream:
        """Speak a text."""
        return _Spoken(tts=self, input_text=text, conn_options=conn_options)

    async def aclose(self) -> None:
        """Let the sentence in work finish in its thread, start no other."""
        self.thread.shutdown(wait=False, cancel_futures=True)


class _Spoken(tts.ChunkedStream):
    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        voice = self._tts
        assert isinstance(voice, LocalTTS)  # noqa: S101 - synthesize() made us
        output_emitter.initialize(
            request_id=utils.shortuuid("piper_"),
            sample_rate=voice.sample_rate,
            num_channels=1,
            mime_type="audio/pcm",
        )
        loop, chunks = asyncio.get_running_loop(), voice.chunks(self._input_text)
        while (chunk := await loop.run_in_executor(voice.thread, next, chunks, None)) is not None:
            output_emitter.push(chunk)
        output_emitter.flush()


def cartesia(settings: VoiceSettings, session: Callable[[str], aiohttp.ClientSession]) -> tts.TTS[Any]:
    """Cartesia's voice, at its own address or VOICE_CARTESIA_BASE_URL.

    Args:
        settings: Key and address.
        session: Gives the HTTP session for an address.
    """
    from livekit.plugins import cartesia as plugin

    key = settings.cartesia_api_key
    url = (settings.cartesia_base_url or "https://api.cartesia.ai").rstrip("/")
    return plugin.TTS(api_key=key.get_secret_value() if key else "", base_url=url, http_session=session(url))
