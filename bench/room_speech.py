"""The engines of the calls in bench/rooms.py: nothing costs time but rooms.

An ear that hears nothing (customers type), a voice whose every text is a tone, a language model that answers at once.
The word STORY is spoken for STORY_S seconds without a pause, so that a hole in it is a hole in the line.
Not here: Deepgram's and Cartesia's wire protocols (speech_stubs.py), the model's (tests/support/llm_stub.py).
"""

from __future__ import annotations

import asyncio
import base64
import json

import numpy as np
from aiohttp import WSMsgType, web

from bench.speech_stubs import TONE_RATE, SpeechStubs
from tests.support.llm_stub import LLMStub, Reply, by_keyword

STORY, STORY_S = "Once", 20  # one word, so that it is one text for the voice
WORD_S = 0.4
TELL, ASK = "Tell me a story.", "Are you there?"


def _tone(seconds: float) -> str:
    at = np.arange(int(TONE_RATE * seconds)) / TONE_RATE
    return base64.b64encode((8000 * np.sin(2 * np.pi * 440 * at)).astype(np.int16).tobytes()).decode()


class _Speech(SpeechStubs):
    """As its base, with texts of two lengths and an ear that only drinks."""

    def __init__(self) -> None:
        super().__init__()
        self._second, self._word = _tone(1.0), _tone(WORD_S)  # whole periods: seconds follow each other without a click

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._drop(), self._loop).result(10)
        super().__exit__()

    async def _drop(self) -> None:
        """End what is open: killed workers leave connections behind that nobody closes."""
        mine = asyncio.all_tasks() - {asyncio.current_task()}
        for task in mine:
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)

    async def _listen(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for _ in socket:
            pass
        return socket

    async def _speak(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type != WSMsgType.TEXT:
                continue
            asked = json.loads(message.data)
            if asked.get("cancel"):
                continue
            context = {"context_id": asked.get("context_id"), "status_code": 206}
            if text := asked["transcript"].strip():
                self.spoken.append(text)
                for data in [self._second] * STORY_S if text.startswith(STORY) else [self._word]:
                    await socket.send_str(json.dumps({"type": "chunk", "data": data, "done": False, **context}))
            if not asked.get("continue"):
                await socket.send_str(json.dumps({"type": "done", "done": True, **context}))
        return socket


class Engines:
    """Ear, voice and model on loopback. Use as a context manager."""

    def __init__(self) -> None:
        self.speech = _Speech()
        self.llm = LLMStub(by_keyword({TELL: Reply(STORY)}, otherwise="Yes."))

    def __enter__(self) -> Engines:
        self.speech.__enter__()
        self.llm.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.llm.__exit__()
        self.speech.__exit__()

    @property
    def settings(self) -> dict[str, str]:
        """What an installation's processes must be told."""
        return {
            "DEEPGRAM_API_KEY": "bench",
            "CARTESIA_API_KEY": "bench",
            "VOICE_DEEPGRAM_BASE_URL": self.speech.url,
            "VOICE_CARTESIA_BASE_URL": self.speech.url,
            "OPENAI_API_KEY": "bench",
        }
