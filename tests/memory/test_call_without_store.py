"""A call that begins while the store is away: it loses nothing, whether its job lives to see the store again or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select, update

from tests.support.waiting import wait_for
from voicectl.memory import calls
from voicectl.memory.calls import Call, CallState, call_without_store, open_call
from voicectl.memory.errors import FencedOut
from voicectl.memory.forget import Forgetting
from voicectl.memory.identity import hashed
from voicectl.memory.journal import Journal, replay_left_journals
from voicectl.memory.recorder import Recorder, Role, Turn
from voicectl.memory.store.engine import Store
from voicectl.memory.store.leases import Leases
from voicectl.memory.store.schema import calls as table
from voicectl.memory.store.schema import forgotten, refused_turns, turns

pytestmark = pytest.mark.unit


def said(number: int) -> Turn:
    return Turn(f"item_{number}", Role.USER, f"turn {number}", at_ms=number)


def rows(store: Store) -> list[tuple[str, str, int, str]]:
    """Call, state, sequence number and text of everything that the store has."""
    with store.read() as connection:
        statement = select(table.c.id, table.c.state, turns.c.seq, turns.c.text).join(turns)
        return [tuple(r) for r in connection.execute(statement.order_by(table.c.id, turns.c.seq))]


@contextmanager
def locked_writer(store: Store) -> Iterator[None]:
    """The store takes nothing while this lasts; on PostgreSQL the calls' rows are locked, as by a long transaction."""
    with store.write() as connection:
        if not store.is_sqlite:
            connection.execute(select(table.c.id).with_for_update())
        yield


@pytest.fixture
def begun() -> Call:
    return call_without_store("user:1", "r1", "assistant")


@pytest.fixture
def journals(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def test_its_turns_wait_in_the_journal_and_arrive_in_order_when_it_is_opened(
    store: Store, begun: Call, journals: Path
) -> None:
    recorder = Recorder(store, begun, journal_dir=journals)
    recorder.add(said(1))
    recorder.add(said(2))
    assert recorder.flush(5)
    assert rows(store) == []

    opened = open_call(store, customer="user:1", room="r1", desk="assistant", fence=3, begun=begun)
    recorder.opened(opened)
    recorder.add(said(3))
    assert recorder.close()

    assert (opened.id, opened.continued) == (begun.id, False)
    assert rows(store) == [(begun.id, "open", n, f"turn {n}") for n in (1, 2, 3)]
    assert not list(journals.glob("*"))


def test_of_a_job_that_died_the_journal_brings_the_call_with_it_and_a_successor_goes_on(
    store: Store, begun: Call, journals: Path
) -> None:
    recorder = Recorder(store, begun, journal_dir=journals)
    recorder.add(said(1))
    recorder.close()

    assert replay_left_journals(store, journals) == 1
    successor = open_call(store, customer="user:1", room="r1", desk="assistant", fence=1)

    assert (successor.id, successor.continued) == (begun.id, True)
    assert rows(store) == [(begun.id, "open", 1, "turn 1")]
    with store.read() as connection:
        assert connection.execute(select(table.c.started_ms)).scalar_one() == begun.began_ms
    assert replay_left_journals(store, journals) == 0


def test_a_replay_that_comes_before_the_living_job_opens_the_call_changes_nothing_for_it(
    store: Store, begun: Call, journals: Path
) -> None:
    recorder = Recorder(store, begun, journal_dir=journals)
    recorder.add(said(1))
    assert recorder.flush(5)
    replay_left_journals(store, journals)

    opened = open_call(store, customer="user:1", room="r1", desk="assistant", fence=2, begun=begun)
    recorder.opened(opened)
    recorder.add(said(2))
    assert recorder.close()

    assert not opened.continued
    assert [r[2:] for r in rows(store)] == [(1, "turn 1"), (2, "turn 2")]


def test_in_a_room_whose_call_another_job_began_it_goes_on_with_that_one_and_says_nothing_twice(
    store: Store, begun: Call, journals: Path
) -> None:
    first = open_call(store, customer="user:1", room="r1", desk="assistant", fence=1)
    recorder = Recorder(store, begun, journal_dir=journals)
    recorder.add(said(1))
    assert recorder.flush(5)
    kept = (journals / f"{begun.id}.jsonl").read_bytes()

    opened = open_call(store, customer="user:1", room="r1", desk="assistant", fence=2, begun=begun)
    recorder.opened(opened)
    wait_for(lambda: "" if rows(store) else "not written")
    recorder.close()
    (journals / f"{begun.id}.jsonl").write_bytes(kept)  # as if the job had died before it cut its journal
    replay_left_journals(store, journals)

    assert opened.id == first.id
    assert rows(store) == [(first.id, "open", 1, "turn 1")]


def test_nothing_of_it_comes_back_after_its_customer_was_forgotten(
    store: Store, begun: Call, journals: Path, tmp_path: Path
) -> None:
    Recorder(store, begun, journal_dir=journals).close()
    Journal(journals / f"{begun.id}.jsonl", 0, begun).append([said(1)])
    open_call(store, customer="user:1", room="elsewhere", desk="assistant", fence=1)
    with store.write() as connection:
        connection.execute(update(table).values(state=CallState.ENDED))
    kept = (journals / f"{begun.id}.jsonl").read_bytes()

    Forgetting(store, Leases(store), tmp_path).run("user:1")
    assert not list(journals.glob("*")), "the file is gone"
    (journals / f"{begun.id}.jsonl").write_bytes(kept)  # another machine's journal, found later
    replay_left_journals(store, journals)

    assert rows(store) == []
    assert not list(journals.glob("*"))
    with store.read() as connection:
        assert connection.execute(select(refused_turns.c.id)).first() is None
        assert connection.execute(select(forgotten.c.generation)).scalar_one() > 1


def test_an_ended_call_of_that_id_is_not_opened_again(store: Store, begun: Call) -> None:
    opened = open_call(store, customer="user:1", room="r1", desk="assistant", fence=1, begun=begun)
    calls.finish(store, opened, "abandoned")

    again = open_call(store, customer="user:1", room="r1", desk="assistant", fence=2, begun=begun)

    assert again.id != begun.id


def test_what_it_says_after_it_went_up_in_another_call_is_found_by_that_calls_successor(
    store: Store, begun: Call, journals: Path
) -> None:
    open_call(store, customer="user:1", room="r1", desk="assistant", fence=1)
    recorder = Recorder(store, begun, journal_dir=journals)
    recorder.add(said(1))
    opened = open_call(store, customer="user:1", room="r1", desk="assistant", fence=2, begun=begun)
    recorder.opened(opened)
    wait_for(lambda: "" if rows(store) and not list(journals.glob("*")) else "not written")
    with locked_writer(store):  # the store is away again, and the job dies
        recorder.add(said(2))
        assert recorder.flush(5)
        left = {path.name: path.read_bytes() for path in journals.glob("*.jsonl")}
    recorder.close()

    assert list(left) == [f"{opened.id}.jsonl"]
    assert b"turn 2" in left[f"{opened.id}.jsonl"]


def test_what_its_predecessor_left_comes_before_its_own_words(store: Store, begun: Call, journals: Path) -> None:
    first = open_call(store, customer="user:1", room="r1", desk="assistant", fence=1)
    Journal(journals / f"{first.id}.jsonl", 1).append([said(1)])
    recorder = Recorder(store, begun, journal_dir=journals)
    recorder.add(said(2))
    assert recorder.flush(5)

    recorder.opened(open_call(store, customer="user:1", room="r1", desk="assistant", fence=3, begun=begun))
    recorder.add(said(3))
    recorder.close()

    assert rows(store) == [(first.id, "open", n, f"turn {n}") for n in (1, 2, 3)]
    assert not list(journals.glob("*"))


def test_a_job_whose_customer_was_forgotten_meanwhile_is_told_to_leave(store: Store, begun: Call) -> None:
    with store.write() as connection:
        gone = {"customer": hashed("user:1"), "generation": 2, "letta": "none", "at_ms": begun.began_ms + 1}
        connection.execute(forgotten.insert().values(**gone))

    with pytest.raises(FencedOut):
        open_call(store, customer="user:1", room="r1", desk="assistant", fence=1, begun=begun)


def test_a_journal_that_says_nonsense_about_its_call_or_is_a_copy_does_not_stop_the_others(
    store: Store, begun: Call, journals: Path
) -> None:
    Journal(journals / f"{begun.id}.jsonl", 0, begun).append([said(1)])
    whole = (journals / f"{begun.id}.jsonl").read_text()
    (journals / "a-copy.jsonl").write_text(whole)
    (journals / "b-room.jsonl").write_text(whole.replace('"r1"', '["r"]').replace(begun.id, "b-room"))
    (journals / "b-long.jsonl").write_text(whole.replace('"r1"', f'"{"r" * 5000}"').replace(begun.id, "b-long"))

    replay_left_journals(store, journals)

    assert (begun.id, "open", 1, "turn 1") in rows(store)


def test_one_that_is_stored_late_ends_where_its_room_has_another_by_now(
    store: Store, begun: Call, journals: Path
) -> None:
    Journal(journals / f"{begun.id}.jsonl", 0, begun).append([said(1)])
    now = open_call(store, customer="user:1", room="r1", desk="assistant", fence=1)

    replay_left_journals(store, journals)

    assert [r for r in rows(store) if r[0] == begun.id] == [(begun.id, "ended", 1, "turn 1")]
    calls.begin_ending(store, now, "bye")
    assert calls.open_call_of_room(store, "r1") == CallState.ENDING
