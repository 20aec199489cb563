"""Not slower: what our part of a call costs on the reply path, against a plain agent in the same run.

    python bench/reply_path.py --turns 1000

Text path, a language model that answers at once, both arms interleaved turn by turn. Ours records every turn into a
real store and keeps the prompt current, as MemoryCall does. Then the same with the store locked: every reply must come
all the same, and every turn must be in the store afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from sqlalchemy import func, select

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

from plain_turns import PlainTurns  # noqa: E402

from voicectl.memory import calls, recall  # noqa: E402
from voicectl.memory.config import load  # noqa: E402
from voicectl.memory.recorder import Recorder  # noqa: E402
from voicectl.memory.store.engine import open_store  # noqa: E402
from voicectl.memory.store.schema import turns  # noqa: E402
from voicectl.voice.config import VoiceSettings  # noqa: E402
from voicectl.voice.knowledge import Knowledge  # noqa: E402
from voicectl.voice.listening import Listener  # noqa: E402

CUSTOMER = "user:bench"


class OurTurns(PlainTurns):
    """The same session with our recorder, knowledge and listener attached."""

    def __init__(self, home: Path) -> None:
        self.settings = load(VoiceSettings, home=home)
        self.store = open_store(self.settings)
        self.call = calls.open_call(self.store, customer=CUSTOMER, room="bench", desk="assistant", fence=1)
        self.knowledge = Knowledge(self.store, self.call, self.settings, recall.read(self.store, CUSTOMER))
        super().__init__(self.knowledge.instructions("You are helpful."))
        self.recorder = Recorder(self.store, self.call, journal_dir=home / "journal")
        self.tasks: set[asyncio.Task[None]] = set()
        self.listener = Listener(self.session, self.recorder, self._said)
        self.session.on(
            "agent_state_changed", lambda e: e.new_state == "speaking" and self._later(self.knowledge.refresh())
        )
        self.ours_ms: list[float] = []
        add = self.recorder.add

        def timed(turn: object) -> None:
            began = time.perf_counter()
            add(turn)  # type: ignore[arg-type]
            self.ours_ms.append((time.perf_counter() - began) * 1000)

        self.recorder.add = timed  # type: ignore[method-assign]

    def _said(self, item_id: str, text: str) -> None:
        self._later(self.knowledge.learn_name(text, item_id))

    def _later(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def recorded(self) -> int:
        with self.store.read() as connection:
            return int(connection.execute(select(func.count()).select_from(turns)).scalar_one())


def spread(values: list[float]) -> dict[str, float]:
    cut = statistics.quantiles(values, n=100)
    return {"p50_ms": round(cut[49], 3), "p95_ms": round(cut[94], 3), "max_ms": round(max(values), 3)}


async def interleaved(plain: PlainTurns, ours: OurTurns, count: int) -> tuple[list[float], list[float]]:
    a: list[float] = []
    b: list[float] = []
    for number in range(count):
        first, second = (plain, ours) if number % 2 else (ours, plain)
        one, two = await first.turn(f"turn {number}"), await second.turn(f"turn {number}")
        (a, b)[first is ours].append(one)
        (a, b)[second is ours].append(two)
        if number % 10 == 9:
            await plain.trim()
            await ours.trim()
    return a, b


async def run(count: int) -> dict[str, object]:
    home = Path(tempfile.mkdtemp(prefix="bench-"))
    plain, ours = PlainTurns(), OurTurns(home)
    await plain.open()
    await ours.open()
    await interleaved(plain, ours, 20)  # warm-up
    ours.ours_ms.clear()
    asked = (plain.llm.calls, ours.llm.calls)
    a, b = await interleaved(plain, ours, count)
    calls_a, calls_b = plain.llm.calls - asked[0], ours.llm.calls - asked[1]
    healthy = spread(ours.ours_ms)
    ours.recorder.flush(10)
    figures = ours.recorder.figures
    durable = {"worst_ms": round(figures.worst_ms, 1), "later_than_50_ms": figures.late, "of": figures.recorded}

    with ours.store.write():  # nobody else can write while this block lasts
        began = time.monotonic()
        locked_a: list[float] = []
        locked_b: list[float] = []
        while time.monotonic() - began < 5:
            one, two = await interleaved(plain, ours, 10)
            locked_a += one
            locked_b += two
    ours.recorder.flush(10)
    expected = 2 * (20 + count + len(locked_b)) + 1  # user and assistant of each turn, and the first hand-off
    deadline = time.monotonic() + 10
    while ours.recorded() < expected and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    result = {
        "turns": count,
        "plain": spread(a),
        "ours": spread(b),
        "median_difference_ms": round(statistics.median(y - x for x, y in zip(a, b, strict=True)), 3),
        "our_own_span_on_the_reply_path": healthy,
        "model_calls_a_turn": {"plain": calls_a / count, "ours": calls_b / count},
        "event_to_durable": durable,
        "store_locked_5_s": {"turns": len(locked_b), "plain": spread(locked_a), "ours": spread(locked_b)},
        "turns_in_the_store": {"expected": expected, "found": ours.recorded()},
    }
    await plain.close()
    await ours.close()
    ours.recorder.close()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=1000)
    print(json.dumps(asyncio.run(run(parser.parse_args().turns)), indent=1))


if __name__ == "__main__":
    main()
