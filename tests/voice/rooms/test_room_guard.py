"""The guard of a call: rivals go within seconds, by the word of the store; nobody else ever does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from livekit import api, rtc

from tests.support.fake_server import Clock, FakeServer, agent, participant
from tests.support.waiting import wait_until
from voicectl.memory.config import load
from voicectl.memory.errors import StoreUnavailable
from voicectl.memory.room_log import RoomEvent, recent
from voicectl.memory.store.engine import Store, open_store
from voicectl.memory.store.leases import Lease, LeaseState, open_leases
from voicectl.voice.config import VoiceSettings
from voicectl.voice.rooms.admin import RoomAdmin
from voicectl.voice.rooms.guard import GRACE_S, LONGEST_S, LOOK_S, Guard
from voicectl.voice.rooms.registry import Keeper

pytestmark = pytest.mark.unit

ROOM, ME = "call-1", "agent-me"


class Room(rtc.EventEmitter[Any]):
    """What the room tells its agent; it may be behind what the server knows."""

    def __init__(self) -> None:
        super().__init__()
        self.name, self.local_participant = ROOM, SimpleNamespace(identity=ME)
        self.remote_participants: dict[str, Any] = {}

    def show(self, *people: api.ParticipantInfo) -> None:
        self.remote_participants = {
            p.identity: SimpleNamespace(sid=p.sid, identity=p.identity, kind=p.kind, attributes=dict(p.attributes))
            for p in people
        }


class Holding:
    """Our lease in a real store, renewed when a test says so."""

    def __init__(self, home: Path) -> None:
        self.leases = open_leases(load(VoiceSettings, home=home))
        self.grant = self.leases.claim(f"room:{ROOM}", ME, 30.0, LeaseState.HELD)
        self.fence = self.grant.fence
        self.away = False
        self.reads = 0

    def row(self) -> Lease | None:
        self.reads += 1
        if self.away:
            raise StoreUnavailable("the leases", "away")
        return self.leases.read(self.grant.name)


class Scene:
    """A guard with its room, server, store and clock."""

    def __init__(self, home: Path) -> None:
        self.server, self.room, self.clock, self.lost = FakeServer(), Room(), Clock(), asyncio.Event()
        self.held = Holding(home)
        self.store: Store = open_store(load(VoiceSettings, home=home))
        self.server.make(ROOM, agent(ME, self.held.fence), participant("customer"))
        made: Any = (self.room, cast(RoomAdmin, self.server), cast(Keeper, self.held), self.store, self.clock)
        self.guard = Guard(*made)

    def joins(self, *people: api.ParticipantInfo) -> None:
        self.server.people[ROOM] += people

    async def looks(self, for_s: float) -> None:
        """Let the guard look as often as it wants to within this time."""
        end = self.clock.now + for_s
        while self.clock.now <= end and not self.lost.is_set():
            self.clock.now += await self.guard.look(self.lost)

    def here(self) -> list[str]:
        return [p.identity for p in self.server.people[ROOM]]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.held.leases.close()
    made.store.close()


def test_the_longest_way_to_an_eviction_fits_into_three_seconds() -> None:
    assert LOOK_S + GRACE_S + LONGEST_S <= 3.0


@pytest.mark.parametrize(
    "rival",
    [
        agent("agent-two"),
        agent("agent-two", 0),
        agent("agent-two", 999_999),
        agent("agent-two", "no number"),
        agent("agent-two", "9" * 5000),
        agent("customer-like-name"),
        agent("avatar-of-nobody", on_behalf="agent-who-left"),
    ],
)
async def test_a_second_agent_is_given_its_grace_and_then_evicted_whatever_it_says_of_itself(
    scene: Scene, rival: api.ParticipantInfo
) -> None:
    scene.joins(rival)

    await scene.looks(GRACE_S - 0.1)
    assert rival.identity in scene.here()
    await scene.looks(0.3)

    assert scene.here() == [ME, "customer"]
    assert not scene.lost.is_set()
    await wait_until(lambda: "" if recent(scene.store) else "nothing is noted")
    (noted,) = recent(scene.store)
    assert (noted.event, noted.ours, noted.our_fence) == (RoomEvent.EVICTED, ME, scene.held.fence)
    assert noted.theirs == rival.identity


async def test_each_of_two_rivals_gets_its_own_grace(scene: Scene) -> None:
    scene.joins(agent("agent-two"))
    await scene.looks(GRACE_S - 0.1)
    scene.joins(agent("agent-three"))
    await scene.looks(0.3)

    assert scene.here() == [ME, "customer", "agent-three"]
    await scene.looks(GRACE_S)
    assert scene.here() == [ME, "customer"]


async def test_nobody_else_is_ever_evicted(scene: Scene) -> None:
    scene.joins(
        participant("robot-agent-1"),
        participant("agent-AJ_12345"),
        participant("sip_+8801700000001", "SIP"),
        participant("egress", "EGRESS"),
        participant("ingress", "INGRESS"),
        participant("connector", "CONNECTOR"),
        participant("bridge", "BRIDGE"),
        agent("avatar", on_behalf=ME),
        agent(ME, scene.held.fence),  # our own participant again, with another sid, after a restart of the server
    )
    before = scene.here()

    await scene.looks(10)

    assert scene.here() == before
    assert scene.server.asked == []


async def test_a_fenced_out_agent_that_leaves_by_itself_is_not_evicted(scene: Scene) -> None:
    scene.joins(agent("agent-two"))
    await scene.looks(GRACE_S / 2)
    scene.server.people[ROOM].pop()

    await scene.looks(5)

    assert scene.server.asked == []


async def test_an_avatar_whose_mark_disappears_becomes_a_rival_and_one_that_gets_it_in_time_is_spared(
    scene: Scene,
) -> None:
    scene.joins(agent("was-avatar", on_behalf=ME), agent("late-avatar"))
    await scene.looks(GRACE_S / 2)
    scene.server.people[ROOM][2:] = [agent("was-avatar"), agent("late-avatar", on_behalf=ME)]

    await scene.looks(3)

    assert scene.here() == [ME, "customer", "late-avatar"]


async def test_who_holds_is_looked_up_right_before_the_removal_and_the_one_who_lost_the_room_leaves(
    scene: Scene,
) -> None:
    seen = scene.held.row()
    assert seen is not None
    scene.held.leases.take_over(seen, "worker-1", 5.0, proven_dead=True)
    new = scene.held.leases.claim(f"room:{ROOM}", "agent-two", 3.0, LeaseState.HELD)
    scene.joins(agent("agent-two", new.fence))

    await scene.looks(0)  # its fence is higher than ours: the store is asked at once

    assert scene.lost.is_set()
    assert scene.server.asked == []
    await wait_until(lambda: "" if recent(scene.store) else "nothing is noted")
    assert [(n.event, n.theirs, n.their_fence) for n in recent(scene.store)] == [
        (RoomEvent.FENCED_OUT, "agent-two", new.fence)
    ]


async def test_while_the_store_is_away_nobody_is_evicted_and_then_within_three_seconds(scene: Scene) -> None:
    scene.held.away = True
    scene.joins(agent("agent-two"))
    await scene.looks(5)
    assert scene.here() == [ME, "customer", "agent-two"]
    assert not scene.lost.is_set()

    scene.held.away = False
    back = scene.clock.now
    await scene.looks(LONGEST_S)

    assert scene.here() == [ME, "customer"]
    assert scene.clock.now - back <= 3.0


async def test_while_our_lease_is_not_live_nobody_is_evicted(scene: Scene) -> None:
    scene.held.grant = scene.held.leases.renew(scene.held.grant, 0.0)  # a store that takes no writes answers reads
    scene.joins(agent("agent-two"), agent("agent-three", 999))
    await scene.looks(5)
    assert scene.server.asked == []
    assert not scene.lost.is_set()

    scene.held.leases.renew(scene.held.grant, 30.0)
    await scene.looks(LONGEST_S)

    assert scene.here() == [ME, "customer"]


@pytest.mark.parametrize(
    ("other", "leaves"),
    [
        (agent("agent-two", 999), True),
        (agent("agent-two", 0), False),
        (participant("agent-two", **{"voice.fence": "999"}), False),
        (participant("sip", "SIP", **{"voice.fence": "999"}), False),
    ],
)
async def test_while_the_store_is_away_only_another_agent_with_a_higher_fence_makes_us_leave(
    scene: Scene, other: api.ParticipantInfo, leaves: bool
) -> None:
    scene.held.away = True
    scene.joins(other)

    await scene.looks(5)

    assert scene.lost.is_set() is leaves
    assert scene.server.asked == []


async def test_one_answer_that_fails_proves_nothing(scene: Scene) -> None:
    scene.held.away = True
    scene.joins(agent("agent-two", 999))

    await scene.guard.look(scene.lost)

    assert not scene.lost.is_set()


async def test_a_claim_that_the_store_refuted_is_not_believed_when_the_store_goes_away(scene: Scene) -> None:
    scene.joins(agent("agent-two", 999))
    await scene.looks(0)
    assert scene.held.reads == 1

    scene.held.away = True
    await scene.looks(5)

    assert not scene.lost.is_set()


async def test_an_eviction_that_failed_is_tried_again_until_it_is_done(scene: Scene) -> None:
    scene.joins(agent("agent-two"))
    scene.server.mute = {"remove"}
    await scene.looks(4)
    assert "agent-two" in scene.here()

    scene.server.mute = set()
    await scene.looks(LONGEST_S)

    assert scene.here() == [ME, "customer"]


async def test_with_the_server_silent_the_room_itself_shows_who_outranks_us(scene: Scene) -> None:
    scene.server.silent = True
    scene.held.away = True
    scene.room.show(agent("agent-two", 999))

    await scene.looks(3)

    assert scene.lost.is_set()


async def test_without_a_lease_of_our_own_nobody_is_evicted_and_it_is_not_decided_here_who_leaves(
    scene: Scene,
) -> None:
    scene.held.fence, scene.held.away = 0, True
    scene.joins(agent("agent-two", 5))

    await scene.looks(5)

    assert scene.server.asked == []
    assert not scene.lost.is_set()


async def test_who_is_told_to_leave_does_not_wait_for_a_server_that_hangs(scene: Scene) -> None:
    looks: list[str] = []

    async def people(room: str) -> list[api.ParticipantInfo]:
        looks.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            looks.append("given up")
        return []

    scene.server.participants = people  # type: ignore[method-assign]
    standing = asyncio.create_task(scene.guard.stand(scene.lost))
    await wait_until(lambda: "" if looks else "no look")

    scene.lost.set()
    await asyncio.wait_for(standing, 5)

    assert looks == ["begun", "given up"]


async def test_the_guard_looks_at_its_own_join_at_an_agents_and_after_a_reconnection(scene: Scene) -> None:
    looks: list[float] = []

    async def look(lost: asyncio.Event) -> float:
        looks.append(0)
        if len(looks) == 4:
            raise ValueError("whatever")
        return 3600.0

    scene.guard.look = look  # type: ignore[method-assign]
    standing = asyncio.create_task(scene.guard.stand(scene.lost))
    human = SimpleNamespace(identity="agent-smith", kind=rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD)
    other = SimpleNamespace(identity="agent-two", kind=rtc.ParticipantKind.PARTICIPANT_KIND_AGENT)
    own = SimpleNamespace(identity=ME, kind=rtc.ParticipantKind.PARTICIPANT_KIND_AGENT)

    async def looked(times: int) -> None:
        await wait_until(lambda: "" if len(looks) == times else f"{len(looks)} looks")

    await looked(1)
    scene.room.emit("participant_connected", human)
    scene.room.emit("participant_attributes_changed", {"lk.agent.state": "thinking"}, own)
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(looks) == 1
    scene.room.emit("participant_connected", other)
    await looked(2)
    scene.room.emit("participant_attributes_changed", {}, other)
    await looked(3)
    scene.room.emit("reconnected")
    await looked(5)  # one of them fails, and is made up for
    scene.lost.set()
    await asyncio.wait_for(standing, 5)

    scene.room.emit("reconnected")
    assert len(looks) == 5
