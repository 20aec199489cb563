"""`voicectl rooms` and `voicectl dispatch`: what is refused, with which words and exit code, and what is done.

Store and leases are real ones; only LiveKit's server is played, at the boundary of RoomAdmin.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from livekit import api
from typer.testing import CliRunner

from tests.support.installation import free_port
from voicectl.cli.faults import explained
from voicectl.cli.main import app
from voicectl.memory import room_log
from voicectl.memory.calls import open_call
from voicectl.memory.config import MemorySettings
from voicectl.memory.store.engine import Store
from voicectl.memory.store.leases import Leases, LeaseState, open_leases
from voicectl.voice.errors import ServerSilent
from voicectl.voice.rooms import canary, leftovers, operate, survey

pytestmark = pytest.mark.unit

Kind = api.ParticipantInfo.Kind
SOUND = api.TrackInfo(type=api.TrackType.AUDIO)
ALL = [
    ("rooms", "list"),
    ("rooms", "show", "call-1"),
    ("rooms", "evict", "call-1", "agent-2", "--yes"),
    ("rooms", "dispatch", "call-1"),
    ("rooms", "clean", "--yes"),
    ("dispatch", "--canary"),
]


class Server:
    """LiveKit's server as RoomAdmin shows it. `before` runs before the answer to the n-th question of a kind."""

    def __init__(self) -> None:
        self.metadata: dict[str, str] = {}
        self.people: dict[str, list[api.ParticipantInfo]] = {}
        self.done: list[str] = []
        self.before: dict[tuple[str, int], Callable[[], None]] = {}
        self.on_dispatch: Callable[[str, str], None] = lambda room, agent_name: None
        self.jobs: dict[str, list[api.Job]] = {}
        self.silent: set[str] = set()
        self._asked: dict[str, int] = {}

    def room(self, name: str, *people: api.ParticipantInfo, ours: bool = True) -> None:
        self.metadata[name] = json.dumps({"voice.desk": "assistant"}) if ours else ""
        self.people[name] = list(people)

    def _question(self, kind: str) -> None:
        self._asked[kind] = self._asked.get(kind, 0) + 1
        self.before.get((kind, self._asked[kind]), lambda: None)()
        if kind in self.silent:
            raise ServerSilent("ws://played", kind, "played")

    async def rooms(self) -> list[api.Room]:
        self._question("rooms")
        return [api.Room(name=n, sid=f"RM_{n}", metadata=m) for n, m in self.metadata.items()]

    async def participants(self, room: str) -> list[api.ParticipantInfo]:
        self._question("participants")
        return list(self.people.get(room, []))

    async def dispatches(self, room: str) -> list[api.AgentDispatch]:
        if room not in self.jobs:
            return []
        return [api.AgentDispatch(agent_name="voicectl", state=api.AgentDispatchState(jobs=self.jobs[room]))]

    async def remove(self, room: str, identity: str) -> None:
        self.done.append(f"remove {identity} from {room}")
        self.people[room] = [p for p in self.people[room] if p.identity != identity]

    async def dispatch(self, room: str, agent_name: str, metadata: dict[str, str]) -> str:
        self.done.append(f"dispatch {agent_name} {json.dumps(metadata)}")
        self.jobs.setdefault(room, [])
        self.on_dispatch(room, agent_name)
        return "AD_1"

    async def delete_room(self, room: str) -> None:
        self.done.append(f"delete {room}")
        self.metadata.pop(room, None)
        self.people.pop(room, None)


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEKIT_API_KEY", "key")
    monkeypatch.setenv("LIVEKIT_API_SECRET", "s" * 32)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, keys: None) -> Server:
    made = Server()

    @asynccontextmanager
    async def played(_: object) -> AsyncIterator[Server]:
        yield made

    monkeypatch.setattr(survey, "room_admin", played)
    monkeypatch.setattr(leftovers, "SETTLE_S", 0)
    monkeypatch.setattr(canary, "LOOK_S", 0)
    return made


@pytest.fixture
def leases(settings: MemorySettings, store: Store) -> Iterator[Leases]:
    made = open_leases(settings)
    yield made
    made.close()


def customer(identity: str = "agent-smith", kind: str = "STANDARD") -> api.ParticipantInfo:
    return api.ParticipantInfo(identity=identity, kind=Kind.Value(kind))


def agent(identity: str, fence: int, on_behalf: str = "") -> api.ParticipantInfo:
    said = {"voice.fence": str(fence), **({"lk.publish_on_behalf": on_behalf} if on_behalf else {})}
    return api.ParticipantInfo(identity=identity, kind=Kind.AGENT, attributes=said, tracks=[SOUND])


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        answer = explained(result.exception)  # as main() does
        assert answer is not None, result.exception
        return answer.code, answer.text
    return result.exit_code, result.output


def document(*words: str) -> Any:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("words", ALL)
def test_where_nothing_was_ever_started_every_command_says_so_and_makes_nothing(
    words: tuple[str, ...], settings: MemorySettings
) -> None:
    code, said = run(*words)

    assert (code, "voicectl up" in said) == (3, True)
    assert not settings.home.exists()


@pytest.mark.parametrize("words", ALL)
def test_a_server_that_does_not_answer_is_named_and_nothing_is_made(
    words: tuple[str, ...], settings: MemorySettings, keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"ws://127.0.0.1:{free_port()}"
    monkeypatch.setenv("LIVEKIT_URL", url)

    code, said = run(*words)

    assert (code, url in said) == (3, True)
    assert not settings.home.exists()


def test_a_server_that_fails_in_the_middle_is_never_an_empty_room(server: Server, store: Store) -> None:
    server.room("call-1")
    server.silent.add("participants")

    for words in ALL[:5]:
        code, said = run(*words)
        assert (code, "ws://played" in said) == (3, True)

    assert server.done == []


def test_rooms_are_listed_and_shown_as_observed(server: Server, store: Store, leases: Leases) -> None:
    grant = leases.claim("room:call-1", "agent-1", 60, LeaseState.HELD, note="voicectl")
    call = open_call(store, customer="user:1", room="call-1", desk="assistant", fence=grant.fence)
    server.room("call-1", customer(), agent("agent-1", grant.fence))
    server.room("call-2", customer("+88017", "SIP"))
    server.room("theirs", customer("ann"), agent("helper", 0), ours=False)
    server.room("asked")
    server.jobs["asked"] = []
    server.room("answered")
    server.jobs["answered"] = [api.Job()]
    room_log.note(store, room_log.RoomEvent.CONFLICT, "call-1", ours="agent-9", theirs="agent-1", their_fence=1)

    rooms = {r["name"]: r for r in document("rooms", "list", "--json")["rooms"]}
    shown = document("rooms", "show", "RM_call-1", "--json")
    words = run("rooms", "show", "call-1")[1]

    assert {n: r["state"] for n, r in rooms.items()} == {
        "call-1": "audible",
        "call-2": "requested",
        "theirs": "foreign",
        "asked": "requested",
        "answered": "empty",
    }
    assert rooms["call-1"]["lease"]["owner"] == "agent-1"
    assert "nonce" not in json.dumps(rooms), "with it anybody could renew the lease"
    assert (shown["room"], shown["events"][0]["event"]) == (
        rooms["call-1"] | {"lease": shown["room"]["lease"]},
        "conflict",
    )
    assert shown["room"]["call"] == {"id": call.id, "state": "open", "desk": "assistant"}
    for line in ("room name  call-1\n", "room sid   RM_call-1\n", "customers  agent-smith\n", "conflict"):
        assert line in words
    assert "call-2" in run("rooms", "list")[1]


def test_what_is_not_there_is_not_found_with_what_is(server: Server, store: Store, leases: Leases) -> None:
    assert run("rooms", "show", "call-1") == (
        4,
        "the server has no room 'call-1'; there is none. See: voicectl rooms list",
    )
    server.room("call-2", customer())

    for words in (("show",), ("evict", "--yes"), ("dispatch",)):
        code, said = run("rooms", words[0], "call-1", *(["agent-1"] if words[0] == "evict" else []), *words[1:])
        assert (code, "there are: call-2" in said) == (4, True)
    code, said = run("rooms", "evict", "call-2", "agent-1", "--yes")
    assert (code, "there are: agent-smith" in said) == (4, True)


def test_customers_recordings_avatars_and_the_holder_are_not_evicted(
    server: Server, store: Store, leases: Leases
) -> None:
    leases.claim("room:call-1", "agent-1", 60, LeaseState.HELD)
    recording = api.ParticipantInfo(identity="EG_1", kind=Kind.EGRESS)
    people = [customer(), customer("sip", "SIP"), recording, agent("agent-1", 1), agent("avatar", 1, "agent-1")]
    server.room("call-1", *people)
    server.room("theirs", agent("helper", 0), ours=False)
    server.room("call-2", customer(), agent("agent-3", 1))

    refused = {
        ("call-1", "agent-smith"): "it is a customer",
        ("call-1", "sip"): "it is a customer",
        ("call-1", "EG_1"): "of kind egress",
        ("call-1", "avatar"): "on behalf of agent-1",
        ("call-1", "agent-1"): "it holds the room with fence 1",
        ("theirs", "helper"): "the room is not ours",
        ("call-2", "agent-3"): "no agent holds the room's lease",
    }
    for (room, identity), why in refused.items():
        code, said = run("rooms", "evict", room, identity, "--yes")
        assert (code, why in said) == (5, True), said
    for identity in ("agent-smith", "EG_1", "avatar"):
        assert run("rooms", "evict", "call-1", identity, "--yes", "--holder")[0] == 5
    assert server.done == []


def test_a_rival_is_evicted_when_somebody_confirmed_it(server: Server, store: Store, leases: Leases) -> None:
    leases.claim("room:call-1", "agent-1", 60, LeaseState.HELD)
    server.room("call-1", customer(), agent("agent-1", 1), agent("agent-2", 99))

    code, said = run("rooms", "evict", "call-1", "agent-2")
    assert (code, "Nobody confirmed it. Add --yes" in said, server.done) == (5, True, [])
    assert run("rooms", "evict", "call-1", "agent-2", "--yes")[0] == 0

    assert server.done == ["remove agent-2 from call-1"]
    (noted,) = room_log.recent(store, room="call-1")
    assert (noted.event, noted.theirs, noted.their_fence, noted.our_fence) == ("evicted", "agent-2", 99, 1)


def test_the_holder_is_evicted_only_by_name_and_the_command_says_what_follows(
    server: Server, store: Store, leases: Leases
) -> None:
    leases.claim("room:call-1", "agent-1", 60, LeaseState.HELD)
    server.room("call-1", customer(), agent("agent-1", 1))

    code, said = run("rooms", "evict", "call-1", "agent-1", "--yes", "--holder")

    assert (code, "it had the room; a reconciler gives the customer another one" in said) == (0, True)


def test_who_has_become_the_holder_in_the_meantime_is_not_evicted(server: Server, store: Store, leases: Leases) -> None:
    grant = leases.claim("room:call-1", "agent-1", 60, LeaseState.HELD)
    server.room("call-1", customer(), agent("agent-1", 1), agent("agent-2", 2))

    def succeeds() -> None:
        leases.release(grant)
        leases.claim("room:call-1", "agent-2", 60, LeaseState.HELD)

    server.before["participants", 2] = succeeds

    code, said = run("rooms", "evict", "call-1", "agent-2", "--yes")

    assert (code, "it holds the room with fence 2" in said, server.done) == (5, True, [])


def test_where_an_agent_has_the_room_nothing_is_dispatched_however_often_it_is_asked(
    server: Server, store: Store, leases: Leases
) -> None:
    leases.claim("room:call-1", "agent-1", 60, LeaseState.HELD)
    server.room("call-1", customer(), agent("agent-1", 1))

    for _ in range(10):
        code, said = run("rooms", "dispatch", "call-1")
        assert (code, "nothing is dispatched: agent-1 has the room (held, fence 1)" in said) == (0, True)

    assert server.done == []


def test_no_agent_is_dispatched_where_none_belongs(server: Server, store: Store, leases: Leases) -> None:
    server.room("theirs", customer(), ours=False)
    server.room("left")
    server.room("closing", customer())
    leases.claim("room:closing", "agent-1", 60, LeaseState.CLOSING)

    for room, why in {"theirs": "not ours", "left": "no customer is in it", "closing": "is ending"}.items():
        code, said = run("rooms", "dispatch", room)
        assert (code, why in said) == (5, True), said
    assert server.done == []


def test_a_room_that_is_being_taken_over_is_left_to_the_reconciler(
    server: Server, store: Store, leases: Leases
) -> None:
    leases.claim("room:call-1", "agent-1", 60, LeaseState.HELD)
    seen = leases.read("room:call-1")
    assert seen is not None
    leases.take_over(seen, "web", 60, proven_dead=True)
    server.room("call-1", customer())

    code, said = run("rooms", "dispatch", "call-1", "--wait-s", "0")

    assert (code, "nobody accepted" in said, server.done) == (1, True, [])


def test_an_agent_that_is_asked_for_is_told_step_by_step_as_it_comes(
    server: Server, store: Store, leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operate, "LOOK_S", 0)
    server.room("call-1", customer())

    def accept(room: str, agent_name: str) -> None:
        leases.claim(f"room:{room}", "agent-1", 60, LeaseState.ACCEPTED, note=agent_name)

    silent = api.ParticipantInfo(identity="agent-1", kind=Kind.AGENT, attributes={"voice.fence": "1"})
    server.on_dispatch = accept
    server.before["participants", 3] = lambda: server.people["call-1"].append(silent)
    server.before["participants", 4] = lambda: server.people["call-1"].append(agent("agent-1", 1))

    code, said = run("rooms", "dispatch", "call-1")

    steps = [line.split(":")[0] for line in said.splitlines()]
    assert (code, steps[:4]) == (0, ["requested", "accepted", "joined", "audible"]), said
    assert server.done == ['dispatch voicectl {"desk": "assistant"}']


def test_a_dispatch_that_leads_to_nothing_is_no_success_and_says_what_is_missing(
    server: Server, store: Store, leases: Leases
) -> None:
    server.room("call-1", customer())
    dispatch = ("rooms", "dispatch", "call-1", "--wait-s", "0")

    code, said = run(*dispatch)
    assert (code, "nobody accepted a dispatch to 'voicectl': no worker is registered" in said) == (1, True)

    about = {"capacity": 1, "build": "b", "pid": 1}
    worker = leases.claim("worker:1", json.dumps({**about, "agent_name": "other"}), 60, LeaseState.HELD)
    code, said = run(*dispatch)
    assert (code, "dispatch to 'voicectl': workers are registered as 'other'" in said) == (1, True)

    leases.release(worker)
    leases.claim("worker:1", json.dumps({**about, "agent_name": "voicectl"}), 60, LeaseState.HELD)
    leases.claim("room:call-2", "agent-9", 60, LeaseState.HELD)
    code, said = run(*dispatch)
    assert (code, "no worker accepted it; 1 of 1 lines are taken" in said) == (1, True)

    leases.claim("room:call-1", "agent-1", 60, LeaseState.ACCEPTED)
    code, said = run(*dispatch)
    assert (code, "agent-1 has the room and is not in it" in said) == (1, True)

    silent = api.ParticipantInfo(identity="agent-1", kind=Kind.AGENT)
    server.people["call-1"].append(silent)
    code, said = run(*dispatch)
    assert (code, "agent-1 is in it and has published no sound" in said) == (1, True)


def test_a_lease_that_ran_out_while_the_store_stood_still_costs_no_agent_its_room(
    server: Server, store: Store, leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Renewing:
        """An observer in whose time the owner renews, as it does when the store goes on."""

        proves = False

        def __init__(self, *_: object) -> None: ...

        def stamp(self) -> None:
            leases.renew(grant, 60)
            self.proves = True

        def close(self) -> None: ...

    monkeypatch.setattr(operate, "Evidence", Renewing)
    grant = leases.claim("room:call-1", "agent-1", 0, LeaseState.HELD)
    server.room("call-1", customer(), agent("agent-1", 1))

    code, said = run("rooms", "dispatch", "call-1")

    assert (code, "the lease of agent-1 has run out" in said, server.done) == (0, True, [])


def test_leftovers_are_shown_and_deleted_only_when_asked_to(server: Server, store: Store, leases: Leases) -> None:
    old = leases.claim("room:old", "agent-1", 60, LeaseState.HELD)
    leases.release(old)
    server.room("old", agent("agent-1", old.fence))
    server.room("never")
    server.room("canary-ask-1", ours=False)
    leases.claim("room:held", "agent-2", 60, LeaseState.HELD)
    server.room("held", agent("agent-2", 1))
    open_call(store, customer="user:1", room="open", desk="assistant", fence=1)
    server.room("open")
    server.room("waiting", customer())
    leases.claim("room:out", "agent-4", 0, LeaseState.HELD)
    server.room("out")
    server.room("elsewhere", agent("agent-5", 3))
    server.room("recorded", api.ParticipantInfo(identity="EG_1", kind=Kind.EGRESS))
    server.room("theirs", ours=False)
    kept = {
        "held": "agent-2 holds it",
        "open": "is open",
        "waiting": "a customer is in it",
        "out": "has run out",
        "elsewhere": "voicectl rooms evict elsewhere agent-5 --holder",
        "recorded": "EG_1 is in it",
        "theirs": "not ours",
    }

    shown = document("rooms", "clean", "--json")
    assert (shown["dry_run"], server.done) == (True, [])
    assert {r["room"] for r in shown["rooms"] if r["leftover"]} == {"old", "never", "canary-ask-1"}
    cleaned = document("rooms", "clean", "--yes", "--json")

    assert sorted(server.done) == ["delete canary-ask-1", "delete never", "delete old"]
    why = {r["room"]: r["why"] for r in cleaned["rooms"] if not r["deleted"]}
    assert {n: w for n, w in why.items() if kept[n] not in w} == {}
    assert why.keys() == kept.keys()
    lease = leases.read("room:old")
    assert lease is not None
    assert (lease.state, lease.fence) == ("free", old.fence + 1)
    assert "7 rooms deleted" in run("rooms", "clean")[1]


@pytest.mark.parametrize("moment", [("participants", 2), ("participants", 3)])
def test_a_room_in_which_somebody_arrives_in_the_meantime_stays(
    server: Server, store: Store, leases: Leases, moment: tuple[str, int]
) -> None:
    server.room("call-1")
    server.before[moment] = lambda: server.people["call-1"].append(customer())

    (row,) = document("rooms", "clean", "--yes", "--json")["rooms"]

    assert (row["deleted"], server.done) == (False, [])


def test_while_a_room_is_deleted_no_agent_is_let_in(server: Server, store: Store, leases: Leases) -> None:
    server.room("call-1")
    states: list[str] = []

    def look() -> None:
        lease = leases.read("room:call-1")
        states.append(lease.state if lease else "none")

    server.before["participants", 3] = look

    document("rooms", "clean", "--yes", "--json")

    assert (states, server.done) == (["closing"], ["delete call-1"])


def test_a_canary_that_a_worker_refused_for_good_has_reached_it(server: Server, store: Store, leases: Leases) -> None:
    about = {"capacity": 1, "build": "b", "pid": 1, "agent_name": "voicectl"}
    leases.claim("worker:1", json.dumps(about), 60, LeaseState.HELD)

    def refuse(room: str, _: str) -> None:
        state = api.JobState(status=api.JobStatus.JS_SUCCESS, worker_id="AW_1")
        server.jobs[room] = [api.Job(state=state)]

    server.on_dispatch = refuse

    seen = document("dispatch", "--canary", "--json")

    assert (seen["reached"], seen["agent_name"], seen["worker"]) == (True, "voicectl", "AW_1")
    assert (seen["registered"], seen["dispatches"]) == (["voicectl"], 1)
    assert [d.split()[0] for d in server.done] == ["dispatch", "delete"]
    assert run("dispatch", "--canary")[0] == 0


def test_a_canary_that_reaches_nobody_fails_with_both_names(server: Server, store: Store, leases: Leases) -> None:
    ask = ("dispatch", "--canary", "--wait-s", "1")
    pending = api.Job(state=api.JobState(status=api.JobStatus.JS_PENDING, worker_id="AW_1"))
    server.on_dispatch = lambda room, _: server.jobs.update({room: [pending]})

    code, said = run(*ask)
    assert (code, "'voicectl'" in said, "no worker is registered" in said) == (3, True, True)

    leases.claim("worker:1", json.dumps({"capacity": 1, "agent_name": "other"}), 60, LeaseState.HELD)
    code, said = run(*ask)
    assert (code, "'voicectl' reached no worker" in said, "registered as 'other'" in said) == (1, True, True)
    assert "VOICE_AGENT_NAME" in said
    assert [d.split()[0] for d in server.done] == ["dispatch", "delete"] * 2


def test_dispatch_without_a_word_of_what_is_a_matter_of_usage() -> None:
    code, said = run("dispatch")

    assert (code, "voicectl rooms dispatch ROOM" in said) == (2, True)
