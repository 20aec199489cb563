"""Letta as a backend: the only file that imports letta_client. Written for server 0.16.8 and client 1.12.1.

Promise: talks to the address it was given and to no other (the client's own default is a cloud), never retries by
itself (the server stores a repeated message twice), and says of each write whether it may have happened.
Not here: the order of things (memory/sync/), the server's process (cli/system/letta.py).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpx
import letta_client
from letta_client import Letta

from voicectl.memory import null_model
from voicectl.memory.backends import (
    Agent,
    AgentSpec,
    Ambiguous,
    BackendFault,
    BackendUnavailable,
    BlockCopies,
    Failed,
    Health,
    LlmEndpoint,
    Message,
    ModelFault,
    NotThere,
    Rejected,
)
from voicectl.memory.backends.desks import POLICY_LABEL
from voicectl.memory.backends.letta_desks import APP_TAG, LettaDesks
from voicectl.memory.backends.letta_models import register
from voicectl.memory.backends.letta_rows import all_of, generation_of, message_of
from voicectl.memory.backends.letta_streams import STEPS, copy_blocks, drop_copies, send
from voicectl.memory.backends.letta_texts import DESCRIPTIONS, SYSTEM

log = logging.getLogger(__name__)

READ_S = 5.0  # reads answer in 5 to 60 ms; a server that needs seconds is overloaded or stuck (letta.md 2, 7)
WRITE_S = 10.0  # appends take 0.13 s (letta.md 4); sync.mirror.APPEND_S is the same
MODELS_S = 60.0  # how often we look whether the language model behind the agents has become reachable
PAGE = 100
DELETIONS = 5  # a second round finds what a syncer that stood still made meanwhile; more is a Letta that keeps things
NULL_PROVIDER = "voicectl-null"
LLM_PROVIDER = "voicectl-llm"
NULL_HANDLE = f"openai-proxy/{null_model.MODEL}"
TOOLS = ["memory_insert", "memory_replace", "memory_rethink"]  # `memory` can create blocks, so it is left out
VERSIONS = "0.16."


class LettaBackend:
    """One Letta server. Threads may share it.

    Args:
        base_url: Its address.
        api_key: Its password or key; None where it needs none.
        null_url: Base URL of the null model, as the server reaches it.
        llm: What agents answer operators with; None: they cannot answer.
        write_s: How long a write may take until its end counts as unknown, in seconds.
        clock: Seconds, only differences count.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        null_url: str,
        llm: LlmEndpoint | None = None,
        *,
        write_s: float = WRITE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._where = base_url
        self._write_s = write_s
        self._null_url = null_url
        self._llm = llm
        self._clock = clock
        loopback = (urlsplit(base_url).hostname or "") in ("127.0.0.1", "localhost", "::1")
        self._client = Letta(
            base_url=base_url,
            api_key=api_key or "none",
            max_retries=0,
            timeout=READ_S,
            # A proxy of the environment must not be asked for loopback, whatever NO_PROXY says.
            http_client=httpx.Client(base_url=base_url, trust_env=not loopback, timeout=READ_S),
        )
        self.desks = LettaDesks(self._client, _reading, _writing, write_s)
        self._agents_of: dict[str, str] = {}  # by conversation
        self._lock = threading.Lock()
        self._prepared = False
        self._model = ""
        self._model_asked = 0.0

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def health(self) -> Health:
        """Ask for the version; the first time, and after an outage, also register the models."""
        with _reading("health"):
            version = self._client.health().version
        if not version.startswith(VERSIONS):
            log.warning("this Letta was not tested with us", extra={"version": version, "tested": f"{VERSIONS}8"})
        with self._lock:
            self._prepared = False
            self._prepare()
        return Health(self._where, version)

    def model(self) -> str:
        """The handle and address of the model the agents answer with."""
        with self._lock:
            self._prepare()
            if self._llm is not None and self._model == NULL_HANDLE and self._clock() - self._model_asked > MODELS_S:
                self._model = self._llm_handle(self._llm)
            address = self._llm.base_url if self._llm and self._model != NULL_HANDLE else self._null_url
            return f"{self._model} at {address}"

    def _prepare(self) -> None:
        if self._prepared:
            return
        if not self._provider(NULL_PROVIDER, self._null_url, "none"):
            raise BackendUnavailable(
                f"Letta at {self._where}",
                f"it cannot reach the null model at {self._null_url}, so no turn can be stored",
            )
        self._model = self._llm_handle(self._llm) if self._llm else NULL_HANDLE
        self._prepared = True

    def _llm_handle(self, llm: LlmEndpoint) -> str:
        self._model_asked = self._clock()
        self._provider(LLM_PROVIDER, llm.base_url, llm.api_key)
        with _reading("list models"):
            models: Any = self._client.get("/v1/models/", cast_to=object)
        found = [m for m in models if m.get("provider_name") == LLM_PROVIDER]
        chosen = next((m for m in found if llm.model in ("", m.get("model"), m.get("name"))), None)
        if chosen is None:
            log.warning(
                "Letta does not reach the language model; operators get no answers", extra={"url": llm.base_url}
            )
            return NULL_HANDLE
        return str(chosen["handle"])

    def _provider(self, name: str, url: str, key: str) -> bool:
        with _reading(f"provider {name}"):  # registering twice is the same as once, so its end need not be known
            return register(self._client, name, url, key, self._write_s)

    def ensure_agent(self, spec: AgentSpec) -> Agent:
        """By tag; a creation whose answer is lost is found by the next look, and empty extras are deleted."""
        tags = [APP_TAG, f"cust:{spec.customer}", f"gen:{spec.generation}"]
        created = False
        found = self._agents(tags)
        if not found:
            with _writing("create agent"):
                self._client.agents.create(
                    name=f"customer-{spec.customer}",
                    description=spec.description,
                    model=self._handle(),
                    system=SYSTEM,
                    include_base_tools=False,
                    tools=TOOLS,
                    tags=tags,
                    memory_blocks=[self._block(spec, label) for label in spec.blocks],  # type: ignore[misc]
                    timeout=self._write_s,
                )
            created = True
            found = self._agents(tags)
        keep, *extras = found
        for extra in extras:
            self._delete_if_empty(extra)
        block_ids = {b["label"]: str(b["id"]) for b in keep["blocks"] if b["label"] in spec.blocks}
        for label in set(spec.blocks) - set(block_ids):
            block_ids[label] = self._add_block(keep["id"], spec, label)
        return Agent(str(keep["id"]), created, block_ids)

    def _handle(self) -> str:
        return self.model().split(" at ")[0]

    def _block(self, spec: AgentSpec, label: str) -> dict[str, Any]:
        read_only = label in spec.read_only
        text = {"label": label, "value": spec.blocks[label], "description": DESCRIPTIONS.get(label, "")}
        return {**text, "limit": spec.limit, "read_only": read_only}

    def _add_block(self, agent_id: str, spec: AgentSpec, label: str) -> str:
        with _writing("create block"):
            # Empty: what the store knows is put by the ordinary exchange, which then knows it for its own.
            block = self._client.blocks.create(**{**self._block(spec, label), "value": ""})
            self._client.agents.blocks.attach(str(block.id), agent_id=agent_id)
        return str(block.id)

    def agents(self, customer: str) -> list[str]:
        """By tag, of all generations."""
        return [str(a["id"]) for a in self._agents([APP_TAG, f"cust:{customer}"])]

    def _agents(self, tags: Sequence[str]) -> list[Any]:
        """Agents with all these tags, oldest first."""
        query = {"tags": list(tags), "match_all_tags": True, "include": ["agent.blocks", "agent.tags"]}
        found = self._all("/v1/agents/", query)
        return sorted(found, key=lambda a: (a.get("created_at") or "", a["id"]))

    def _delete_if_empty(self, agent: Any) -> None:
        with _reading("list conversations"):
            used = self._client.conversations.list(agent_id=agent["id"], limit=1)
        if not used:
            self._delete_agent(agent)

    def _delete_agent(self, agent: Any) -> None:
        agents, blocks = self._client.agents, self._client.blocks
        with _writing("delete copies of blocks"):
            drop_copies(self._client, agent["id"])
        # Deleting an agent leaves its blocks behind (letta.md 10), and only it knows them; but a policy is others' too.
        for block in (b for b in agent["blocks"] if b["label"] != POLICY_LABEL):
            block_id = block["id"]
            self._delete("block", partial(blocks.delete, block_id), partial(blocks.retrieve, block_id))
        self._delete("agent", lambda: agents.delete(agent["id"]), lambda: agents.retrieve(agent["id"]))

    def _delete(self, what: str, delete: Callable[[], object], look: Callable[[], object]) -> None:
        """Delete a thing; of two who do so at once one gets a 400, and both are content if it is gone."""
        try:
            with _writing(f"delete {what}"):
                delete()
        except NotThere:
            return
        except BackendFault:
            try:
                with _reading(f"read {what}"):
                    look()
            except NotThere:
                return
            raise

    def describe(self, agent_id: str, description: str) -> None:
        """Description and model in one request."""
        with _writing("update agent"):
            self._client.agents.update(agent_id, description=description, model=self._handle(), timeout=self._write_s)

    def ensure_conversation(self, agent_id: str, key: str, title: str) -> str:
        """By its summary, which begins with the key."""
        head = f"{key} · "
        with _reading("list conversations"):
            found = self._client.conversations.list(agent_id=agent_id, summary_search=key, limit=PAGE)
        mine = sorted((c.created_at, c.id) for c in found if (c.summary or "").startswith(head) and c.created_at)
        if mine:
            return mine[0][1]
        with _writing("create conversation"):
            return self._client.conversations.create(agent_id=agent_id, summary=head + title, timeout=self._write_s).id

    def conversations(self, agent_id: str) -> dict[str, str]:
        """By the agent's id; those somebody began in ADE are among them."""
        found = self._all("/v1/conversations/", {"agent_id": agent_id})
        if not found:  # of an agent that does not exist the list is empty too
            with _reading("read agent"):
                self._client.agents.retrieve(agent_id)
        return {str(c["id"]): str(c.get("summary") or "") for c in found}

    def drop_conversation(self, conversation_id: str) -> None:
        """Letta hides it; its rows go with the agent."""
        try:
            with _writing("delete conversation"):
                self._client.conversations.delete(conversation_id)
        except NotThere:
            return

    def append_turns(self, conversation_id: str, messages: Sequence[Message]) -> None:
        """One streamed request to the null model."""
        sent = [{"role": m.role, "content": m.text, "sender_id": m.marker} for m in messages]
        with _writing("append turns"):
            send(self._client, "append turns", conversation_id, sent, NULL_HANDLE, self._write_s, self._clock)

    def copy_blocks(self, agent_id: str, title: str, labels: Sequence[str]) -> BlockCopies:
        """In a conversation of its own."""
        with _writing("copy blocks"):
            return copy_blocks(self._client, agent_id, title, labels, self._write_s)

    def ask_agent(self, conversation_id: str, text: str, timeout_s: float) -> None:
        """One streamed request to the language model; its own steps with tools included."""
        model = self._handle()
        if model == NULL_HANDLE:
            raise ModelFault("memory step", "Letta does not reach the language model")
        sent = [{"role": "user", "content": text}]
        with _writing("memory step"):
            what = "memory step"
            send(self._client, what, conversation_id, sent, model, timeout_s, self._clock, max_steps=STEPS)

    def has_marker(self, conversation_id: str, marker: str) -> bool:
        """Among the latest 100 rows; a batch is shorter than that.

        Rows of the agent, not of the conversation: a server killed between its two writes leaves rows that only the
        former shows (found 21 Nov), and sending them again would double them.
        """
        path = f"/v1/agents/{self._agent_of(conversation_id)}/messages"
        items = self._page(path, {"conversation_id": conversation_id, "order": "desc"})
        return any(item.get("sender_id") == marker for item in items)

    def busy(self, conversation_id: str) -> bool:
        """By its runs: their turns show only at their end, and those of a killed server stay active for ever."""
        query = {"conversation_id": conversation_id, "active": True, "limit": 1}
        with _reading("list runs"):
            runs: Any = self._client.get("/v1/runs/", cast_to=object, options={"params": query})
        return bool(runs)

    def list_turns(self, conversation_id: str) -> list[Message]:
        """All rows there are, oldest first; one that the conversation does not show has the role UNLISTED."""
        shown = {item["id"] for item in self._all(f"/v1/conversations/{conversation_id}/messages", {})}
        path = f"/v1/agents/{self._agent_of(conversation_id)}/messages"
        items = self._all(path, {"conversation_id": conversation_id})
        return [message_of(item, item["id"] in shown) for item in items if item["message_type"] != "system_message"]

    def _agent_of(self, conversation_id: str) -> str:
        if conversation_id not in self._agents_of:
            with _reading("read conversation"):
                self._agents_of[conversation_id] = self._client.conversations.retrieve(conversation_id).agent_id
        return self._agents_of[conversation_id]

    def _all(self, path: str, query: Mapping[str, object]) -> list[Any]:
        return all_of(lambda after: self._page(path, {**query, **after, "order": "asc"}), PAGE)

    def _page(self, path: str, query: Mapping[str, object]) -> list[Any]:
        with _reading(f"list {path.split('/')[2]}"):
            items: Any = self._client.get(path, cast_to=object, options={"params": {**query, "limit": PAGE}})
        return list(items)

    def get_blocks(self, block_ids: Mapping[str, str]) -> dict[str, str]:
        """By id, about 5 ms each."""
        with _reading("read blocks"):
            return {label: self._client.blocks.retrieve(block_id).value for label, block_id in block_ids.items()}

    def put_block(self, block_id: str, text: str) -> None:
        """Whole text; the server does not compare with what was there."""
        with _writing("put block"):
            self._client.blocks.update(block_id, value=text, timeout=self._write_s)

    def forget(self, customer: str, *, before_generation: int | None = None) -> int:
        """Agents by tag with their blocks; again until none is listed, DELETIONS times at most.

        Raises:
            Ambiguous: Letta answered every deletion, and still lists what it names.
        """
        gone: set[str] = set()
        for _ in range(DELETIONS):
            found = self._agents_before(customer, before_generation)
            if not found:
                return len(gone)
            for agent in found:
                self._delete_agent(agent)
                gone.add(str(agent["id"]))
        names = ", ".join(str(a["id"]) for a in found)
        raise Ambiguous("delete agents", f"deleted {DELETIONS} times without an error, and listed again: {names}")

    def _agents_before(self, customer: str, generation: int | None) -> list[Any]:
        found = self._agents([APP_TAG, f"cust:{customer}"])
        return [a for a in found if generation is None or generation_of(a) < generation]


@contextmanager
def _reading(what: str) -> Iterator[None]:
    """Errors of a request that changes nothing."""
    try:
        yield
    except letta_client.NotFoundError as e:
        raise NotThere(what, _why(e)) from e
    except (letta_client.AuthenticationError, letta_client.PermissionDeniedError) as e:
        raise BackendUnavailable(what, f"{_why(e)}; check LETTA_API_KEY") from e
    except (letta_client.LettaError, httpx.HTTPError) as e:
        raise BackendUnavailable(what, _why(e)) from e


@contextmanager
def _models_apart(what: str) -> Iterator[None]:
    """Letta hands its model's 401, 429 and the like on as its own; only the type in the body tells (letta.md 8)."""
    try:
        yield
    except letta_client.APIStatusError as e:
        body = e.body if isinstance(e.body, dict) else {}
        error = body.get("error")
        kind = str((error.get("type") if isinstance(error, dict) else None) or body.get("error_type") or "")
        if kind.startswith("llm_"):
            raise ModelFault(what, f"the model behind Letta: {kind}") from e
        if e.status_code == 200:  # an error inside a stream that had begun
            raise Failed(what, kind or "an error without a name") from e
        raise


@contextmanager
def _writing(what: str) -> Iterator[None]:
    """Errors of a request that changes something: may it have happened?"""
    try:
        with _models_apart(what):
            yield
    except letta_client.NotFoundError as e:
        raise NotThere(what, _why(e)) from e
    except (letta_client.AuthenticationError, letta_client.PermissionDeniedError) as e:
        raise BackendUnavailable(what, f"{_why(e)}; check LETTA_API_KEY") from e
    except (letta_client.BadRequestError, letta_client.UnprocessableEntityError) as e:
        raise Rejected(what, _why(e)) from e
    except (letta_client.LettaError, httpx.HTTPError) as e:
        cause = e.__cause__ or e
        if isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout):
            raise BackendUnavailable(what, _why(e)) from e  # no byte of it was sent
        raise Ambiguous(what, _why(e)) from e


def _why(error: Exception) -> str:
    """What went wrong, without a body that may repeat what customers said."""
    if isinstance(error, letta_client.APIStatusError):
        return f"HTTP {error.status_code}"
    return f"{type(error).__name__}: {error.__cause__ or error}"[:200]


__all__ = ["BackendFault", "LettaBackend"]
