"""What the stand-ins of speech providers share: an HTTP server in a thread, a key, open lines that can be cut.

    with DeepgramStub("dg-key", CACHE / "home") as deepgram: ...   # deepgram.url is its address

Not here: any provider's protocol (deepgram_stub.py, cartesia_stub.py).
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web


@dataclass
class Attempt:
    """One request: where to, with which key, and the answer's status (101 for an accepted websocket)."""

    path: str
    key: str
    status: int


class ProviderServer:
    """A provider on loopback. Use as a context manager; a subclass adds routes and says where the key is.

    Args:
        key: The one key it takes; set it to something else and the old one is refused from then on.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self.url = ""
        self.attempts: list[Attempt] = []
        self._lines: dict[web.WebSocketResponse, asyncio.Transport] = {}
        self._loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def routes(self) -> list[web.RouteDef]:
        """The provider's addresses."""
        raise NotImplementedError

    def given_key(self, request: web.Request) -> str:
        """The key in a request; empty for none."""
        raise NotImplementedError

    def refusal(self) -> dict[str, Any]:
        """The body of the provider's 401."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._on_loop(self._runner.cleanup)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    @property
    def refused(self) -> int:
        """Requests that were answered with 401."""
        return sum(a.status == 401 for a in self.attempts)

    def cut(self) -> int:
        """Break all open websockets as a network does: no close frame. Returns how many there were."""

        async def abort() -> int:
            cut = list(self._lines.values())
            for transport in cut:
                transport.abort()
            return len(cut)

        return int(self._on_loop(abort))

    def revoke(self) -> None:
        """From now on the key is refused, and who is connected is cut off."""
        self.key = secrets.token_hex(8)
        self.cut()

    async def accept(self, request: web.Request) -> web.WebSocketResponse:
        """A websocket whose key has been checked; it is cut with the others."""
        line = web.WebSocketResponse(heartbeat=30)
        await line.prepare(request)
        assert request.transport is not None
        self._lines[line] = request.transport
        return line

    def drop(self, line: web.WebSocketResponse) -> None:
        """Break one websocket; for handlers."""
        self._lines[line].abort()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._up.set()
        self._loop.run_forever()

    async def _serve(self) -> None:
        app = web.Application(middlewares=[self._check_key])
        app.router.add_routes(self.routes())
        self._runner = web.AppRunner(app, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    @property
    def _check_key(self) -> Any:
        @web.middleware
        async def check(request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
            key = self.given_key(request)
            good = key == self.key
            upgrade = request.headers.get("Upgrade", "").lower() == "websocket"
            self.attempts.append(Attempt(request.path, key, 401 if not good else 101 if upgrade else 200))
            if not good:
                return web.json_response(self.refusal(), status=401)
            try:
                answer: web.StreamResponse = await handler(request)
            finally:
                self._lines = {line: t for line, t in self._lines.items() if not t.is_closing()}
            return answer

        return check

    def _on_loop(self, work: Callable[[], Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(10)
