"""Everything known of one customer as one JSON document: what a person may ask to see. Described in docs/export.md.

    document = export(store, "user:42", home=settings.home, backend=letta)

Tables that get no place of their own stand under `other`, so that a new one is never left out.
Not here: erasing it (forget.py).
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from voicectl.memory import history, traces
from voicectl.memory.admin import key_of
from voicectl.memory.backends import Backend, BackendFault
from voicectl.memory.identity import hashed
from voicectl.memory.journal import Journal
from voicectl.memory.profile import read_lines
from voicectl.memory.store.engine import Store
from voicectl.memory.store.schema import calls, customers, profile_lines, profile_ops, refused_turns, turns

PLACED = {customers, calls, turns, refused_turns, profile_ops, profile_lines}


def export(store: Store, customer: str, *, home: Path, backend: Backend | None = None) -> dict[str, Any]:
    """Everything known of a customer, as plain values.

    Args:
        store: The store.
        customer: Customer key.
        home: VOICE_HOME, for turns that are not in the store yet.
        backend: Letta, for what is there and not in the store; None: not asked.

    Raises:
        CustomerUnknown: There is no such customer.
        StoreUnavailable: The store did not answer.
    """
    with store.read() as connection:
        key = key_of(connection, customer)
        row = connection.execute(select(customers).where(customers.c.key == key)).one()
        ids = select(calls.c.id).where(calls.c.customer == key)
        found: dict[str, Any] = {
            "exported_at": _when(datetime.now(UTC).timestamp() * 1000),
            "customer": {
                "key": key,
                "stands_for": hashed(key),
                "generation": int(row.generation),
                "known_since": _when(row.created_ms),
            },
            "profile": [_timed(asdict(line)) for line in read_lines(connection, key)],
            "calls": _calls(connection, key, home),
            "other": {
                t.name: [dict(r._mapping) for r in connection.execute(select(t).where(traces.whose(t, key, ids)))]
                for t in traces.tables()
                if t not in PLACED
            },
        }
    found["history"] = [_timed(asdict(version)) for version in history.history(store, key)]
    found["letta"] = _in_letta(backend, hashed(key), [c["id"] for c in found["calls"]])
    return found


def _calls(connection: Connection, key: str, home: Path) -> list[dict[str, Any]]:
    rows = connection.execute(select(calls).where(calls.c.customer == key).order_by(calls.c.started_ms, calls.c.id))
    mine = calls.c.customer == key
    said: dict[str, list[dict[str, Any]]] = defaultdict(list)
    spoken = select(turns).join(calls, calls.c.id == turns.c.call_id).where(mine).order_by(turns.c.call_id, turns.c.seq)
    for r in connection.execute(spoken):
        said[r.call_id].append(
            {
                "seq": r.seq,
                "role": r.role,
                "text": r.text,
                "at": _when(r.at_ms),
                "agent": r.agent,
                "interrupted": bool(r.interrupted),
            }
        )
    refused: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for r in connection.execute(select(refused_turns).join(calls, calls.c.id == refused_turns.c.call_id).where(mine)):
        refused[r.call_id].append({"role": r.role, "text": r.text, "at": _when(r.at_ms), "why": r.why})
    return [
        {
            "id": r.id,
            "desk": r.desk,
            "room": r.room,
            "state": r.state,
            "reason": r.reason,
            "started": _when(r.started_ms),
            "ended": _when(r.ended_ms),
            "progress": json.loads(r.progress),
            "turns": said[r.id],
            "refused_turns": refused[r.id],
            "waiting_turns": [asdict(t) for t in Journal(home / traces.JOURNALS / f"{r.id}.jsonl").read()],
        }
        for r in rows
    ]


def _in_letta(backend: Backend | None, name: str, call_ids: list[str]) -> dict[str, Any]:
    """What somebody said to the customer's agents in Letta beyond our calls, and whether that could be read."""
    if backend is None:
        return {"asked": False, "why": "memory is in the store alone", "agents": []}
    agents: list[dict[str, Any]] = []
    try:
        for agent_id in backend.agents(name):
            others = []
            for conversation, title in backend.conversations(agent_id).items():
                if title.split(" · ")[0].split("/")[0] not in call_ids:
                    said = [{"role": m.role, "text": m.text} for m in backend.list_turns(conversation)]
                    others.append({"id": conversation, "title": title, "messages": said})
            agents.append({"id": agent_id, "conversations": others})
    except BackendFault as e:
        return {"asked": False, "why": str(e), "agents": agents}
    return {"asked": True, "why": "", "agents": agents}


def _timed(values: dict[str, Any]) -> dict[str, Any]:
    return {("at" if k == "at_ms" else k): (_when(v) if k == "at_ms" else v) for k, v in values.items()}


def _when(at_ms: float | None) -> str | None:
    return None if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
