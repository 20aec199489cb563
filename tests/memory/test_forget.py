"""Who is forgotten is gone: rows, bytes, files and agents; whatever was on its way arrives at nothing."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests.support.letta_stub import LettaStub
from voicectl.memory import admin, calls, forget, in_letta, profile, recall, traces
from voicectl.memory.backends import Ambiguous, BackendFault, NotThere
from voicectl.memory.backends.letta import LettaBackend
from voicectl.memory.config import MemorySettings
from voicectl.memory.errors import CustomerUnknown, FencedOut, Refused, StoreUnavailable
from voicectl.memory.forget import Forgetting, Step
from voicectl.memory.identity import hashed
from voicectl.memory.in_letta import InLetta
from voicectl.memory.journal import Journal, replay_left_journals
from voicectl.memory.profile import Block, Origin, Source
from voicectl.memory.recorder import Recorder, Role, Turn
from voicectl.memory.room_log import RoomEvent, note, recent
from voicectl.memory.store.engine import Store
from voicectl.memory.store.leases import Leases, LeaseState, open_leases
from voicectl.memory.store.schema import forgotten, metadata, refused_turns
from voicectl.memory.sync import figures
from voicectl.memory.sync.blocks import sync_blocks
from voicectl.memory.sync.mirror import sync_turns
from voicectl.memory.sync.states import Outage, Point
from voicectl.memory.sync.tools import Tools
from voicectl.memory.turns import write_turn

pytestmark = pytest.mark.unit

WHO = "+8801700000042"
SECRET = "quicksilver-marzipan"


@pytest.fixture
def leases(settings: MemorySettings) -> Iterator[Leases]:
    made = open_leases(settings)
    yield made
    made.close()


@pytest.fixture
def letta() -> Iterator[LettaStub]:
    with LettaStub() as stub:
        yield stub


@pytest.fixture
def backend(letta: LettaStub) -> Iterator[LettaBackend]:
    made = LettaBackend(letta.url, "key", "http://127.0.0.1:1/v1", write_s=1.5)
    yield made
    made.close()


class Clock:
    """Time that passes when somebody waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead_s = 0.0
        monkeypatch.setattr(in_letta, "now_ms", lambda: calls.now_ms() + round(self.ahead_s * 1000))

    def wait(self, seconds: float) -> None:
        self.ahead_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def forgetting(
    store: Store, leases: Leases, settings: MemorySettings, backend: LettaBackend, clock: Clock
) -> Forgetting:
    return Forgetting(store, leases, settings.home, backend, wait=clock.wait)


def plant(store: Store, home: Path, *, room: str = "call-1", who: str = WHO, secret: str = SECRET) -> calls.Call:
    """A call in which the secret was said, learnt, refused, edited and journalled."""
    call = calls.open_call(store, customer=who, room=room, desk="assistant", fence=1)
    with store.write() as connection:
        for number in range(60):
            text = f"{number}: my password is {secret}" + " and so on" * (number % 7)
            write_turn(connection, call, Turn(f"item_{number}", Role.USER, text, number + 1))
        older = calls.Call(call.id, who, 1, room, "assistant", 0)
        write_turn(connection, older, Turn("late", Role.USER, f"refused {secret}", 1))
    profile.put(store, who, f"password is {secret}", Origin(Source.TOOL, call.id, "item_0"))
    profile.put(store, who, f"password is {secret}-2", Origin(Source.TOOL, call.id, "item_1"))
    profile.put(store, who, f"knows {secret}", Origin(Source.OPERATOR), Block.OPERATOR_NOTES)
    Journal(home / "journal" / f"{call.id}.jsonl", 1).append([Turn("j", Role.USER, f"in the journal: {secret}", 1)])
    kept = traces.of_edit(home, who, "1")
    kept.parent.mkdir(exist_ok=True)
    kept.write_text(f"an edit that was refused: {secret}")
    return call


def bytes_with(home: Path, *needles: str) -> list[str]:
    """Files that hold one of the needles, anywhere in their bytes."""
    return sorted(
        f"{path.relative_to(home)}: {needle}"
        for path in home.rglob("*")
        if path.is_file()
        for needle in needles
        if needle.encode() in path.read_bytes()
    )


def ended(store: Store, call: calls.Call) -> None:
    calls.finish(store, call, "done")


def mirrored(store: Store, backend: LettaBackend, who: str = WHO) -> None:
    tools = Tools(store, backend)
    sync_turns(tools, who)
    sync_blocks(tools, who)


def test_nothing_of_a_forgotten_customer_is_in_any_file_and_the_others_are_untouched(
    store: Store,
    settings: MemorySettings,
    leases: Leases,
    forgetting: Forgetting,
    backend: LettaBackend,
    letta: LettaStub,
) -> None:
    for number in range(5):
        plant(store, settings.home, room=f"a{number}")
        other = plant(store, settings.home, room=f"b{number}", who="user:other", secret="kept-words")
    for held in leases.claim(f"customer:{WHO}", "syncer", 9, LeaseState.HELD), leases.claim("room:a1", "job", 9):
        leases.release(held)
    mirrored(store, backend)
    assert bytes_with(settings.home, SECRET) or not store.is_sqlite

    with store.write() as connection:
        connection.execute(calls.calls.update().values(state=calls.CallState.ENDED))
    receipt = forgetting.run(WHO)

    assert receipt.left == []
    assert (receipt.rows["calls"], receipt.rows["turns"], receipt.files, receipt.agents) == (5, 300, 6, 1)
    assert receipt.letta == InLetta.CLEAR
    assert bytes_with(settings.home, SECRET, WHO, "password is quick") == []
    assert traces.rows(store, WHO) == {}
    assert letta.agents == {}
    assert letta.blocks == {}
    assert len(recall.said_in(store, other.id, 99)) == 60
    assert profile.lines(store, "user:other")
    with pytest.raises(CustomerUnknown):
        admin.show(store, WHO)


def test_every_table_is_known_by_whose_its_rows_are() -> None:
    for table in metadata.sorted_tables:
        if table.name not in traces.NOBODYS:
            traces.whose(table, "user:1", select(calls.calls.c.id))


def test_a_live_call_is_a_reason_to_refuse_and_nothing_changes(
    store: Store, settings: MemorySettings, leases: Leases, forgetting: Forgetting
) -> None:
    plant(store, settings.home)
    leases.claim("room:call-1", "job", 60, LeaseState.HELD)
    before = traces.rows(store, WHO)

    with pytest.raises(Refused, match=r"on a call now \(room call-1\).*--end-calls"):
        forgetting.run(WHO)

    assert traces.rows(store, WHO) == before


def test_a_live_call_is_ended_first_when_asked_and_its_job_can_write_nothing_any_more(
    store: Store, settings: MemorySettings, leases: Leases, forgetting: Forgetting
) -> None:
    call = plant(store, settings.home)
    job = leases.claim("room:call-1", "job", 60, LeaseState.HELD)
    fenced: list[bool] = []
    recorder = Recorder(store, call, journal_dir=settings.home / "journal", on_fenced_out=lambda: fenced.append(True))
    closed: list[str] = []

    def close(rooms: object) -> str:
        with pytest.raises(FencedOut):
            leases.renew(job, 3)
        note(store, RoomEvent.FENCED_OUT, "call-1", ours="job")
        closed.extend(rooms)  # type: ignore[arg-type]
        return ""

    receipt = Forgetting(store, leases, settings.home, forgetting.backend, close, forgetting.wait).run(
        WHO, end_calls=True
    )
    recorder.add(Turn("after", Role.USER, f"and also {SECRET}", 1))
    assert recorder.flush(15)
    recorder.close()

    assert closed == receipt.calls_ended == ["call-1"]
    assert fenced == [True]
    with pytest.raises(FencedOut):
        calls.begin_ending(store, call, "bye")
    calls.finish(store, call, "bye")
    late = [Origin(s, call.id) for s in (Source.TOOL, Source.RULE, Source.MEMORY_STEP, Source.PAGE)]
    for origin in (*late, Origin(Source.ADE, generation=1)):
        with pytest.raises(Refused, match="forgotten"):
            profile.put(store, WHO, f"password is {SECRET}", origin)
    assert traces.rows(store, WHO) == {}
    assert recent(store) == []
    with store.read() as connection:
        assert connection.execute(select(refused_turns.c.text)).all() == []
    traces.truncate(store)
    assert bytes_with(settings.home, SECRET, WHO) == []


def test_a_call_whose_job_is_gone_is_no_reason_to_refuse(
    store: Store, settings: MemorySettings, forgetting: Forgetting
) -> None:
    plant(store, settings.home)

    assert forgetting.run(WHO).left == []


def test_the_next_call_starts_from_nothing_in_a_generation_of_its_own(
    store: Store, settings: MemorySettings, forgetting: Forgetting, letta: LettaStub, backend: LettaBackend
) -> None:
    plant(store, settings.home)
    receipt = forgetting.run(WHO)

    again = calls.open_call(store, customer=WHO, room="new", desk="assistant", fence=1)
    with store.write() as connection:
        write_turn(connection, again, Turn("x", Role.USER, "hello", 1))
    mirrored(store, backend)

    assert not recall.read(store, WHO, but_call=again.id).known
    assert again.generation == receipt.generation == 2
    assert [sorted(a["tags"])[-1] for a in letta.agents.values()] == ["gen:2"]
    forgetting.run(WHO)
    assert letta.agents == {}
    assert calls.open_call(store, customer=WHO, room="newer", desk="assistant", fence=1).generation == 3


def test_a_journal_that_turns_up_later_is_not_replayed_but_deleted(
    store: Store, settings: MemorySettings, forgetting: Forgetting
) -> None:
    call = plant(store, settings.home)
    forgetting.run(WHO)
    late = settings.home / "journal" / f"{call.id}.jsonl"
    Journal(late, 1).append([Turn("late", Role.USER, SECRET, 1)])

    assert replay_left_journals(store, late.parent) == 0

    assert not late.exists()


def test_a_syncer_that_stood_still_brings_nothing_back(
    store: Store,
    settings: MemorySettings,
    forgetting: Forgetting,
    backend: LettaBackend,
    letta: LettaStub,
    clock: Clock,
) -> None:
    plant(store, settings.home)
    mirrored(store, backend)
    frozen = Tools(store, backend, signal=lambda point: forgetting.run(WHO) if point == Point.EDITS_LOGGED else None)
    block = next(b for b in letta.blocks.values() if b["label"] == "profile")
    block["value"] += f"\nedited: {SECRET}"

    with pytest.raises((NotThere, StoreUnavailable)):
        sync_blocks(frozen, WHO)

    figures.say(store, Outage.FAILING, "why", customer=WHO)
    assert traces.rows(store, WHO) == {}
    assert letta.agents == {}


def test_an_agent_of_an_old_generation_that_turns_up_is_swept(
    store: Store,
    settings: MemorySettings,
    forgetting: Forgetting,
    backend: LettaBackend,
    letta: LettaStub,
    clock: Clock,
) -> None:
    plant(store, settings.home)
    forgetting.run(WHO)
    late = {
        "id": "agent-late",
        "tags": ["app:voicectl", f"cust:{hashed(WHO)}", "gen:1"],
        "created_at": "1",
        "blocks": [],
    }
    letta.agents["agent-late"] = late
    assert in_letta.sweep(store, backend) == 0  # not due yet

    clock.wait(in_letta.CLEAR_AGAIN_S)

    assert in_letta.sweep(store, backend) == 1
    assert letta.agents == {}


def test_with_letta_away_the_stores_part_is_done_and_the_syncer_does_the_rest(
    store: Store,
    settings: MemorySettings,
    forgetting: Forgetting,
    backend: LettaBackend,
    letta: LettaStub,
    clock: Clock,
) -> None:
    plant(store, settings.home)
    mirrored(store, backend)
    letta.down = True

    receipt = forgetting.run(WHO)

    assert receipt.letta == InLetta.OPEN
    assert "the syncer deletes them when Letta answers" in receipt.left[0]
    assert traces.rows(store, WHO) == {}
    letta.down = False
    clock.wait(in_letta.EMPTY_S)
    assert in_letta.sweep(store, backend) == 1
    clock.wait(in_letta.EMPTY_S)
    in_letta.sweep(store, backend)
    with store.read() as connection:
        assert connection.execute(select(forgotten.c.letta)).scalar() == InLetta.CLEAR


def test_an_agent_that_could_not_be_deleted_leaves_no_block_behind_for_ever(
    store: Store, settings: MemorySettings, forgetting: Forgetting, backend: LettaBackend, letta: LettaStub
) -> None:
    plant(store, settings.home)
    mirrored(store, backend)
    whole, failed = letta.answer, []

    def once(method: str, path: str, query: Any, body: Any) -> tuple[int, Any]:
        if method == "DELETE" and "/agents/" in path and not failed:
            failed.append(path)
            return 500, {}
        return whole(method, path, query, body)

    letta.answer = once  # type: ignore[method-assign]
    assert forgetting.run(WHO).left

    assert forgetting.run(WHO).left == []
    assert (letta.agents, letta.blocks) == ({}, {})


def test_an_agent_that_stays_although_its_deletion_was_answered_is_named_and_nobody_waits_for_ever(
    store: Store, settings: MemorySettings, forgetting: Forgetting, backend: LettaBackend, letta: LettaStub
) -> None:
    plant(store, settings.home)
    mirrored(store, backend)
    letta.keeps_agents = True
    (agent,) = letta.agents

    with pytest.raises(Ambiguous, match=agent):
        backend.forget(hashed(WHO))
    receipt = forgetting.run(WHO)

    assert receipt.letta == InLetta.OPEN
    assert [agent in words for words in receipt.left] == [True], receipt.left
    letta.keeps_agents = False
    assert forgetting.run(WHO).left == []
    assert letta.agents == {}


def test_one_whose_agent_cannot_be_deleted_does_not_keep_the_sweep_from_the_others(
    store: Store, settings: MemorySettings, leases: Leases, backend: LettaBackend, letta: LettaStub
) -> None:
    for number, customer in enumerate(["user:1", "user:2", "user:3"]):
        plant(store, settings.home, room=f"call-{number}", who=customer)
        mirrored(store, backend, customer)
        Forgetting(store, leases, settings.home).run(customer)
    whole, stuck = letta.answer, []

    def stubborn(method: str, path: str, query: Any, body: Any) -> tuple[int, Any]:
        if method == "DELETE" and "/agents/" in path and path in (stuck or [path]):
            stuck[:] = [path]
            return 500, {}
        return whole(method, path, query, body)

    letta.answer = stubborn  # type: ignore[method-assign]
    for _ in range(3):
        with contextlib.suppress(BackendFault):
            in_letta.sweep(store, backend)

    assert [f"/v1/agents/{agent}" for agent in letta.agents] == stuck


def test_an_unknown_customer_is_named_and_a_forgotten_one_can_be_forgotten_again(
    store: Store, settings: MemorySettings, forgetting: Forgetting
) -> None:
    with pytest.raises(CustomerUnknown):
        forgetting.run("user:99")
    with pytest.raises(CustomerUnknown):
        forget.about(store, "user:99")
    plant(store, settings.home)
    assert "1 calls, 60 turns" in forget.about(store, WHO)
    first = forgetting.run(WHO)

    again = forgetting.run(WHO)

    assert (again.rows, again.generation, again.left) == ({}, first.generation, [])
    assert "forgotten already" in forget.about(store, WHO)


def test_finishing_what_a_crash_left_does_not_end_a_call_that_began_since(
    store: Store, settings: MemorySettings, leases: Leases
) -> None:
    class Crash(BaseException):
        pass

    def crash(step: Step) -> None:
        if step == Step.ERASED:
            raise Crash

    plant(store, settings.home)
    with pytest.raises(Crash):
        Forgetting(store, leases, settings.home, signal=crash).run(WHO)
    calls.open_call(store, customer="user:new", room="call-1", desk="assistant", fence=5)
    job = leases.claim("room:call-1", "job", 60, LeaseState.HELD)

    receipt = Forgetting(store, leases, settings.home).run(WHO)

    assert (receipt.left, receipt.calls_ended) == ([], [])
    leases.renew(job, 3)


def test_the_recordings_of_the_tour_go_with_its_customer_and_with_nobody_else(
    store: Store, settings: MemorySettings, leases: Leases
) -> None:
    heard = settings.home / "demo" / "first-call.wav"
    heard.parent.mkdir(parents=True)
    heard.write_bytes(b"RIFF")
    for number, who in enumerate(("user:1", "user:tour-abc")):
        calls.open_call(store, customer=who, room=f"r{number}", desk="a", fence=1)
    work = Forgetting(store, leases, settings.home)

    assert work.run("user:1").files == 0
    assert work.run("user:tour-abc").files == 1
    assert not heard.exists()


def test_a_room_that_cannot_be_closed_is_said_and_its_agent_is_fenced_all_the_same(
    store: Store, settings: MemorySettings, leases: Leases, forgetting: Forgetting
) -> None:
    plant(store, settings.home)
    job = leases.claim("room:call-1", "job", 60, LeaseState.HELD)

    receipt = Forgetting(store, leases, settings.home, None, lambda rooms: "no answer").run(WHO, end_calls=True)

    assert receipt.left == ["rooms may still be open, with an agent that knows nothing: call-1: no answer"]
    with pytest.raises(FencedOut):
        leases.renew(job, 3)


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("seed", [7, 10, 20])
def test_what_sqlite_leaves_behind_in_pages_when_rows_are_moved_is_gone_too(
    store: Store, settings: MemorySettings, leases: Leases, seed: int
) -> None:
    chosen = random.Random(seed)  # with these, secure_delete alone left 15 to 40 copies in the file
    who = [f"user:{n}" for n in range(5)]
    live = [calls.open_call(store, customer=who[n % 5], room=f"r{n}", desk="a", fence=1) for n in range(20)]
    with store.write() as connection:
        for number in range(400):
            call = chosen.choice(live)
            text = f"SECRET{call.customer} " * chosen.randrange(1, 40)
            write_turn(connection, call, Turn(f"i{number}", Role.USER, text, 1))

    for customer in ("user:0", "user:2", "user:3", "user:1"):
        assert Forgetting(store, leases, settings.home).run(customer).left == []

    assert bytes_with(settings.home, *(f"SECRET{w}" for w in who)) == ["memory.db: SECRETuser:4"]


FULL_TEXT = (
    "CREATE VIRTUAL TABLE found USING fts5(text, content='turns', content_rowid='rowid')",
    "CREATE TRIGGER found_in AFTER INSERT ON turns BEGIN "
    "INSERT INTO found(rowid, text) VALUES (new.rowid, new.text); END",
    "CREATE TRIGGER found_out AFTER DELETE ON turns BEGIN "
    "INSERT INTO found(found, rowid, text) VALUES ('delete', old.rowid, old.text); END",
)


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_an_index_of_words_keeps_none_of_them(store: Store, settings: MemorySettings, leases: Leases) -> None:
    with store.write() as connection:
        for statement in FULL_TEXT:
            connection.exec_driver_sql(statement)
    for number, (who, word) in enumerate((("user:1", "quicksilver"), ("user:2", "rhubarb")) * 40):
        call = calls.open_call(store, customer=who, room=f"r{number}", desk="a", fence=1)
        with store.write() as connection:
            write_turn(connection, call, Turn("x", Role.USER, f"words {number} {word}", 1))

    assert Forgetting(store, leases, settings.home).run("user:1").left == []

    assert bytes_with(settings.home, "quicksilver") == []
    with store.read() as connection:
        matches = connection.exec_driver_sql("SELECT count(*) FROM found WHERE found MATCH 'rhubarb'").scalar()
    assert matches == 40


CHILD = """
import os, signal, sys
from pathlib import Path
from voicectl.memory.backends.letta import LettaBackend
from voicectl.memory.config import MemorySettings, load
from voicectl.memory.forget import Forgetting, Step
from voicectl.memory import in_letta
from voicectl.memory.store.engine import open_store
from voicectl.memory.store.leases import open_leases
url, who, at = sys.argv[1:]
def die(step):
    if step == Step(at):
        os.kill(os.getpid(), signal.SIGKILL)
in_letta.EMPTY_S = 0.0
settings = load(MemorySettings)
work = Forgetting(open_store(settings), open_leases(settings), settings.home,
                  LettaBackend(url, "key", "http://127.0.0.1:1/v1"), wait=lambda s: None, signal=die)
work.run(who, end_calls=True)
"""


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("step", list(Step))
def test_killed_at_any_step_nothing_is_readable_and_a_second_run_completes_it(
    store: Store,
    settings: MemorySettings,
    leases: Leases,
    forgetting: Forgetting,
    backend: LettaBackend,
    letta: LettaStub,
    step: Step,
) -> None:
    plant(store, settings.home)
    leases.claim("room:call-1", "job", 600, LeaseState.HELD)
    mirrored(store, backend)

    argv = [sys.executable, "-c", CHILD, letta.url, WHO, step]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)

    assert done.returncode == -signal.SIGKILL, done.stderr
    assert traces.rows(store, WHO) == {}
    assert not recall.read(store, WHO).known
    # The killed one's lease is waited for in vain here: its clock is the machine's, ours stands still.
    for held in leases.rows(f"customer:{WHO}"):
        leases.take_over(held, "test", 1, proven_dead=True) if held.live else None
    receipt = forgetting.run(WHO, end_calls=True)
    assert receipt.left == []
    assert bytes_with(settings.home, SECRET, WHO) == []
    assert letta.agents == {}
    assert letta.blocks == {}
