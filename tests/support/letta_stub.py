"""A small HTTP server that speaks the part of Letta's API we use, in memory, with behaviours that can be asked for.

`behaviours` holds what the next appends do: "ok", "store, then silence", "500, nothing stored", "store half-linked"
(rows that only the agent's list shows, as a server killed between its two writes leaves them), "model 401" and
"model 429" (Letta's words for its model's). A turn whose text begins with "poison" is refused.
"""

from __future__ import annotations

import json
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class LettaStub:
    """The server, in a thread of its own. Use as a context manager."""

    def __init__(self) -> None:
        self.behaviours: list[str] = []
        self.reads_fail = False
        self.down = False  # everything is a 500, the health too
        self.version = "0.16.8"
        self.key = ""  # the password it asks for, everywhere but at its health, as the real one does
        self.keeps_agents = False  # their deletion is answered with 200, and they stay
        self.agents: dict[str, dict[str, Any]] = {}
        self.blocks: dict[str, dict[str, Any]] = {}
        self.conversations: dict[str, dict[str, Any]] = {}
        self.rows: list[dict[str, Any]] = []
        self.appends = 0
        self.ghosts: list[str] = []  # conversations with a run that never ends
        self.silence = threading.Event()  # set at the end, so that no handler is left waiting
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else {}
                url = urlsplit(self.path)
                known = stub.key in ("", (self.headers["Authorization"] or "").removeprefix("Bearer "))
                if known or url.path.startswith("/v1/health"):
                    status, value = stub.answer(self.command, url.path.rstrip("/"), parse_qs(url.query), body)
                else:
                    status, value = 401, {"detail": "Unauthorized"}
                stream = isinstance(value, str)
                data = value.encode() if stream else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/event-stream" if stream else "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PATCH = do_DELETE = _any  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None: ...

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None: ...

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> LettaStub:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.silence.set()
        self._server.shutdown()
        self._server.server_close()

    def lose_everything(self) -> None:
        """An empty database, as after its disk was replaced."""
        for kept in (self.agents, self.blocks, self.conversations):
            kept.clear()
        self.rows.clear()

    def make_agent(self, name: str, system: str = "", blocks: dict[str, str] | None = None, **more: Any) -> str:
        """An agent of somebody else, as made in ADE; its id."""
        made = [{"label": label, "value": value} for label, value in (blocks or {}).items()]
        body = {"name": name, "system": system, "tags": [], "memory_blocks": made, **more}
        return str(self._agent("POST", "", {}, body)[1]["id"])

    def block(self, agent_id: str, label: str) -> dict[str, Any] | None:
        """A block that an agent shows."""
        shown = [self.blocks[b["id"]] for b in self.agents[agent_id]["blocks"]]
        return next((b for b in shown if b["label"] == label), None)

    def markers(self) -> list[str]:
        return [row["sender_id"] for row in self.rows if row["conversation"] in self.conversations]

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        if self.down or (method == "GET" and self.reads_fail):
            return 500, {"detail": "broken"}
        kind, _, rest = path.removeprefix("/v1/").partition("/")
        if kind == "health":
            return 200, {"version": self.version, "status": "ok"}
        if kind == "providers":
            provider = {"id": "provider-1", "last_synced": str(uuid.uuid4())}
            return 200, provider if rest or method == "POST" else []
        if kind == "runs":
            return 200, [{"id": "run-1"} for c in self.ghosts if c == query["conversation_id"][0]]
        if kind == "models":
            return 200, []
        if kind == "blocks":
            if not rest and method == "POST":
                made = {"id": f"block-{uuid.uuid4()}", **body}
                self.blocks[made["id"]] = made
                return 200, made
            if not rest:
                return 200, [b for b in self.blocks.values() if b["label"] == query["label"][0]]
            if rest not in self.blocks:
                return 404, {"detail": "no block"}
            if method == "DELETE":
                for agent in self.agents.values():
                    agent["blocks"] = [b for b in agent["blocks"] if b["id"] != rest]
                return 200, self.blocks.pop(rest)
            self.blocks[rest] |= body
            return 200, self.blocks[rest]
        if kind == "agents":
            return self._agent(method, rest, query, body)
        return self._conversation(method, rest, query, body)

    def _agent(self, method: str, rest: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        agent_id, _, tail = rest.partition("/")
        if method == "GET" and tail == "messages":
            wanted = query["conversation_id"][0]
            return 200, self._listed([r for r in self.rows if r["conversation"] == wanted], query)
        if not agent_id and method == "POST":
            made = {"id": f"agent-{uuid.uuid4()}", "created_at": "1", **body, "blocks": []}
            for block in body["memory_blocks"]:
                block_id = f"block-{uuid.uuid4()}"
                self.blocks[block_id] = {"id": block_id, **block}
                made["blocks"].append({"id": block_id, "label": block["label"]})
            self.agents[made["id"]] = made
            return 200, made
        if not agent_id:
            found = [a for a in self.agents.values() if set(query.get("tags", ())) <= set(a["tags"])]
            return 200, [self._shown(a) for a in found if a.get("name") in query.get("name", [a.get("name")])]
        if agent_id not in self.agents:
            return 404, {"detail": "no agent"}
        if method == "PATCH" and tail.startswith("core-memory/blocks/"):
            return self._attach(self.agents[agent_id], *tail.split("/")[2:])
        if method == "DELETE" and self.keeps_agents:
            return 200, self.agents[agent_id]
        if method == "DELETE":
            self.conversations = {k: c for k, c in self.conversations.items() if c["agent_id"] != agent_id}
            return 200, self.agents.pop(agent_id)
        return 200, self._shown(self.agents[agent_id])

    def _shown(self, agent: dict[str, Any]) -> dict[str, Any]:
        return {**agent, "blocks": [self.blocks[b["id"]] for b in agent["blocks"] if b["id"] in self.blocks]}

    def _attach(self, agent: dict[str, Any], verb: str, block_id: str) -> tuple[int, Any]:
        if block_id not in self.blocks:
            return 404, {"detail": "no block"}
        label = self.blocks[block_id]["label"]
        agent["blocks"] = [b for b in agent["blocks"] if b["id"] != block_id]
        if verb == "attach" and any(b["label"] == label for b in agent["blocks"]):
            return 409, {"detail": "unique_label_per_agent"}
        agent["blocks"] += [{"id": block_id, "label": label}] if verb == "attach" else []
        return 200, self._shown(agent)

    def _conversation(self, method: str, rest: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        conversation_id, _, tail = rest.partition("/")
        if not conversation_id and method == "POST" and query["agent_id"][0] not in self.agents:
            return 404, {"detail": "no agent"}
        if not conversation_id and method == "POST":
            made = {
                "id": f"conv-{uuid.uuid4()}",
                "agent_id": query["agent_id"][0],
                "created_at": "2026-01-01T00:00:00Z",
            }
            self.conversations[made["id"]] = made | body
            return 200, self.conversations[made["id"]]
        if not conversation_id:
            return 200, [c for c in self.conversations.values() if c["agent_id"] == query["agent_id"][0]]
        if conversation_id not in self.conversations:
            return 404, {"detail": "no conversation"}
        if tail and method == "POST":
            return self._append(conversation_id, body["messages"])
        if tail:
            rows = [r for r in self.rows if r["conversation"] == conversation_id and r["linked"]]
            return 200, self._listed(rows, query)
        if method == "DELETE":
            return 200, self.conversations.pop(conversation_id)
        return 200, self.conversations[conversation_id]

    def _append(self, conversation_id: str, messages: list[dict[str, Any]]) -> tuple[int, Any]:
        self.appends += 1
        if any(m["content"].startswith("poison") for m in messages):
            return 422, {"detail": "not like this"}
        behaviour = self.behaviours.pop(0) if self.behaviours else "ok"
        if behaviour == "model 429":
            return 429, {"error": {"type": "llm_rate_limit", "message": "Rate limit exceeded for LLM model provider."}}
        if behaviour == "model 401":
            error = {"message_type": "error_message", "error_type": "llm_authentication", "message": "no"}
            stop = {"message_type": "stop_reason", "stop_reason": "llm_api_error"}
            return 200, f"data: {json.dumps(stop)}\n\nevent: error\ndata: {json.dumps(error)}\n\ndata: [DONE]\n\n"
        if behaviour == "500, nothing stored":
            return 500, {"detail": "broken"}
        for m in messages:
            kind = f"{m['role']}_message"
            row = {"id": f"message-{uuid.uuid4()}", "message_type": kind, "conversation": conversation_id}
            self.rows.append({**row, "linked": behaviour != "store half-linked", **m})
        if behaviour != "ok":
            self.silence.wait(60)
            return 500, {"detail": "too late"}
        return 200, 'data: {"message_type":"stop_reason","stop_reason":"end_turn"}\n\ndata: [DONE]\n\n'

    def _listed(self, rows: list[dict[str, Any]], query: dict[str, list[str]]) -> list[dict[str, Any]]:
        if query["order"][0] == "desc":
            return rows[::-1][: int(query["limit"][0])]
        start = 0
        if "after" in query:
            start = next(i for i, r in enumerate(rows) if r["id"] == query["after"][0]) + 1
        return rows[start : start + int(query["limit"][0])]
