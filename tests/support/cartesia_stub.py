"""Cartesia's voice on loopback, as its TTS websocket speaks, with a real voice behind it.

Texts are spoken by piper joe from the test cache. Kept of the real one: key in `X-API-Key`, 401 before the upgrade,
contexts that are continued until `"continue": false`, chunks of base64 PCM at the rate asked for, word timestamps when
asked for, `done`, `cancel`, errors as messages. Not kept: prosody across the parts of a context, the bytes endpoint.
"""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import WSMsgType, web

from tests.support.provider_server import ProviderServer
from voicectl.voice import models
from voicectl.voice.engines.tts import load_piper
from voicectl.voice.speech import Pcm, resample

CHUNK_S = 0.2
CUT_AFTER = 5  # chunks: enough that some has been heard


class CartesiaStub(ProviderServer):
    """The server, in a thread of its own. Use as a context manager.

    Args:
        key: The key it takes.
        home: Where the models are; None where nothing is spoken.

    Attributes:
        asked: Every message that asked for speech, as it came.
        versions: The protocol version of each connection.
        cut_next: Break the connection in the middle of the next text, when it is long enough.
    """

    def __init__(self, key: str, home: Path | None = None) -> None:
        super().__init__(key)
        self.asked: list[dict[str, Any]] = []
        self.versions: list[str] = []
        self.cut_next = False
        self._piper = load_piper(models.require(models.VOICE, home) / "en_US-joe-medium.onnx") if home else None
        self._one_at_a_time = asyncio.Lock()

    @property
    def spoken(self) -> str:
        """All texts that were asked for, in order."""
        return " ".join(a["transcript"].strip() for a in self.asked if a["transcript"].strip())

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/voices", self._voices), web.get("/tts/websocket", self._websocket)]

    def given_key(self, request: web.Request) -> str:
        return request.headers.get("X-API-Key") or request.query.get("api_key", "")

    def refusal(self) -> dict[str, Any]:
        return {"error_code": "unauthorized", "message": "Invalid API key.", "title": "Unauthorized"}

    async def _voices(self, _: web.Request) -> web.Response:
        return web.json_response({"data": [], "has_more": False})

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        version = request.headers.get("Cartesia-Version") or request.query.get("cartesia_version", "")
        if not version:
            return web.json_response({"error": "a Cartesia-Version is needed"}, status=400)
        self.versions.append(version)
        line = await self.accept(request)
        cancelled: set[str] = set()
        texts: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        speaking = asyncio.create_task(self._speak(line, texts, cancelled))
        try:
            async for message in line:
                if message.type != WSMsgType.TEXT:
                    continue
                wanted = json.loads(message.data)
                if wanted.get("cancel"):
                    cancelled.add(wanted["context_id"])
                else:
                    texts.put_nowait(wanted)
        finally:
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)
        return line

    async def _speak(
        self, line: web.WebSocketResponse, texts: asyncio.Queue[dict[str, Any]], cancelled: set[str]
    ) -> None:
        said_s: dict[str, float] = {}  # context → seconds so far: word times count from its beginning
        while True:
            wanted = await texts.get()
            context = wanted.get("context_id", "")
            if context in cancelled:
                continue
            if lack := _lack(wanted):
                error = {"type": "error", "done": True, "status_code": 400, "error": lack, "context_id": context}
                await line.send_json(error)
                continue
            self.asked.append(wanted)
            if text := wanted["transcript"].strip():
                said_s[context] = await self._one(line, wanted, text, said_s.get(context, 0.0), cancelled)
            if not wanted.get("continue"):
                await line.send_json({"type": "done", "done": True, "status_code": 200, "context_id": context})

    async def _one(
        self, line: web.WebSocketResponse, wanted: dict[str, Any], text: str, begins_s: float, cancelled: set[str]
    ) -> float:
        """Speak one text; returns where in its context it ends, in seconds."""
        rate = wanted["output_format"]["sample_rate"]
        async with self._one_at_a_time:
            pcm = await asyncio.to_thread(self._synthesize, text, rate)
        tag = {"done": False, "status_code": 206, "context_id": wanted["context_id"]}
        ends_s = begins_s + len(pcm) / rate
        if wanted.get("add_timestamps"):
            words = text.split()
            edges = np.linspace(begins_s, ends_s, len(words) + 1).round(3).tolist()
            times = {"words": words, "start": edges[:-1], "end": edges[1:]}
            await line.send_json({"type": "timestamps", "word_timestamps": times, **tag})
        step = int(rate * CHUNK_S)
        for at in range(0, len(pcm), step):
            if wanted["context_id"] in cancelled:
                break
            data = base64.b64encode(pcm[at : at + step].tobytes()).decode()
            await line.send_json({"type": "chunk", "data": data, "step_time": 1.0, **tag})
            if self.cut_next and at >= CUT_AFTER * step:
                self.cut_next = False
                self.drop(line)
                break
        return ends_s

    def _synthesize(self, text: str, rate: int) -> Pcm:
        assert self._piper is not None, "made without models"
        pcm = np.concatenate([np.frombuffer(c.audio_int16_bytes, np.int16) for c in self._piper.synthesize(text)])
        return resample(pcm, self._piper.config.sample_rate, rate)


def _lack(wanted: dict[str, Any]) -> str:
    """What a request for speech lacks; "" for nothing."""
    out = wanted.get("output_format", {})
    if not wanted.get("context_id") or not wanted.get("model_id") or "transcript" not in wanted:
        return "context_id, model_id and transcript are needed"
    if wanted.get("voice", {}).get("mode") != "id" or not wanted["voice"].get("id"):
        return "a voice is needed"
    if out.get("container") != "raw" or out.get("encoding") != "pcm_s16le" or not out.get("sample_rate"):
        return f"cannot make {out}"
    return ""
