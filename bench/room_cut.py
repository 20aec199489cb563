"""A wire that can be cut: the workers' way to LiveKit, so that an agent loses its connection and returns.

Only signalling passes here; media goes its own way. Not here: what reconnecting is for (room_injections.py).
"""

from __future__ import annotations

import asyncio
import threading
from urllib.parse import urlsplit

import psutil


class Wire:
    """A TCP relay on loopback, in a thread of its own. Use as a context manager; set `target` before somebody connects.

    Attributes:
        url: For LIVEKIT_URL.
        target: LiveKit's own address.
    """

    def __init__(self) -> None:
        self.url = self.target = ""
        self._lines: dict[int, asyncio.StreamWriter] = {}  # port of who called → their end
        self._refusing = False
        self._loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Wire:
        self._thread.start()
        assert self._up.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def cut(self, pid: int, refuse_s: float) -> int:
        """Break every connection of a process, and let nobody in for a while; returns how many were broken."""
        ports = {c.laddr.port for c in psutil.Process(pid).net_connections("tcp") if c.laddr}
        return asyncio.run_coroutine_threadsafe(self._cut(ports, refuse_s), self._loop).result(5)

    async def _cut(self, ports: set[int], refuse_s: float) -> int:
        self._refusing = True
        self._loop.call_later(refuse_s, self._let_in)
        mine = [self._lines[p] for p in ports if p in self._lines]
        for line in mine:
            line.transport.abort()
        return len(mine)

    def _let_in(self) -> None:
        self._refusing = False

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._relay, "127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._up.set()
        self._loop.run_forever()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        port = writer.get_extra_info("peername")[1]
        there = urlsplit(self.target)
        try:
            far_reader, far_writer = await asyncio.open_connection(there.hostname, there.port)
        except OSError:
            writer.transport.abort()
            return
        self._lines[port] = writer
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        del self._lines[port]


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
    except OSError:
        pass  # cut
    finally:
        sink.close()
