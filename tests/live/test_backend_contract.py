"""One contract for both backends; and for the real Letta the ways in which a simple-minded client of it fails.

Each of those was measured (reference letta.md, 14): double send, timeout after the server took the request, parallel
sends, edits during a run, limits, long lists, blocks that outlive their agent, a failing model, ghost runs, races.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from http.server import ThreadingHTTPServer
from typing import Any

import pytest
from sqlalchemy import select

from bench.moody_proxy import MoodyProxy
from tests.support.letta_server import RealLetta
from tests.support.waiting import wait_for
from voicectl.memory import null_model, profile
from voicectl.memory.backends import AgentSpec, Ambiguous, Backend, Failed, Message, ModelFault, NotThere, Rejected
from voicectl.memory.backends.embedded import EmbeddedBackend
from voicectl.memory.backends.letta import LettaBackend
from voicectl.memory.calls import Call, finish, now_ms, open_call
from voicectl.memory.config import MemorySettings
from voicectl.memory.errors import FencedOut
from voicectl.memory.identity import hashed
from voicectl.memory.null_model import NullModel
from voicectl.memory.profile import BLOCK_LIMIT, Block, Origin, Source
from voicectl.memory.recorder import Role, Turn, write_turn
from voicectl.memory.store.engine import Store, store_url
from voicectl.memory.store.leases import Leases, LeaseState, open_leases
from voicectl.memory.store.schema import letta_conversations
from voicectl.memory.sync import ledger_agents
from voicectl.memory.sync.agents import ensure_agent
from voicectl.memory.sync.blocks import sync_blocks
from voicectl.memory.sync.mirror import sync_turns
from voicectl.memory.sync.text import agent_spec
from voicectl.memory.sync.tools import Later, Tools
from voicectl.memory.sync.verify import verify
from voicectl.memory.syncer import Syncer

pytestmark = [pytest.mark.letta, pytest.mark.timeout(300)]
NUMBERS = itertools.count(1)


class Model(null_model._Handler):
    """The null model, with a mood: "ok", "401", "429", "hung"."""

    mood = "ok"
    go_on = threading.Event()

    def do_POST(self) -> None:  # noqa: N802
        if self.mood == "hung":
            self.go_on.wait(60)
        if self.mood in ("401", "429"):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self._json(int(self.mood), {"error": {"message": "not now", "type": "invalid_request_error"}})
            return
        super().do_POST()


@pytest.fixture(scope="module")
def null_url() -> Iterator[str]:
    with NullModel() as model:
        yield model.url


@pytest.fixture
def moody_url() -> Iterator[str]:
    """A null model with moods; in the end Letta must be told of the ordinary one again."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Model.mood = "ok"
    Model.go_on.clear()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    Model.go_on.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def real(letta: RealLetta, null_url: str) -> Iterator[LettaBackend]:
    made = LettaBackend(letta.url, letta.access.key, null_url)
    made.health()
    yield made
    made.close()


@dataclass
class Rig:
    """A customer in a call, seen by a backend."""

    store: Store
    backend: Backend
    customer: str
    call: Call

    @property
    def spec(self) -> AgentSpec:
        return agent_spec(self.customer, 1, profile.lines(self.store, self.customer), hide_names=False)

    def say(self, *texts: str) -> list[Message]:
        """Record turns; the messages that stand for them."""
        with self.store.write() as connection:
            for number, text in enumerate(texts):
                role = (Role.USER, Role.ASSISTANT)[number % 2]
                write_turn(connection, self.call, Turn(f"item-{next(NUMBERS)}", role, text, now_ms()))
        return EmbeddedBackend(self.store).list_turns(self.call.id)[-len(texts) :]

    def conversation(self) -> str:
        agent = self.backend.ensure_agent(self.spec)
        return self.backend.ensure_conversation(agent.id, self.call.id, "a call")

    @property
    def tools(self) -> Tools:
        return Tools(self.store, self.backend)


def rig_of(store: Store, backend: Backend) -> Rig:
    customer = f"user:contract {next(NUMBERS)} {now_ms()}"
    return Rig(store, backend, customer, open_call(store, customer=customer, room=customer, desk="d", fence=1))


@pytest.fixture(params=["embedded", "letta"])
def rig(request: pytest.FixtureRequest, store: Store) -> Rig:
    backend = EmbeddedBackend(store) if request.param == "embedded" else request.getfixturevalue("real")
    return rig_of(store, backend)


@pytest.fixture
def letta_rig(store: Store, real: LettaBackend) -> Rig:
    return rig_of(store, real)


# -- both ------------------------------------------------------------------------------------------------------------


def agent_and_conversation_are_found_again(rig: Rig) -> None:
    first, again = rig.backend.ensure_agent(rig.spec), rig.backend.ensure_agent(rig.spec)
    one, two = (rig.backend.ensure_conversation(first.id, rig.call.id, "a call") for _ in range(2))

    assert (first.id, dict(first.block_ids)) == (again.id, dict(again.block_ids))
    assert not again.created
    assert one == two
    assert rig.backend.agents(hashed(rig.customer)) == [first.id]
    assert list(rig.backend.conversations(first.id)) == [one]


def blocks_have_their_labels_and_values(rig: Rig) -> None:
    profile.put(rig.store, rig.customer, "likes tea", Origin(Source.TOOL))
    agent = rig.backend.ensure_agent(rig.spec)

    assert rig.backend.get_blocks(agent.block_ids) == {"profile": "likes tea", "last_call": "", "operator_notes": ""}
    profile.put(rig.store, rig.customer, "born in Dhaka", Origin(Source.TOOL))
    rig.backend.put_block(agent.block_ids["profile"], "likes tea\nborn in Dhaka")
    assert rig.backend.get_blocks(agent.block_ids)["profile"] == "likes tea\nborn in Dhaka"


def more_turns_than_a_page_come_back_in_order_and_as_they_were(rig: Rig) -> None:
    said = rig.say(*[f'turn {n}: আমার নাম রহিম, "quoted", {{}} <b>&amp;' for n in range(230)])
    conversation = rig.conversation()
    for start in range(0, len(said), 50):
        rig.backend.append_turns(conversation, said[start : start + 50])

    assert rig.backend.list_turns(conversation) == said


def a_marker_is_found_only_where_its_turn_is(rig: Rig) -> None:
    said = rig.say("hello", "hi")
    conversation = rig.conversation()
    rig.backend.append_turns(conversation, said)

    assert rig.backend.has_marker(conversation, said[-1].marker)
    assert not rig.backend.has_marker(conversation, f"{rig.call.id}#3")
    assert not rig.backend.busy(conversation)


def what_is_not_there_says_so(rig: Rig) -> None:
    missing = "00000000-0000-4000-8000-000000000000"

    for ask in (
        lambda: rig.backend.append_turns(f"conv-{missing}", [Message("c#1", "user", "hello")]),
        lambda: rig.backend.list_turns(f"conv-{missing}"),
        lambda: rig.backend.get_blocks({"profile": f"block-{missing}"}),
        lambda: rig.backend.conversations(f"agent-{missing}"),
    ):
        with pytest.raises(NotThere):
            ask()


def dropping_and_forgetting_twice_is_fine(rig: Rig) -> None:
    conversation = rig.conversation()
    for _ in range(2):
        rig.backend.drop_conversation(conversation)
        rig.backend.forget(hashed(rig.customer))

    assert rig.backend.forget(hashed(rig.customer)) == 0


def fifty_first_calls_at_once_make_one_agent(rig: Rig, settings: MemorySettings) -> None:
    leases = Leases(Store(store_url(settings).set(database=str(settings.home / "leases.db")), busy_ms=60_000))
    released = threading.Event()  # never set: its wait is the pause between two tries

    def first_call(number: int) -> str:
        while True:
            try:
                grant = leases.claim(f"customer:{rig.customer}", f"thread-{number}", 60, LeaseState.HELD)
            except FencedOut:
                released.wait(0.2)
                continue
            try:
                return ensure_agent(rig.tools, rig.customer)
            finally:
                leases.release(grant)

    with ThreadPoolExecutor(50) as pool:
        ids = set(pool.map(first_call, range(50)))

    leases.close()
    assert len(ids) == 1
    assert rig.backend.agents(hashed(rig.customer)) == list(ids)


def copies_of_blocks_are_one_conversations_or_there_are_none(rig: Rig) -> None:
    profile.put(rig.store, rig.customer, "likes tea", Origin(Source.TOOL))
    agent = rig.backend.ensure_agent(rig.spec)
    if isinstance(rig.backend, EmbeddedBackend):
        for ask in (
            lambda: rig.backend.copy_blocks(agent.id, "a step", ["profile"]),
            lambda: rig.backend.ask_agent(rig.call.id, "change it", 5),
        ):
            with pytest.raises(Rejected, match="without Letta"):
                ask()
        return
    copy = rig.backend.copy_blocks(agent.id, "a step", ["profile"])

    assert rig.backend.get_blocks(copy.block_ids) == {"profile": "likes tea"}
    rig.backend.put_block(copy.block_ids["profile"], "likes coffee")
    assert rig.backend.get_blocks(agent.block_ids)["profile"] == "likes tea"
    rig.backend.drop_conversation(copy.conversation_id)
    with pytest.raises(NotThere):
        rig.backend.get_blocks(copy.block_ids)
    with pytest.raises(ModelFault, match="does not reach"):  # it has the null model alone
        rig.backend.ask_agent(rig.conversation(), "change it", 5)


BOTH: list[Callable[..., None]] = [
    agent_and_conversation_are_found_again,
    blocks_have_their_labels_and_values,
    more_turns_than_a_page_come_back_in_order_and_as_they_were,
    a_marker_is_found_only_where_its_turn_is,
    what_is_not_there_says_so,
    dropping_and_forgetting_twice_is_fine,
    copies_of_blocks_are_one_conversations_or_there_are_none,
]


@pytest.mark.parametrize("case", BOTH, ids=lambda case: case.__name__)
def test_both_backends(case: Callable[[Rig], None], rig: Rig) -> None:
    case(rig)


def test_fifty_first_calls_at_once_make_one_agent(rig: Rig, settings: MemorySettings) -> None:
    fifty_first_calls_at_once_make_one_agent(rig, settings)


# -- the real server -------------------------------------------------------------------------------------------------


def test_letta_stores_a_repeated_send_twice_so_we_look_before_we_repeat(letta_rig: Rig) -> None:
    said = letta_rig.say("hello", "hi")
    conversation = letta_rig.conversation()

    for _ in range(2):
        letta_rig.backend.append_turns(conversation, said)

    assert letta_rig.backend.list_turns(conversation) == [*said, *said]


def test_a_race_without_leases_leaves_one_agent_after_the_next_look(letta_rig: Rig) -> None:
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda _: letta_rig.backend.ensure_agent(letta_rig.spec), range(12)))

    kept = letta_rig.backend.ensure_agent(letta_rig.spec)

    assert letta_rig.backend.agents(hashed(letta_rig.customer)) == [kept.id]


def test_an_answer_that_never_came_is_ambiguous_and_the_turns_are_there_once(
    letta: RealLetta, letta_rig: Rig, null_url: str
) -> None:
    letta_rig.say("hello", "hi")
    finish(letta_rig.store, letta_rig.call, "done")
    letta_rig.conversation()
    with MoodyProxy(letta.access.port) as proxy:
        behind = LettaBackend(proxy.url, letta.access.key, null_url, write_s=2.0)
        tools = Tools(letta_rig.store, behind)
        behind.model()
        ensure_agent(tools, letta_rig.customer)
        ahead = [0]
        asked = replace(tools, clock_ms=lambda: now_ms() + ahead[0], signal=lambda _: None)

        def swallow_the_post(point: Any) -> None:
            proxy.mood("swallow" if point == "intent committed" else "ok")

        with pytest.raises(Later) as waits:
            sync_turns(replace(asked, signal=swallow_the_post), letta_rig.customer)
        assert isinstance(waits.value.fault, Ambiguous)
        proxy.mood("ok")
        until_done(asked, letta_rig.customer, ahead)
        behind.close()

    assert verify(letta_rig.store, letta_rig.backend, letta_rig.customer).differences == []


def until_done(tools: Tools, customer: str, ahead_ms: list[int]) -> None:
    for _ in range(20):
        try:
            sync_turns(tools, customer)
            return
        except Later as e:
            ahead_ms[0] += round(e.seconds * 1000)
    raise AssertionError("it is never done")


@pytest.mark.parametrize("mood", ["401", "429"])
def test_a_failing_model_is_told_apart_and_nothing_is_stored(
    letta: RealLetta, letta_rig: Rig, real: LettaBackend, moody_url: str, mood: str
) -> None:
    said = letta_rig.say("hello", "hi")
    conversation = letta_rig.conversation()
    grumpy = LettaBackend(letta.url, letta.access.key, moody_url)
    grumpy.health()
    Model.mood = mood

    with pytest.raises(ModelFault, match="llm_"):
        grumpy.append_turns(conversation, said)

    assert grumpy.list_turns(conversation) == []
    grumpy.close()
    real.health()
    real.append_turns(conversation, said)
    assert real.list_turns(conversation) == said


@pytest.mark.parametrize(
    ("message", "kind"),
    [(Message("c#1", "user", ""), Failed), (Message("c#1", "narrator", "hello"), Rejected)],
    ids=["an empty text", "an unknown role"],
)
def test_a_turn_that_letta_does_not_take_is_no_fault_of_the_model_and_nothing_is_stored(
    letta_rig: Rig, message: Message, kind: type[Exception]
) -> None:
    conversation = letta_rig.conversation()

    with pytest.raises(kind) as refused:
        letta_rig.backend.append_turns(conversation, [message])

    assert not isinstance(refused.value, ModelFault)
    assert letta_rig.backend.list_turns(conversation) == []
    assert not letta_rig.backend.busy(conversation)


def test_a_wrong_password_is_not_taken_for_a_failing_model(letta: RealLetta, null_url: str, letta_rig: Rig) -> None:
    stranger = LettaBackend(letta.url, "wrong", null_url)

    with pytest.raises(Exception, match=r"LETTA_API_KEY|HTTP 401") as refused:
        stranger.append_turns(letta_rig.conversation(), letta_rig.say("hello"))

    assert not isinstance(refused.value, ModelFault | Rejected)
    stranger.close()


def test_an_edit_made_while_turns_are_stored_is_kept(letta_rig: Rig) -> None:
    profile.put(letta_rig.store, letta_rig.customer, "likes tea", Origin(Source.TOOL))
    agent = letta_rig.backend.ensure_agent(letta_rig.spec)
    conversation = letta_rig.backend.ensure_conversation(agent.id, letta_rig.call.id, "a call")
    said = letta_rig.say(*[f"turn {n}" for n in range(40)])

    with ThreadPoolExecutor(2) as pool:
        sending = pool.submit(letta_rig.backend.append_turns, conversation, said)
        letta_rig.backend.put_block(agent.block_ids["profile"], "likes coffee")
        sending.result(30)

    assert letta_rig.backend.get_blocks(agent.block_ids)["profile"] == "likes coffee"
    assert letta_rig.backend.list_turns(conversation) == said


def test_a_block_that_grew_over_its_limit_in_letta_is_brought_back_and_says_so(letta_rig: Rig) -> None:
    letta_rig.say("hello")
    sync_turns(letta_rig.tools, letta_rig.customer)
    row = ledger_agents.blocks(letta_rig.store, letta_rig.customer)["profile"]
    too_much = "\n".join(f"fact {n} {'x' * 200}" for n in range(BLOCK_LIMIT // 200 + 3))
    letta_rig.backend.put_block(row.block_id, too_much)  # Letta takes it: its limit is decoration

    sync_blocks(letta_rig.tools, letta_rig.customer)

    shown = letta_rig.backend.get_blocks({Block.PROFILE: row.block_id})[Block.PROFILE]
    assert len(shown) <= BLOCK_LIMIT
    assert f"{BLOCK_LIMIT} fit" in ledger_agents.blocks(letta_rig.store, letta_rig.customer)["profile"].refused


def test_forgetting_takes_the_blocks_that_deleting_an_agent_leaves(letta: RealLetta, letta_rig: Rig) -> None:
    agent = letta_rig.backend.ensure_agent(letta_rig.spec)
    ids = ", ".join(f"'{i}'" for i in agent.block_ids.values())
    assert letta.number(f"select count(*) from block where id in ({ids})") == 3

    assert letta_rig.backend.forget(hashed(letta_rig.customer)) == 1

    assert letta.number(f"select count(*) from block where id in ({ids})") == 0


def test_two_syncers_at_once_send_each_turn_once(
    letta_rig: Rig, real: LettaBackend, settings: MemorySettings, letta: RealLetta
) -> None:
    rigs = [letta_rig, *[rig_of(letta_rig.store, real) for _ in range(3)]]
    leases = open_leases(settings)
    syncers = [Syncer(letta_rig.store, leases, real) for _ in range(2)]
    threads = [threading.Thread(target=s.run) for s in syncers]
    for thread in threads:
        thread.start()
    for _ in range(3):
        for one in rigs:
            one.say("hello", "hi")
    for one in rigs:
        finish(one.store, one.call, "done")

    wait_for(
        lambda: ", ".join(f"{d.kind} {d.row}" for r in rigs for d in verify(r.store, real, r.customer).differences),
        40,
    )

    for made in syncers:
        made.stop()
    for thread in threads:
        thread.join(20)
    leases.close()
    for one in rigs:
        agent = real.agents(hashed(one.customer))[0]
        assert (
            letta.number(f"select count(*) from steps where agent_id = '{agent}' and model <> '{null_model.MODEL}'")
            == 0
        )


def test_a_ghost_run_of_a_killed_server_neither_holds_the_call_up_nor_doubles_it(
    letta: RealLetta, letta_rig: Rig, real: LettaBackend, moody_url: str
) -> None:
    letta_rig.say("hello", "hi")
    finish(letta_rig.store, letta_rig.call, "done")
    hanging = LettaBackend(letta.url, letta.access.key, moody_url, write_s=2.0)
    hanging.health()
    ahead = [0]
    tools = Tools(letta_rig.store, hanging, clock_ms=lambda: now_ms() + ahead[0])
    Model.mood = "hung"
    with pytest.raises(Later) as waits:
        sync_turns(tools, letta_rig.customer)
    assert isinstance(waits.value.fault, Ambiguous)

    letta.kill()
    letta.start()
    Model.mood = "ok"
    Model.go_on.set()
    hanging.close()
    real.health()
    until_done(replace(tools, backend=real), letta_rig.customer, ahead)

    assert verify(letta_rig.store, real, letta_rig.customer).differences == []
    with letta_rig.store.read() as connection:
        mine = letta_conversations.c.call_id == letta_rig.call.id
        assert connection.execute(select(letta_conversations.c.attempt).where(mine)).scalar_one() == 2
