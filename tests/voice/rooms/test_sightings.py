"""A holder who is not there, agents who outstay: only what was seen in looks that were answered, one after another."""

from __future__ import annotations

import pytest
from livekit import api

from tests.support.fake_server import Clock, agent, participant
from voicectl.memory.store.leases import Lease, LeaseState
from voicectl.voice.rooms.guard import GRACE_S, LOOK_S
from voicectl.voice.rooms.sightings import ABSENT_S, LINGER_S, RETURN_S, Sightings

pytestmark = pytest.mark.unit

HOLDER, CUSTOMER = agent("agent-1", 7), participant("customer")


def room(sid: str = "RM_1") -> api.Room:
    return api.Room(name="call-1", sid=sid)


def lease(state: LeaseState = LeaseState.HELD, fence: int = 7, remaining_s: float = 2.0) -> Lease:
    return Lease("room:call-1", state, "agent-1", fence, "n", remaining_s)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sightings(clock: Clock) -> Sightings:
    made = Sightings(clock)
    made.saw(room(), lease(), [HOLDER, CUSTOMER])
    clock.now += 60
    return made


def test_a_holder_who_is_not_there_for_five_seconds_does_not_speak(sightings: Sightings, clock: Clock) -> None:
    first = sightings.saw(room(), lease(), [CUSTOMER])
    assert not first.absent
    assert first.due_s == pytest.approx(ABSENT_S)

    clock.now += ABSENT_S - 0.125
    assert not sightings.saw(room(), lease(), [CUSTOMER]).absent
    clock.now += 0.15
    assert sightings.saw(room(), lease(), [CUSTOMER]).absent


def test_a_holder_who_was_seen_in_between_a_new_one_and_one_nobody_waits_for_are_not_absent(
    sightings: Sightings, clock: Clock
) -> None:
    for people, fence in (
        ([CUSTOMER], 7),
        ([HOLDER, CUSTOMER], 7),
        ([CUSTOMER], 7),
        ([], 7),
        ([CUSTOMER], 7),
        ([CUSTOMER], 8),
        ([CUSTOMER], 9),
    ):
        assert not sightings.saw(room(), lease(fence=fence), people).absent
        clock.now += ABSENT_S - 0.125


def test_after_a_silence_everything_is_counted_anew(sightings: Sightings, clock: Clock) -> None:
    sightings.saw(room(), lease(), [CUSTOMER, agent("agent-2")])
    clock.now += 30
    sightings.forget()

    found = sightings.saw(room(), lease(), [CUSTOMER, agent("agent-2")])

    assert (found.absent, found.rivals) == (False, ())


def test_after_a_restart_of_the_server_the_holder_has_time_to_come_back(sightings: Sightings, clock: Clock) -> None:
    assert not sightings.saw(room("RM_2"), lease(), [CUSTOMER]).absent
    clock.now += ABSENT_S
    assert not sightings.saw(room("RM_2"), lease(), [CUSTOMER]).absent
    clock.now += RETURN_S - ABSENT_S
    assert sightings.saw(room("RM_2"), lease(), [CUSTOMER]).absent


@pytest.mark.parametrize(
    "other", [lease(LeaseState.ACCEPTED), lease(LeaseState.CLOSING), lease(remaining_s=-1.0), lease(LeaseState.FREE)]
)
def test_a_job_that_is_on_its_way_or_leaves_has_its_own_time(sightings: Sightings, clock: Clock, other: Lease) -> None:
    sightings.saw(room(), other, [CUSTOMER, agent("agent-2")])
    clock.now += 60

    found = sightings.saw(room(), other, [CUSTOMER, agent("agent-2")])

    assert (found.absent, found.rivals) == (False, ())


def test_agents_are_left_to_the_holder_first_and_the_time_ends_within_three_seconds(
    sightings: Sightings, clock: Clock
) -> None:
    assert GRACE_S + LOOK_S < LINGER_S < 3.0
    people = [
        HOLDER,
        CUSTOMER,
        agent("agent-2", 99),
        agent("avatar", on_behalf="agent-1"),
        agent("avatar-of-2", on_behalf="agent-2"),
        participant("robot-agent-1"),
        participant("sip", "SIP"),
        participant("egress", "EGRESS"),
    ]
    assert sightings.saw(room(), lease(), people).due_s == pytest.approx(LINGER_S)
    clock.now += LINGER_S - 0.1
    assert sightings.saw(room(), lease(), people).rivals == ()

    clock.now += 0.15

    assert {p.identity for p in sightings.saw(room(), lease(), people).rivals} == {"agent-2", "avatar-of-2"}
