"""Deepgram's streaming recogniser on loopback, as its `listen` websocket speaks, with a real ear behind it.

What is said is heard by Whisper tiny.en from the test cache; results come as Deepgram sends them: SpeechStarted, an
interim result, a final one with `speech_final`. Kept of the real one: key in `Authorization: Token`, 401 and 400 before
the upgrade, KeepAlive, Finalize, CloseStream with a closing Metadata, 1011 NET-0001 when nothing comes for 10 s.
Not kept: word times are even, and it waits at least PAUSE_MS (25 are asked for): Whisper hears fragments badly.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import WSMsgType, web

from tests.support.provider_server import ProviderServer
from voicectl.voice import models
from voicectl.voice.engines import stt
from voicectl.voice.speech import EAR_RATE, resample

PAUSE_MS = 300
LOUD = 200  # RMS of 16 bit samples; a decoded silent microphone is below 5
IDLE_S = 10


class DeepgramStub(ProviderServer):
    """The server, in a thread of its own. Use as a context manager.

    Args:
        key: The key it takes.
        home: Where the models are; None where nothing is spoken.

    Attributes:
        asked: The query of each accepted connection: parameter → values.
        heard: Final transcripts, in order.
        seconds: Audio received.
    """

    def __init__(self, key: str, home: Path | None = None) -> None:
        super().__init__(key)
        self.asked: list[dict[str, list[str]]] = []
        self.heard: list[str] = []
        self.seconds = 0.0
        self._whisper = stt.load_whisper(models.require(models.EAR, home)) if home else None

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v1/auth/token", self._token), web.get("/v1/listen", self._listen)]

    def given_key(self, request: web.Request) -> str:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        return key if scheme.lower() == "token" else ""

    def refusal(self) -> dict[str, Any]:
        return {"err_code": "INVALID_AUTH", "err_msg": "Invalid credentials.", "request_id": secrets.token_hex(16)}

    async def _token(self, _: web.Request) -> web.Response:
        return web.json_response({"api_key_id": "1", "scopes": ["usage:write"]})

    async def _listen(self, request: web.Request) -> web.StreamResponse:
        asked = {name: request.query.getall(name) for name in request.query}
        if asked.get("encoding") != ["linear16"] or not asked.get("sample_rate", [""])[0].isdigit():
            body = {
                "err_code": "Bad Request",
                "err_msg": "Bad Request: encoding and sample_rate are needed for raw audio",
            }
            return web.json_response(body, status=400)
        self.asked.append(asked)
        line = await self.accept(request)
        await _Listening(self, line, asked).run()
        return line

    async def hear(self, pcm: np.ndarray, rate: int, keyterms: list[str]) -> str:
        """What is said, by Whisper; in a thread."""
        audio = resample(pcm, rate, EAR_RATE).astype(np.float32) / np.float32(32768)
        return await asyncio.to_thread(stt.hear, self._whisper, audio, keyterms)


class _Listening:
    """One connection: audio in, results out."""

    def __init__(self, server: DeepgramStub, line: web.WebSocketResponse, asked: dict[str, list[str]]) -> None:
        self._server, self._line, self._asked = server, line, asked
        self._rate = int(asked["sample_rate"][0])
        self._request_id = secrets.token_hex(16)
        self._at = self._began = 0.0  # seconds of the stream: now, and where the utterance begins
        self._pieces: list[np.ndarray] = []
        self._quiet_s = 0.0
        self._in_speech = False

    def _yes(self, name: str) -> bool:
        return self._asked.get(name) == ["true"]

    async def run(self) -> None:
        while True:
            try:
                message = await self._line.receive(timeout=IDLE_S)
            except TimeoutError:
                await self._line.close(code=1011, message=b"NET-0001")
                return
            if message.type == WSMsgType.BINARY:
                await self._take(np.frombuffer(message.data, dtype=np.int16))
            elif message.type == WSMsgType.TEXT:
                kind = json.loads(message.data).get("type")
                if kind in ("Finalize", "CloseStream"):
                    await self._finish(from_finalize=True)
                if kind == "CloseStream":
                    await self._line.send_json({"type": "Metadata", "request_id": self._request_id, "channels": 1})
                    await self._line.close()
                    return
            else:
                return

    async def _take(self, pcm: np.ndarray) -> None:
        length = len(pcm) / self._rate
        self._at += length
        self._server.seconds += length
        loud = bool(len(pcm)) and float(np.sqrt(np.mean(pcm.astype(np.float64) ** 2))) > LOUD
        if loud and not self._in_speech:
            self._in_speech = True
            self._began = self._at - length
            if self._yes("vad_events"):
                started = {"type": "SpeechStarted", "channel": [0, 1], "timestamp": round(self._began, 2)}
                await self._line.send_json(started)
        self._pieces.append(pcm)
        if not self._in_speech:
            del self._pieces[:-4]  # 0.2 s before the first loud block belongs to the word
            return
        self._quiet_s = 0.0 if loud else self._quiet_s + length
        if self._quiet_s * 1000 >= max(PAUSE_MS, int(self._asked.get("endpointing", ["10"])[0])):
            await self._finish()

    async def _finish(self, *, from_finalize: bool = False) -> None:
        """The utterance is over: say what was heard, first a part, then all of it."""
        pieces, was_speech = self._pieces, self._in_speech
        self._pieces, self._in_speech, self._quiet_s = [], False, 0.0
        text = ""
        if was_speech:
            text = await self._server.hear(np.concatenate(pieces), self._rate, self._asked.get("keyterm", []))
        if not self._yes("punctuate"):
            text = "".join(c for c in text.lower() if c.isalnum() or c in " '")
        words = text.split()
        if self._yes("interim_results") and len(words) > 1:
            await self._result(words[: len(words) // 2], final=False)
        if words:
            self._server.heard.append(text)
        if words or was_speech or from_finalize:
            await self._result(words, final=True, from_finalize=from_finalize)

    async def _result(self, words: list[str], *, final: bool, from_finalize: bool = False) -> None:
        step = (self._at - self._began) / max(len(words), 1)
        timed = [
            {
                "word": word.lower().strip(".,!?"),
                "punctuated_word": word,
                "start": round(self._began + n * step, 3),
                "end": round(self._began + (n + 1) * step, 3),
                "confidence": 0.98,
            }
            for n, word in enumerate(words)
        ]
        alternative = {"transcript": " ".join(words), "confidence": 0.98 if words else 0.0, "words": timed}
        await self._line.send_json(
            {
                "type": "Results",
                "channel_index": [0, 1],
                "start": self._began,
                "duration": self._at - self._began,
                "is_final": final,
                "speech_final": final,
                "from_finalize": from_finalize,
                "channel": {"alternatives": [alternative]},
                "metadata": {"request_id": self._request_id, "model_uuid": "0", "model_info": {}},
            }
        )
