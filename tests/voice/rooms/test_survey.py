"""What one look makes of a room: each state is told from who is there and who holds the lease, never from a request."""

from __future__ import annotations

import json

import pytest
from livekit import api

from voicectl.memory.calls import CallState, OpenCall
from voicectl.memory.store.leases import Lease, LeaseState
from voicectl.voice.rooms.registry import GOODBYE
from voicectl.voice.rooms.survey import RoomState, RoomView, view

pytestmark = pytest.mark.unit

Kind = api.ParticipantInfo.Kind
SOUND = api.TrackInfo(type=api.TrackType.AUDIO)
CAMERA = api.TrackInfo(type=api.TrackType.VIDEO)
CUSTOMER = api.ParticipantInfo(identity="robot-agent-abbott", kind=Kind.STANDARD, tracks=[SOUND])
MARK = {"voice.desk": "assistant"}


def agent(
    identity: str = "agent-1", fence: str = "7", *tracks: api.TrackInfo, on_behalf: str = ""
) -> api.ParticipantInfo:
    said = {"voice.fence": fence, "voice.build": "0.1.0+abc", "voice.pid": "4711"}
    if on_behalf:
        said["lk.publish_on_behalf"] = on_behalf
    return api.ParticipantInfo(identity=identity, kind=Kind.AGENT, attributes=said, tracks=list(tracks))


def lease(state: LeaseState = LeaseState.HELD, remaining_s: float = 2.5, owner: str = "agent-1") -> Lease:
    return Lease("room:call-1", state, owner, 7, "nonce", remaining_s, "voicectl")


def call(state: CallState = CallState.OPEN) -> OpenCall:
    return OpenCall("c1", "call-1", "assistant", state, 7)


def seen(
    *people: api.ParticipantInfo,
    held: Lease | None = None,
    on: OpenCall | None = None,
    marks: object = MARK,
    asked: bool = False,
    name: str = "call-1",
) -> RoomView:
    metadata = marks if isinstance(marks, str) else json.dumps(marks)
    return view(api.Room(name=name, sid="RM_1", metadata=metadata), people, held, on, asked=asked)


def test_a_customer_without_an_agent_has_requested_one() -> None:
    assert seen(CUSTOMER).state is RoomState.REQUESTED


def test_a_dispatch_that_no_worker_took_is_a_request_and_nobody_and_nothing_is_empty() -> None:
    assert seen(asked=True).state is RoomState.REQUESTED
    assert seen().state is RoomState.EMPTY


def test_an_agent_that_claimed_the_room_and_is_not_there_has_accepted_and_no_more() -> None:
    for state in (LeaseState.ACCEPTED, LeaseState.HELD):
        assert seen(CUSTOMER, held=lease(state), on=call()).state is RoomState.ACCEPTED


def test_joined_is_said_when_the_holder_is_there_and_audible_when_it_has_published_sound() -> None:
    assert seen(CUSTOMER, agent(), held=lease(), on=call()).state is RoomState.JOINED
    assert seen(CUSTOMER, agent("agent-1", "7", CAMERA), held=lease()).state is RoomState.JOINED
    assert seen(CUSTOMER, agent("agent-1", "7", SOUND), held=lease()).state is RoomState.AUDIBLE


def test_an_avatar_is_the_sound_of_its_agent_and_not_a_holder() -> None:
    avatar = agent("avatar-1", "", SOUND, on_behalf="agent-1")

    room = seen(CUSTOMER, agent(), avatar, held=lease())

    assert room.state is RoomState.AUDIBLE
    assert [(a.identity, a.is_holder, a.on_behalf) for a in room.agents] == [
        ("agent-1", True, ""),
        ("avatar-1", False, "agent-1"),
    ]


def test_a_rival_is_no_agent_of_the_room_however_loud_it_is_and_whatever_fence_it_claims() -> None:
    rival = agent("agent-2", "99", SOUND)

    room = seen(CUSTOMER, rival, held=lease(LeaseState.ACCEPTED))

    assert room.state is RoomState.ACCEPTED
    assert room.holder is None
    assert seen(CUSTOMER, rival).state is RoomState.REQUESTED


def test_a_killed_agent_that_the_server_still_lists_is_not_there() -> None:
    dead = agent("agent-1", "7", SOUND)

    assert seen(CUSTOMER, dead, held=lease(remaining_s=-1), on=call()).state is RoomState.REQUESTED
    assert seen(CUSTOMER, dead, held=lease(LeaseState.TAKEOVER), on=call()).state is RoomState.REQUESTED


def test_an_agent_that_came_while_the_store_was_away_counts_where_nobody_has_the_room() -> None:
    assert seen(CUSTOMER, agent("agent-1", "0", SOUND)).state is RoomState.AUDIBLE
    assert seen(CUSTOMER, agent("agent-2", "0", SOUND), held=lease()).state is RoomState.ACCEPTED


def test_a_customer_who_waits_for_a_line_is_busy_until_an_agent_has_the_room() -> None:
    marks = {**MARK, "voice.busy": "1795288000.5"}

    room = seen(CUSTOMER, marks=marks)

    assert (room.state, room.busy_since_s) == (RoomState.BUSY, 1795288000.5)
    assert seen(CUSTOMER, held=lease(), marks=marks).state is RoomState.ACCEPTED
    assert seen(marks=marks).state is RoomState.EMPTY


def test_who_is_told_that_no_line_came_free_has_no_agent_but_is_busy() -> None:
    told = agent(f"{GOODBYE}1", "7", SOUND)

    assert seen(CUSTOMER, told, held=lease(owner=f"{GOODBYE}1")).state is RoomState.BUSY


def test_a_room_is_ending_while_its_call_is_or_its_lease_is_held_to_delete_it() -> None:
    assert seen(CUSTOMER, agent(), held=lease(), on=call(CallState.ENDING)).state is RoomState.ENDING
    assert seen(CUSTOMER, agent(), held=lease(LeaseState.CLOSING)).state is RoomState.ENDING
    assert seen(CUSTOMER, held=lease(LeaseState.CLOSING, -1)).state is RoomState.REQUESTED


@pytest.mark.parametrize("marks", ["", "{", "[]", "7", '{"desk": "x"}', '"voice.desk"', "[" * 100_000])
def test_a_room_without_our_mark_our_lease_or_our_call_is_foreign_whoever_is_in_it(marks: str) -> None:
    assert seen(CUSTOMER, agent("agent-1", "0", SOUND), marks=marks).state is RoomState.FOREIGN
    assert seen(CUSTOMER, marks=marks, held=lease(LeaseState.FREE)).state is RoomState.REQUESTED
    assert seen(CUSTOMER, marks=marks, on=call()).state is RoomState.REQUESTED
    assert seen(marks=marks, name="canary-ask-1").state is RoomState.EMPTY


def test_who_is_there_is_told_by_kind() -> None:
    phone = api.ParticipantInfo(identity="sip_1", kind=Kind.SIP)
    recording = api.ParticipantInfo(identity="EG_1", kind=Kind.EGRESS)

    room = seen(CUSTOMER, phone, recording, agent(), held=lease())

    assert room.customers == ("robot-agent-abbott", "sip_1")
    assert [(o.identity, o.kind) for o in room.others] == [("EG_1", "egress")]
    assert (room.agents[0].fence, room.agents[0].build, room.agents[0].pid) == (7, "0.1.0+abc", "4711")


@pytest.mark.parametrize("fence", ["", "-1", "7.5", "²", "seven", "9" * 5000])
def test_a_fence_that_is_no_number_is_none(fence: str) -> None:
    assert seen(agent("agent-1", fence)).agents[0].fence is None


@pytest.mark.parametrize("since", ["", "soon", "nan", "inf", None, [1]])
def test_a_busy_mark_that_is_no_time_is_none(since: object) -> None:
    assert seen(CUSTOMER, marks={**MARK, "voice.busy": since}).state is RoomState.REQUESTED
