"""The null model: a language model on loopback that always answers with nothing.

Letta stores turns only together with a model's step; with this one the step adds no words, so what is stored is exactly
what was said (letta.md 4). It speaks the part of the OpenAI protocol that Letta uses: `/v1/models` and
`/v1/chat/completions`, as JSON and as a stream with usage. It keeps nothing and logs nothing.
Not here: who registers it with Letta (backends/letta.py), who serves it (syncer.py).
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "voicectl-null"  # Letta names it openai-proxy/voicectl-null; an id that ends in -fast it would shorten
CONTEXT_TOKENS = 1_000_000  # Letta compacts a conversation at 90 % of what the model says it can hold
HOST = "127.0.0.1"
USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
BIGGEST_REQUEST_BYTES = 64 * 1024 * 1024


class PortInUse(OSError):
    """Somebody else listens on the port.

    Args:
        port: The port.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        super().__init__(f"port {port} on {HOST} is in use and does not answer like our null model")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # with keep-alive; each answer names its length or is chunked

    def do_GET(self) -> None:
        path = self.path.split("?")[0].rstrip("/")
        model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "voicectl", "context_length": CONTEXT_TOKENS}
        if path == "/v1/models":
            self._json(200, {"object": "list", "data": [model]})
        elif path == f"/v1/models/{MODEL}":
            self._json(200, model)
        else:
            self._json(404, {"error": {"message": f"no such path: {path}", "type": "invalid_request_error"}})

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > BIGGEST_REQUEST_BYTES:
            self.close_connection = True
            self._json(413, {"error": {"message": f"{length} bytes are too many", "type": "invalid_request_error"}})
            return
        body = self.rfile.read(length)
        if self.path.split("?")[0].rstrip("/") != "/v1/chat/completions":
            self._json(404, {"error": {"message": f"no such path: {self.path}", "type": "invalid_request_error"}})
            return
        try:
            wanted: Any = json.loads(body)
        except ValueError:
            wanted = None
        if not isinstance(wanted, dict):
            self._json(400, {"error": {"message": "the body is not a JSON object", "type": "invalid_request_error"}})
            return
        head = {"id": f"chatcmpl-{time.monotonic_ns()}", "created": int(time.time()), "model": MODEL}
        if wanted.get("stream"):
            self._stream(head)
        else:
            choice = {"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "stop"}
            self._json(200, {**head, "object": "chat.completion", "choices": [choice], "usage": USAGE})

    def _stream(self, head: dict[str, Any]) -> None:
        head = {**head, "object": "chat.completion.chunk"}
        delta: dict[str, Any] = {"role": "assistant", "content": ""}
        events = [
            {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
            {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            {**head, "choices": [], "usage": USAGE},
        ]
        text = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
        self._send(200, "text/event-stream", text.encode())

    def _json(self, status: int, value: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(value).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the requests hold what customers said."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no event of ours."""


class NullModel:
    """The server, in a thread of its own. Use as a context manager.

    Args:
        port: Where to listen; 0 for a free port.

    Raises:
        PortInUse: Somebody else listens there.
    """

    def __init__(self, port: int = 0) -> None:
        try:
            self._server = _Server((HOST, port), _Handler)
        except OSError as e:
            raise PortInUse(port) from e
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="null-model", daemon=True)

    @property
    def url(self) -> str:
        """The base URL, as an OpenAI-compatible client wants it."""
        return url_of(self.port)

    def __enter__(self) -> NullModel:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def url_of(port: int) -> str:
    """The base URL of a null model on this machine."""
    return f"http://{HOST}:{port}/v1"


def answers(port: int, timeout_s: float = 2.0) -> bool:
    """Whether a null model of ours, perhaps another syncer's, answers on a port of this machine."""
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout_s)
    try:
        connection.request("GET", f"/v1/models/{MODEL}")
        said = json.loads(connection.getresponse().read())
        return isinstance(said, dict) and said.get("owned_by") == "voicectl"
    except (OSError, ValueError, http.client.HTTPException):
        return False
    finally:
        connection.close()
