"""A TCP proxy before a server, with a mood: ok, refused, 500, hung, swallow (the request goes in, no answer comes out).

A change of mood cuts the connections there are, as a crash of a machine between would.
"""

from __future__ import annotations

import asyncio
import socket
import threading

MOODS = ("refused", "500", "hung", "swallow")
BROKEN = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}"


class MoodyProxy:
    """The proxy, in a thread of its own. Use as a context manager.

    Args:
        to_port: The server's port on loopback.
    """

    def __init__(self, to_port: int) -> None:
        self._to = to_port
        self._mood = "ok"
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = int(s.getsockname()[1])
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> MoodyProxy:
        self._thread.start()
        self.mood("ok")
        return self

    def __exit__(self, *_: object) -> None:
        self.mood("refused")
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def mood(self, mood: str) -> None:
        """Change it; done on return."""
        asyncio.run_coroutine_threadsafe(self._change(mood), self._loop).result(10)

    async def _change(self, mood: str) -> None:
        self._mood = mood
        for writer in list(self._open):
            writer.transport.abort()
        if mood == "refused" and self._server is not None:
            self._server.close()
            self._server = None
        elif mood != "refused" and self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        other: asyncio.StreamWriter | None = None
        try:
            if self._mood == "500":
                await reader.readuntil(b"\r\n\r\n")
                writer.write(BROKEN)
                await writer.drain()
            elif self._mood == "hung":
                await reader.read(-1)
            else:
                back, other = await asyncio.open_connection("127.0.0.1", self._to)
                await asyncio.gather(_copy(reader, other), _copy(back, None if self._mood == "swallow" else writer))
        except (OSError, asyncio.IncompleteReadError):
            pass  # one of the two is gone: so is the other
        finally:
            for one in (writer, other):
                if one is not None:
                    one.close()
            self._open.discard(writer)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None) -> None:
    while data := await reader.read(65536):
        if writer is not None:
            writer.write(data)
            await writer.drain()
    if writer is not None:
        writer.close()
