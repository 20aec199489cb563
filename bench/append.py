"""What our order and care cost when turns are stored in Letta, and how far behind it is with twenty calls on.

    python bench/append.py --batches 100 --calls 20 --seconds 60

Append: the same batches to the same server, ours (lease, intent, request, confirmation) and a bare letta-client loop
that asks nothing and remembers nothing, interleaved batch by batch; `ours_of_bare` is our rate over its rate. Lag: the
real syncer in a process of its own, twenty calls with an exchange every few seconds, from recorded to confirmed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import select

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from letta_client import Letta  # noqa: E402

from tests.support.letta_server import RealLetta, real_letta  # noqa: E402
from voicectl.memory.backends.letta import NULL_HANDLE, LettaBackend  # noqa: E402
from voicectl.memory.calls import Call, now_ms, open_call  # noqa: E402
from voicectl.memory.config import MemorySettings, load  # noqa: E402
from voicectl.memory.null_model import NullModel  # noqa: E402
from voicectl.memory.recorder import Role, Turn, write_turn  # noqa: E402
from voicectl.memory.store.engine import Store, open_store  # noqa: E402
from voicectl.memory.store.leases import Leases, LeaseState, open_leases  # noqa: E402
from voicectl.memory.store.schema import letta_conversations  # noqa: E402
from voicectl.memory.sync import ledger  # noqa: E402
from voicectl.memory.sync.mirror import BATCH_TURNS, sync_turns  # noqa: E402
from voicectl.memory.sync.tools import Tools  # noqa: E402
from voicectl.memory.sync.transcript import messages  # noqa: E402
from voicectl.memory.syncer import LEASE_S  # noqa: E402

ROWS = (6, BATCH_TURNS)  # three exchanges, as they gather while a call goes on; a whole batch, as after an outage


def spread(values: list[float]) -> dict[str, float]:
    cut = statistics.quantiles(values, n=100)
    return {"p50": round(cut[49], 1), "p95": round(cut[94], 1), "max": round(max(values), 1)}


def say(store: Store, call: Call, count: int) -> None:
    with store.write() as connection:
        for number in range(count):
            role = (Role.USER, Role.ASSISTANT)[number % 2]
            text = f"{role} {random.random()}: about as long as what people say in one turn of a call"
            write_turn(connection, call, Turn(f"item-{random.getrandbits(64):x}", role, text, now_ms()))


def append(store: Store, leases: Leases, letta: RealLetta, null_url: str, batches: int, size: int) -> dict[str, Any]:
    backend = LettaBackend(letta.url, letta.access.key, null_url)
    backend.health()
    tools = Tools(store, backend)
    customer = f"user:append {size}"
    call = open_call(store, customer=customer, room=f"append {size}", desk="d", fence=1)
    bare = Letta(base_url=letta.url, api_key=letta.access.key, max_retries=0, http_client=httpx.Client(trust_env=False))
    say(store, call, size)
    sync_turns(tools, customer)
    conversation = ledger.conversation(store, call.id)
    assert conversation is not None
    agent = bare.conversations.retrieve(conversation).agent_id
    other = bare.conversations.create(agent_id=agent, summary="the bare loop's").id
    ours: list[float] = []
    plain: list[float] = []

    def send_ours() -> None:
        began = time.perf_counter()
        grant = leases.claim(f"customer:{customer}", "bench", LEASE_S, LeaseState.HELD)
        sync_turns(tools, customer)
        leases.release(grant)
        ours.append((time.perf_counter() - began) * 1000)

    def send_bare(rows: list[Any]) -> None:
        began = time.perf_counter()
        with bare.conversations.messages.create(
            other, messages=rows, override_model=NULL_HANDLE, streaming=True
        ) as stream:
            for _ in stream:
                pass
        plain.append((time.perf_counter() - began) * 1000)

    for number in range(batches + 5):
        after = (number + 1) * size
        say(store, call, size)
        rows = [
            {"role": m.role, "content": m.text, "sender_id": f"bare-{m.marker}"}
            for m in messages(call.id, ledger.rows(store, call.id, after), after)
        ]
        for arm in (
            (send_ours, lambda rows=rows: send_bare(rows))
            if number % 2
            else (
                lambda rows=rows: send_bare(rows),
                send_ours,
            )
        ):
            arm()
        if number == 4:  # warm
            ours.clear()
            plain.clear()
    backend.close()
    bare.close()
    return {
        "batches": batches,
        "rows_a_batch": size,
        "ours_ms": spread(ours),
        "bare_ms": spread(plain),
        "ours_of_bare": round(sum(plain) / sum(ours), 3),
        "ours_of_bare_by_medians": round(statistics.median(plain) / statistics.median(ours), 3),
    }


def lag(store: Store, home: Path, letta: RealLetta, calls_: int, seconds: float) -> dict[str, Any]:
    code = "from voicectl.memory import config, syncer; syncer.run(config.load(config.MemorySettings))"
    env = {k: v for k, v in os.environ.items() if not k.startswith(("VOICE_", "MEMORY_", "LETTA_", "DATABASE_"))}
    env |= {"VOICE_HOME": str(home), "VOICE_ENV_FILE": str(home / "none.env")}
    env |= {"LETTA_BASE_URL": letta.url, "LETTA_API_KEY": letta.access.key}
    with (home / "syncer.log").open("ab") as log:
        syncer = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=env, stdout=log, stderr=log)
    chance = random.Random(1)
    begun = [open_call(store, customer=f"user:{n}", room=f"r{n}", desk="d", fence=1) for n in range(calls_)]
    next_s = {c.id: time.monotonic() + chance.uniform(0, 6) for c in begun}
    said: dict[str, list[tuple[int, float]]] = {c.id: [] for c in begun}
    lags: list[float] = []
    count = dict.fromkeys(said, 0)
    end = time.monotonic() + seconds
    while time.monotonic() < end or (any(said.values()) and time.monotonic() < end + 60):
        now = time.monotonic()
        for call in begun:
            if now < end and now >= next_s[call.id]:
                say(store, call, 2)
                count[call.id] += 2
                said[call.id].append((count[call.id], time.monotonic()))
                next_s[call.id] = now + chance.uniform(3, 9)
        with store.read() as connection:
            there = dict(
                connection.execute(select(letta_conversations.c.call_id, letta_conversations.c.mirrored_seq)).all()
            )
        now = time.monotonic()
        for call_id, waiting in said.items():
            lags += [(now - at) * 1000 for seq, at in waiting if seq <= there.get(call_id, 0)]
            said[call_id] = [(seq, at) for seq, at in waiting if seq > there.get(call_id, 0)]
        time.sleep(0.02)
    syncer.terminate()
    syncer.wait(30)
    left = sum(len(x) for x in said.values())
    return {"calls": calls_, "exchanges": len(lags), "not_mirrored": left, "lag_ms": spread(lags)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=100)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    at = Path(tempfile.mkdtemp(prefix="append-"))
    home = at / "home"
    home.mkdir()
    settings = load(MemorySettings, home=home)
    store, leases = open_store(settings), open_leases(settings)
    with real_letta(at / "letta") as letta:
        with NullModel() as null:
            appended = [append(store, leases, letta, null.url, given.batches, size) for size in ROWS]
        # The syncer serves a null model of its own.
        late = lag(store, home, letta, given.calls, given.seconds)
    print(json.dumps({"append": appended, "lag": late}, indent=1))


if __name__ == "__main__":
    main()
