"""Every turn in Letta exactly once, whatever is killed, frozen or down.

    python bench/crash.py --turns 10000 --kills 1000 --each-point 20 --session      (the full one: about an hour)
    python bench/crash.py --turns 2000 --kills 100                                  (ten minutes)

Twenty customers talk through a recorder process; two syncers mirror them into a real Letta behind a proxy. Processes
are killed at every point named in the code (a syncer then works alone) and at random moments; a syncer is frozen;
answers are swallowed; Letta is refused, broken, hung, killed. In the end Letta's database is counted by SQL. Prints
JSON with its seed; exit 1 if any turn is lost, doubled or out of order. SIGUSR1 ends the faults early.
The processes themselves: crash_child.py.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import signal
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field, fields
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.crash_child import Limits, start  # noqa: E402
from bench.moody_proxy import MOODS, MoodyProxy  # noqa: E402
from tests.support.letta_server import RealLetta, real_letta  # noqa: E402
from voicectl.memory import profile  # noqa: E402
from voicectl.memory.backends import BackendFault  # noqa: E402
from voicectl.memory.backends.letta import LettaBackend  # noqa: E402
from voicectl.memory.calls import finish, now_ms, open_call  # noqa: E402
from voicectl.memory.config import MemorySettings, load  # noqa: E402
from voicectl.memory.null_model import MODEL  # noqa: E402
from voicectl.memory.profile import Origin, Source  # noqa: E402
from voicectl.memory.recorder import Role, Signals, Turn  # noqa: E402
from voicectl.memory.store.engine import Store, open_store  # noqa: E402
from voicectl.memory.store.schema import calls, letta_blocks, refused_turns, turns  # noqa: E402
from voicectl.memory.sync import ledger, letters  # noqa: E402
from voicectl.memory.sync.figures import sync_figures  # noqa: E402
from voicectl.memory.sync.states import Point  # noqa: E402
from voicectl.memory.sync.transcript import messages  # noqa: E402
from voicectl.memory.sync.verify import verify  # noqa: E402
from voicectl.memory.turns import write_turn  # noqa: E402

WINDOW_S = 0.25  # a turn said so shortly before its recorder was killed may be lost (protocols 4)
HELP_S = 0.4  # how often we help: oftener, and on a slow machine that would be all the work there is
RECORDER_POINTS = [f.name for f in fields(Signals)]
SYNCER_POINTS = [p.value for p in Point]


@dataclass(frozen=True)
class Plan:
    """What a run does.

    Args:
        turns: How many turns are said at least.
        kills: Random kills of recorder and syncers.
        letta_kills: Of Letta; each takes about 20 s.
        each_point: How often each crash point is hit.
        moods: How often each mood of the proxy lasts mood_s seconds, and how often a syncer is frozen.
        mood_s: Seconds.
        customers: How many.
        session: Turns go through LiveKit's AgentSession, else straight into the recorder.
        finish_s: How long the end may take.
    """

    turns: int = 2000
    kills: int = 100
    letta_kills: int = 2
    each_point: int = 3
    moods: int = 2
    mood_s: float = 6.0
    customers: int = 20
    session: bool = False
    finish_s: float = 240.0


@dataclass
class Child:
    """A process of crash_child.py and what it said."""

    role: str
    process: BaseProcess
    saying: Connection
    point: str = ""
    ready: threading.Event = field(default_factory=threading.Event)
    finished: bool = False
    died_at: str = ""
    said: list[tuple[str, str, float]] = field(default_factory=list)
    killed_s: float = 0.0

    def listen(self) -> None:
        for line in os.fdopen(self.saying.fileno(), "rb", closefd=False):
            words = line.decode().split()
            if words[0] == "ready":
                self.ready.set()
            elif words[0] == "said" and len(words) == 4:
                self.said.append((words[1], words[2], float(words[3])))
            elif words[0] == "died":
                self.died_at, self.killed_s = " ".join(words[1:-1]), float(words[-1])
            elif words[0] == "finished":
                self.finished = True
        self.killed_s = self.killed_s or time.monotonic()
        self.process.join()
        self.saying.close()
        self.ready.set()

    @property
    def alive(self) -> bool:
        return self.process.is_alive()

    def kill(self) -> None:
        self.killed_s = time.monotonic()
        self.process.kill()
        self.process.join()

    def send(self, number: signal.Signals) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)


class Run:
    """One run."""

    def __init__(self, plan: Plan, seed: str, home: Path, letta: RealLetta, proxy: MoodyProxy) -> None:
        self.plan, self.seed, self.home, self.letta, self.proxy = plan, seed, home, letta, proxy
        self.random = random.Random(seed)
        self.enough = threading.Event()
        self.settings = load(MemorySettings, home=home)
        opened = open_store(self.settings)
        self.store: Store = opened.impatient(60_000)  # we are not what is measured: a busy store must not end the run
        opened.close()
        self.incarnation = 0
        self.allowed = self.visitors = 0
        self.recorder: Child | None = None
        self.syncers: list[Child] = []
        self.recorders: list[Child] = []
        self.hits: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()

    # -- processes ---------------------------------------------------------------------------------------------------

    def child(self, role: str, point: str = "", **plan: Any) -> Child:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("VOICE_", "MEMORY_", "LETTA_", "DATABASE_"))}
        env |= {"VOICE_HOME": str(self.home), "VOICE_ENV_FILE": str(self.home / "none.env")}
        env |= {"LETTA_BASE_URL": self.proxy.url, "LETTA_API_KEY": self.letta.access.key}
        die_at = [point, self.random.randint(1, 2)] if point else None
        given = {"home": str(self.home), "seed": self.seed, "die_at": die_at, **plan}
        process, saying = start(role, given, env, self.home / "children.log")
        made = Child(role, process, saying, point)
        threading.Thread(target=made.listen, daemon=True).start()
        return made

    def new_recorder(self, point: str = "") -> None:
        if self.recorder is not None and self.recorder.alive:
            self.recorder.kill()
        self.incarnation += 1
        self.recorder = self.child(
            "recorder",
            point,
            incarnation=self.incarnation,
            customers=self.plan.customers,
            pace_s=0.05,
            session=self.plan.session,
        )
        self.recorders.append(self.recorder)

    def new_syncer(self, point: str = "") -> Child:
        made = self.child("syncer", point)
        self.syncers.append(made)
        return made

    def quota(self, turns_: int, *, last: bool = False) -> None:
        """Let so many turns be said, of all customers together."""
        turns_ = self.allowed = max(turns_, self.allowed)
        draft = self.home / "quota.draft"
        draft.write_text(json.dumps({"turns": turns_, "of": self.plan.turns, "last": last}))
        draft.replace(self.home / "quota.json")

    # -- faults ------------------------------------------------------------------------------------------------------

    def list_faults(self) -> list[tuple[str, str]]:
        plan = self.plan
        found = [("recorder point", p) for p in RECORDER_POINTS for _ in range(plan.each_point)]
        found += [("syncer point", p) for p in SYNCER_POINTS for _ in range(plan.each_point)]
        found += [("kill", self.random.choice(["recorder", "syncer"])) for _ in range(plan.kills)]
        found += [("mood", m) for m in MOODS for _ in range(plan.moods)]
        found += [("freeze", "syncer") for _ in range(plan.moods)]
        self.random.shuffle(found)
        for number in range(plan.letta_kills):  # spread, never the first: there must be something to lose
            found.insert(len(found) * (number + 1) // (plan.letta_kills + 1), ("kill", "letta"))
        return found

    def fault(self, kind: str, what: str) -> None:
        if kind == "recorder point":
            self.new_recorder(what)
            self.until_dead(self.recorder, what)
            self.new_recorder()
        elif kind == "syncer point":
            while self.syncers:  # alone, or another one does what would lead there
                self.syncers.pop().kill()
                self.faults["kill: syncer"] += 1
            fused = self.new_syncer(what)
            self.until_dead(fused, what)
            self.syncers.remove(fused)
        elif what == "recorder":
            self.new_recorder()
        elif what == "syncer":
            self.syncers.pop(self.random.randrange(len(self.syncers))).kill()
            self.new_syncer()
        elif what == "letta":
            self.letta.kill()
            self.letta.start()
        elif kind == "mood":
            self.proxy.mood(what)
            time.sleep(self.plan.mood_s)
            self.proxy.mood("ok")
        elif kind == "freeze":
            frozen = self.random.choice(self.syncers)
            frozen.send(signal.SIGSTOP)
            time.sleep(self.random.uniform(0.5, Limits().lease_s * 2))
            frozen.send(signal.SIGCONT)
        self.faults[f"{kind}: {what}"] += 1

    def complete(self, count: int) -> None:
        """Have as many syncers at work."""
        while len(self.syncers) < count:
            self.new_syncer()
        for child in self.syncers:
            child.ready.wait(30)

    def until_dead(self, child: Child | None, point: str) -> None:
        """Wait until it came to its point, helping where nothing else leads there; else kill it somewhere."""
        assert child is not None
        child.ready.wait(30)
        deadline = time.monotonic() + 15
        helped_s = 0.0
        while child.alive and time.monotonic() < deadline:
            if time.monotonic() - helped_s >= HELP_S:
                helped_s = time.monotonic()
                self.help(point)
            time.sleep(0.05)
        child.kill() if child.alive else child.process.join()
        time.sleep(0.05)
        if child.died_at == point:
            self.hits[point] += 1
        else:
            self.faults["killed elsewhere, its point did not come"] += 1

    def help(self, point: str) -> None:
        """Do what leads to a point."""
        self.quota(self.allowed + 2)  # a point is not reached in silence
        if point in ("before_journal", "after_journal"):
            with self.store.write():  # the store refuses for longer than the recorder waits
                time.sleep(0.15)
        elif point in ("edits logged", "block intent", "block put"):
            self.change_a_block(edit=point == "edits logged")
        elif point in ("agent created", "conversation created"):
            self.somebody_new(known=point == "conversation created")

    def somebody_new(self, *, known: bool) -> None:
        """A short call of a customer who called before, or never."""
        self.visitors += 1
        customer = f"user:visitor {self.seed} {0 if known else self.visitors}"
        call = open_call(self.store, customer=customer, room=f"visit {self.visitors}", desk="d", fence=1)
        with self.store.write() as connection:
            write_turn(connection, call, Turn(f"visit-{self.visitors}", Role.USER, f"hello {self.visitors}", now_ms()))
        finish(self.store, call, "done")

    def change_a_block(self, *, edit: bool) -> None:
        statement = select(letta_blocks.c.customer, letta_blocks.c.block_id).where(letta_blocks.c.block == "profile")
        with self.store.read() as connection:
            known = connection.execute(statement).all()
        if not known:
            return
        one = self.random.choice(known)
        text = f"number: {self.random.randint(0, 9999)}"
        if not edit:
            profile.put(self.store, one.customer, text, Origin(Source.OPERATOR))
            return
        body = json.dumps({"value": text}).encode()
        headers = {"Authorization": f"Bearer {self.letta.access.key}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.letta.url}/v1/blocks/{one.block_id}", body, headers, method="PATCH")
        try:
            urllib.request.urlopen(request, timeout=5).close()
        except OSError:
            return  # the next look tries again

    # -- the story ---------------------------------------------------------------------------------------------------

    def go(self) -> dict[str, Any]:
        began = time.monotonic()
        listed = self.list_faults()
        planned = len(listed)
        self.quota(min(self.plan.turns, 2 * self.plan.customers))
        self.new_recorder()
        self.new_syncer()
        self.new_syncer()
        for child in (self.recorder, *self.syncers):
            assert child is not None
            child.ready.wait(60)
        self.wait(lambda: self.recorded() > 0, 60, "nothing is said")
        for number, (kind, what) in enumerate(listed):
            if self.enough.is_set():
                break
            self.quota(max(1, self.plan.turns * min(number + 1, planned) // (planned + 1)))
            self.complete(0 if kind == "syncer point" else 2)
            time.sleep(self.random.uniform(0.1, 0.6))
            before = self.hits[what]
            self.fault(kind, what)
            if kind.endswith("point") and self.hits[what] == before and len(listed) < 2 * planned:
                listed.append((kind, what))  # killed before it came there: that one is still owed
            at_s = time.monotonic() - began
            said = f"{at_s:6.1f} s  {number + 1}/{len(listed)} {kind}: {what}; {self.recorded()} turns"
            sys.stderr.write(said + "\n")
        self.complete(2)
        faults_s = time.monotonic() - began
        sys.stderr.write(
            f"points hit: {dict(sorted(self.hits.items()))}; faults: {dict(sorted(self.faults.items()))}\n"
        )
        self.quota(self.plan.turns, last=True)
        if not (self.recorder and self.recorder.alive):
            self.new_recorder()
        ended = self.wait(lambda: bool(self.recorder and self.recorder.finished), self.plan.finish_s, "")
        level = ended and self.wait(lambda: not self.open_calls(), self.plan.finish_s, "")
        level = level and self.wait(lambda: not self.compared(), self.plan.finish_s, "")  # blocks come by the sweep
        for child in self.syncers:
            child.process.terminate()
        drain = time.monotonic()
        for child in self.syncers:
            child.process.join(30)
        result = self.result()
        result |= {
            "level": level,
            "calls_not_done": self.open_calls() if not level else 0,
            "drain_s": round(time.monotonic() - drain, 1),
            "faults_s": round(faults_s),
            "seconds": round(time.monotonic() - began),
        }
        return result

    def stop(self) -> None:
        for child in (self.recorder, *self.syncers):
            if child is not None and child.alive:
                child.kill()
        self.store.close()

    def wait(self, done: Any, seconds: float, otherwise: str) -> bool:
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                if otherwise:
                    raise TimeoutError(otherwise)
                return False
            time.sleep(0.1)
        return True

    def recorded(self) -> int:
        with self.store.read() as connection:
            return int(connection.execute(select(func.count()).select_from(turns)).scalar_one())

    def open_calls(self) -> int:
        with self.store.read() as connection:
            return int(
                connection.execute(
                    select(func.count()).select_from(calls).where(calls.c.mirror.not_in(["done", "dead"]))
                ).scalar_one()
            )

    def compared(self) -> list[str]:
        """What `voicectl sync verify` would list."""
        backend = LettaBackend(self.letta.url, self.letta.access.key, "http://127.0.0.1:1/v1")
        try:
            return [f"{d.kind}: {d.row} {d.detail}" for d in verify(self.store, backend).differences]
        except BackendFault as e:  # thousands of look-ups on a busy machine: one that times out must not end the run
            return [f"not compared: {e}"]
        finally:
            backend.close()

    # -- the count ---------------------------------------------------------------------------------------------------

    def result(self) -> dict[str, Any]:
        with self.store.read() as connection:
            kept = connection.execute(select(turns.c.call_id, turns.c.item_id, turns.c.seq)).all()
            refused = {(r.call_id, r.item_id) for r in connection.execute(select(refused_turns))}
            ids = [str(x) for x in connection.execute(select(calls.c.id)).scalars()]
        seqs = {(r.call_id, r.item_id): int(r.seq) for r in kept}
        lost_before_store, in_window, disorder = 0, 0, 0
        for child in self.recorders:
            latest: dict[str, int] = {}
            for call, item, at in child.said:
                seq = seqs.get((call, item))
                if seq is None and (call, item) not in refused:
                    late = child.killed_s - at < WINDOW_S and not child.finished
                    in_window, lost_before_store = in_window + late, lost_before_store + (not late)
                if seq is not None:
                    disorder += seq < latest.get(call, 0)
                    latest[call] = seq
        dead = letters.letters(self.store)
        passed = {(x.call, x.seq) for x in dead}
        there: dict[str, list[tuple[str, str, str, str]]] = {}
        for role, marker, text, conversation in self.letta.processes.sql(
            "select m.role, coalesce(m.sender_id, ''), m.content->0->>'text', m.conversation_id from messages m "
            "join conversations c on c.id = m.conversation_id where m.role <> 'system' and not m.is_deleted "
            "and not c.is_deleted order by m.sequence_id"
        ):
            there.setdefault(marker.rpartition("#")[0], []).append((marker, role, text, conversation))
        lost = doubled = wrong_order = wrong_text = 0
        expected = 0
        for call in ids:
            wanted = [
                (m.marker, m.role, m.text)
                for m in messages(call, ledger.rows(self.store, call))
                if (call, int(m.marker.rpartition("#")[2])) not in passed and (call, 0) not in passed
            ]
            expected += len(wanted)
            rows = there.pop(call, [])
            markers = [row[0] for row in rows]
            lost += len({w[0] for w in wanted} - set(markers))
            doubled += len(markers) - len(set(markers))
            once = list(dict.fromkeys(markers))
            wrong_order += once != sorted(once, key=lambda m: int(m.rpartition("#")[2]))
            known = {w[0]: w[1:] for w in wanted}
            wrong_text += sum(1 for marker, role, text, _ in rows if known.get(marker) != (role, text))
        sql = self.letta.number
        return {
            "seed": self.seed,
            "turns": len(kept),
            "expected_in_letta": expected,
            "calls": len(ids),
            "lost": lost,
            "doubled": doubled,
            "out_of_order": wrong_order + disorder,
            "wrong_text": wrong_text,
            "foreign": sum(len(rows) for rows in there.values()),
            "lost_before_the_store": lost_before_store,
            "said_in_the_last_250_ms_and_lost": in_window,
            "refused": len(refused),
            "dead_letters": [f"{x.call}#{x.seq}: {x.why}" for x in dead],
            "agents_per_customer": max(
                [
                    int(n)
                    for _, n in self.letta.processes.sql(
                        "select tag, count(distinct agent_id) from agents_tags where tag like 'cust:%' group by tag"
                    )
                ]
                or [0]
            ),
            "steps_of_other_models": sql(f"select count(*) from steps where model <> '{MODEL}'"),
            "conversations_given_up": sql("select count(*) from conversations where is_deleted"),
            "late_rows_in_those": sql(
                "select count(*) from messages m join conversations c on c.id = m.conversation_id "
                "where c.is_deleted and not m.is_deleted and m.role <> 'system'"
            ),
            "verify_differences": self.compared()[:20],
            "backlog": sync_figures(self.store).backlog,
            "points_hit": dict(sorted(self.hits.items())),
            "faults": dict(sorted(self.faults.items())),
        }


def bad(result: dict[str, Any]) -> dict[str, Any]:
    """What of a result must not be; empty when all is well."""
    zero = ("lost", "doubled", "out_of_order", "wrong_text", "foreign", "lost_before_the_store", "backlog")
    found = {name: result[name] for name in zero if result[name]}
    for name in ("dead_letters", "verify_differences", "calls_not_done", "steps_of_other_models"):
        if result[name]:
            found[name] = result[name]
    if result["agents_per_customer"] != 1:
        found["agents_per_customer"] = result["agents_per_customer"]
    return found


def run(plan: Plan, seed: str, home: Path, letta: RealLetta, *, ended_by_signal: bool = False) -> dict[str, Any]:
    """One run against a Letta that is up."""
    home.mkdir(parents=True, exist_ok=True)
    with MoodyProxy(letta.access.port) as proxy:
        story = Run(plan, seed, home, letta, proxy)
        if ended_by_signal:
            signal.signal(signal.SIGUSR1, lambda *_: story.enough.set())
        try:
            return story.go()
        finally:
            story.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    standard = Plan()
    for one in fields(Plan):
        name = f"--{one.name.replace('_', '-')}"
        value = getattr(standard, one.name)
        if isinstance(value, bool):
            parser.add_argument(name, action="store_true")
        else:
            parser.add_argument(name, type=type(value), default=value)
    parser.add_argument("--seed", default=secrets.token_hex(4))
    given = vars(parser.parse_args())
    seed = given.pop("seed")
    sys.stderr.write(f"seed {seed}\n")
    at = Path(tempfile.mkdtemp(prefix="crash-"))
    with real_letta(at / "letta") as letta:
        result = run(Plan(**given), seed, at / "home", letta, ended_by_signal=True)
    print(json.dumps(result, indent=1))
    wrong = bad(result)
    if wrong:
        sys.exit(f"NOT well: {wrong}; logs in {at}")


if __name__ == "__main__":
    main()
