"""An OpenAI-compatible model on loopback that answers a memory step as a test says; it knows when its client leaves.

`answer` maps a request to the text of the answer, or to an HTTP status. While `held` is set no answer is given.
"""

from __future__ import annotations

import json
import select
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from voicectl.memory.backends import LlmEndpoint


def facts(*lines: str, last_call: str = "") -> str:
    """The answer that a good model gives."""
    return json.dumps({"facts": [{"turn": 1, "line": line} for line in lines], "last_call": last_call})


class FactModel:
    """The server, in a thread of its own. Use as a context manager."""

    def __init__(self, answer: str | int | Callable[[dict[str, Any]], str | int] = 500) -> None:
        self.answer = answer
        self.requests: list[dict[str, Any]] = []
        self.held = threading.Event()
        self.left = threading.Event()  # a client closed its connection before it was answered
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                stub.requests.append(body)
                while stub.held.is_set():
                    if select.select([self.connection], [], [], 0.02)[0] and not self.connection.recv(
                        1, socket.MSG_PEEK
                    ):
                        stub.left.set()
                        return
                said = stub.answer(body) if callable(stub.answer) else stub.answer
                choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
                data = json.dumps({"choices": [choice]}).encode()
                self.send_response(said if isinstance(said, int) else 200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def endpoint(self, *, local: bool = False) -> LlmEndpoint:
        return LlmEndpoint(self.url, "none", "" if local else "scripted", local)

    def shown(self) -> str:
        """What the last request showed the model."""
        return str(self.requests[-1]["messages"][-1]["content"])

    def __enter__(self) -> FactModel:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.held.clear()
        self._server.shutdown()
        self._server.server_close()
