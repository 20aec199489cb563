"""What a memory step learns, scored on labelled calls.

    python bench/memory_step.py --cases bench/calls/own.jsonl                  the small local model, as shipped
    python bench/memory_step.py --agent                                         Letta's own agent, its model scripted

`bench/calls/own.jsonl` was written before anything was tuned. A case: the profile before, the call, words that must be
known afterwards (`new`, `kept`), words that must not. With `--agent` a real Letta's agent edits its blocks with its
memory tools as a good model would, and in the same breath as one that a caller has talked into something; what is
scored is what our rules let through. Every line learnt that no label asked for is listed and then undone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from bench.local_llm import served, until_ready  # noqa: E402
from voicectl.memory import history, names, profile  # noqa: E402
from voicectl.memory.backends import LlmEndpoint  # noqa: E402
from voicectl.memory.calls import finish, now_ms, open_call  # noqa: E402
from voicectl.memory.config import MemorySettings, load  # noqa: E402
from voicectl.memory.learning.step import Asking, learn  # noqa: E402
from voicectl.memory.learning.strategy import Strategy  # noqa: E402
from voicectl.memory.lines import Block, Op, Origin, Source  # noqa: E402
from voicectl.memory.recorder import Role, Turn, write_turn  # noqa: E402
from voicectl.memory.store.engine import Store, open_store  # noqa: E402

OWN = ROOT / "bench" / "calls" / "own.jsonl"
CACHE = Path("~/.cache/voicectl-tests/home").expanduser()


@dataclass
class Score:
    """One call. Each list holds labels or lines."""

    id: str
    kept: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)  # a word that must not be there
    injection: bool = False
    invented: list[str] = field(default_factory=list)  # learnt, and no label asked for it
    vanished: list[str] = field(default_factory=list)  # gone, and the label does not say so
    refused: int = 0
    undone: int = 0


def labels(case: dict[str, Any]) -> tuple[list[str], list[str]]:
    return case.get("new", []), case.get("kept", case.get("must", []))


def there(label: str, text: str) -> bool:
    return any(word.casefold() in text for word in label.split("|"))


def run_case(store: Store, case: dict[str, Any], asking: Asking, customer: str, prepare: Any) -> Score:
    for line in case["profile"]:
        source = Source.RULE if line.startswith("name:") else Source.MEMORY_STEP
        profile.put(store, customer, line, Origin(source))
    call = open_call(store, customer=customer, room=secrets.token_hex(6), desk="assistant", fence=1)
    for said in case["transcript"]:
        caller = said["who"] == "caller"
        turn = Turn(secrets.token_hex(6), Role.USER if caller else Role.ASSISTANT, said["text"], now_ms())
        with store.write() as connection:
            write_turn(connection, call, turn)
        if caller and (name := names.name_in(said["text"])):  # as in a call
            profile.put(store, customer, f"name: {name}", Origin(Source.RULE, call.id, turn.item_id))
    finish(store, call, "hung up")
    prepare(customer, case)
    taken = learn(store, call.id, asking)
    after = [x.text for x in profile.lines(store, customer) if x.block == Block.PROFILE]
    text = "\n".join(after).casefold()
    new, kept = labels(case)
    score = Score(case["id"], injection=bool(case.get("injection")), refused=len(taken.refused) if taken else 0)
    for label in [*new, *kept]:
        (score.kept if there(label, text) else score.missed).append(label)
    score.wrong = [w for w in case["must_not"] if there(w, text)]
    learnt = [
        v
        for v in history.history(store, customer)
        if v.call_id == call.id
        and v.source == Source.MEMORY_STEP
        and v.block == Block.PROFILE
        and v.overruled_by is None
    ]
    gone = {line.casefold() for line in case.get("gone", [])}
    replaced = {(v.old_line or "").casefold() for v in learnt}
    score.vanished = [x for x in case["profile"] if x not in after and x.casefold() not in gone | replaced]
    score.invented = [
        v.line
        for v in learnt
        if v.op != Op.REMOVE and not any(there(label, v.line.casefold()) for label in [*new, *kept])
    ]
    for version in sorted(learnt, key=lambda v: -v.id):  # the last first, as `voicectl memory undo` asks for
        history.undo(store, customer, version.id)
        gone_now = version.line not in [x.text for x in profile.lines(store, customer)]
        score.undone += gone_now and version.line in score.invented
    return score


@contextmanager
def local(home: Path, port: int) -> Iterator[tuple[Asking, Any]]:
    key = secrets.token_hex(8)
    with served(home, port, key) as child:
        asyncio.run(until_ready(child, port))
        llm = LlmEndpoint(f"http://127.0.0.1:{port}/v1", key, "", local=True)
        yield Asking(Strategy.EXTRACT, llm, answer_s=120), lambda *_: None


@contextmanager
def agent(store: Store, at: Path) -> Iterator[tuple[Asking, Any]]:
    from tests.support.letta_server import real_letta
    from tests.support.llm_stub import LLMStub, Reply
    from voicectl.memory.backends.letta import LettaBackend
    from voicectl.memory.null_model import NullModel
    from voicectl.memory.sync.agents import ensure_agent
    from voicectl.memory.sync.blocks import sync_blocks
    from voicectl.memory.sync.tools import Tools

    with real_letta(at / "letta") as letta, NullModel() as null, LLMStub(lambda _: Reply("Done.")) as stub:
        llm = LlmEndpoint(stub.url, "sk-stub", "scripted")
        backend = LettaBackend(letta.url, letta.access.key, null.url, llm)
        backend.health()

        def prepare(customer: str, case: dict[str, Any]) -> None:
            tools = Tools(store, backend)
            ensure_agent(tools, customer)
            sync_blocks(tools, customer)
            now = [x.text for x in profile.lines(store, customer) if x.block == Block.PROFILE]
            wanted = [x for x in now if x not in case["gone"]] + case["good"] + case["bad"]
            memory = {"label": Block.PROFILE.value, "new_memory": "\n".join(wanted)}
            steps = [Reply(tool="memory_rethink", arguments=memory)]
            stub.script = lambda _: steps.pop(0) if steps else Reply("Done.")

        yield Asking(Strategy.AGENT, llm, backend, answer_s=60), prepare
        backend.close()


def figures(scores: list[Score]) -> dict[str, Any]:
    kept, missed = (sum(len(getattr(s, name)) for s in scores) for name in ("kept", "missed"))
    return {
        "schema_version": 1,
        "calls": len(scores),
        "entirely_right": sum(not (s.missed or s.wrong or s.vanished) for s in scores),
        "labels": kept + missed,
        "kept_share": round(kept / max(1, kept + missed), 3),
        "injected": sum(len(s.wrong) for s in scores if s.injection),
        "wrong": sum(len(s.wrong) for s in scores if not s.injection),
        "vanished": sum(len(s.vanished) for s in scores),
        "invented": [f"{s.id}: {line}" for s in scores for line in s.invented],
        "invented_undone": sum(s.undone for s in scores),
        "refused_by_our_rules": sum(s.refused for s in scores),
        "not_entirely_right": [asdict(s) for s in scores if s.missed or s.wrong or s.vanished],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=Path, nargs="+", default=[OWN])
    parser.add_argument("--agent", action="store_true", help="Letta's own agent; only cases with `good` and `bad`")
    parser.add_argument("--home", type=Path, default=CACHE, help="where the local model is")
    parser.add_argument("--port", type=int, default=18812)
    given = parser.parse_args()
    cases = [json.loads(line) for path in given.cases for line in path.read_text().splitlines()]
    at = Path(tempfile.mkdtemp(prefix="memory-step-"))
    store = open_store(load(MemorySettings, home=at / "home"))
    with ExitStack() as stack:
        asking, prepare = stack.enter_context(agent(store, at) if given.agent else local(given.home, given.port))
        scores = []
        for number, case in enumerate(cases):
            scores.append(run_case(store, case, asking, f"user:case {number}", prepare))
            sys.stderr.write(f"{case['id']}: missed {scores[-1].missed}, wrong {scores[-1].wrong}\n")
    print(json.dumps(figures(scores), indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
