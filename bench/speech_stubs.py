"""A stand-in ear and voice on loopback, in Deepgram's and Cartesia's wire protocols, with no latency of their own.

The ear hears only that speech has ended (300 ms of quiet) and says a scripted sentence then; the voice answers every
text with the same tone at once. Both arms of spoken_path.py use them through the official plugins, so that the arms do
not differ by their engines. Not here: the language model (tests/support/llm_stub.py).
"""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from typing import Any

import numpy as np
from aiohttp import WSMsgType, web

TONE_RATE = 24_000
TONE_S = 0.4
LOUD = 300.0  # RMS; the caller's quietest vowel is above 1,000
QUIET_S = 0.3
SENTENCE = "What are your opening hours?"


def tone() -> bytes:
    """The voice's only utterance: 440 Hz, 16 bit mono."""
    at = np.arange(int(TONE_RATE * TONE_S)) / TONE_RATE
    return bytes((8000 * np.sin(2 * np.pi * 440 * at)).astype(np.int16).tobytes())


class SpeechStubs:
    """Both servers, in a thread of their own. Use as a context manager.

    Attributes:
        heard: Utterances whose end the ear has reported.
        spoken: Texts that the voice was given.
    """

    def __init__(self) -> None:
        self.url = ""
        self.heard = 0
        self.spoken: list[str] = []
        self._tone = base64.b64encode(tone()).decode()
        self._loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> SpeechStubs:
        self._thread.start()
        assert self._up.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._up.set()
        self._loop.run_forever()

    async def _serve(self) -> None:
        app = web.Application()
        app.router.add_get("/v1/listen", self._listen)
        app.router.add_get("/tts/websocket", self._speak)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def _listen(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        rate = int(request.query["sample_rate"])
        speaking, quiet_s, at_s = False, 0.0, 0.0
        async for message in socket:
            if message.type != WSMsgType.BINARY:
                continue  # KeepAlive, Finalize, CloseStream
            pcm = np.frombuffer(message.data, np.int16).astype(np.float32)
            length_s = len(pcm) / rate
            at_s += length_s
            if np.sqrt((pcm**2).mean()) > LOUD:
                speaking, quiet_s = True, 0.0
                continue
            quiet_s += length_s
            if speaking and quiet_s >= QUIET_S:
                speaking = False
                self.heard += 1
                await socket.send_str(json.dumps(_result(at_s - quiet_s)))
        return socket

    async def _speak(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type != WSMsgType.TEXT:
                continue
            asked = json.loads(message.data)
            context = {"context_id": asked.get("context_id"), "status_code": 206}
            if asked.get("cancel"):
                continue
            if asked["transcript"].strip():
                self.spoken.append(asked["transcript"].strip())
                await socket.send_str(json.dumps({"type": "chunk", "data": self._tone, "done": False, **context}))
            if not asked.get("continue"):
                await socket.send_str(json.dumps({"type": "done", "done": True, **context}))
        return socket


def _result(end_s: float) -> dict[str, Any]:
    """A final result as Deepgram sends it."""
    words = [{"word": w.lower(), "start": end_s, "end": end_s, "confidence": 0.99} for w in SENTENCE.split()]
    return {
        "type": "Results",
        "is_final": True,
        "speech_final": True,
        "metadata": {"request_id": "bench"},
        "channel": {"alternatives": [{"transcript": SENTENCE, "confidence": 0.99, "words": words}]},
    }
