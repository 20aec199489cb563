"""A customer without a live agent gets one, by whichever reconciler; who lives, ends or only waits is spared."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fake_server import agent, participant
from tests.support.room_scene import ROOM, Scene, as_grant
from tests.support.waiting import wait_until
from voicectl.memory.calls import begin_ending, open_call
from voicectl.memory.room_log import RoomEvent, recent
from voicectl.memory.store.leases import LeaseState
from voicectl.voice.events import RoomMark
from voicectl.voice.rooms.busy import WAIT_S
from voicectl.voice.rooms.healing import ATTEMPTS, UNFENCED_S, WINDOW_S
from voicectl.voice.rooms.reconciler import UNDER_WAY_S
from voicectl.voice.rooms.registry import GOODBYE, TTL_S
from voicectl.voice.rooms.sightings import ABSENT_S, LINGER_S, RETURN_S

pytestmark = pytest.mark.unit


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.leases.close()
    made.store.close()


async def test_a_dead_agent_is_fenced_out_evicted_and_replaced_in_this_order(scene: Scene) -> None:
    await scene.proven()
    scene.server.make(ROOM, agent("agent-1", 1), participant("customer"))
    scene.holds(ROOM, "agent-1")
    before = scene.row()

    await scene.passes(TTL_S - 0.5)
    assert scene.server.asked == []
    await scene.passes(1.0)

    assert scene.server.asked == [f"remove {ROOM} agent-1", f"dispatch {ROOM} voicectl"]
    assert (scene.row().owner, scene.row().fence) == ("agent-new-1", before.fence + 2)
    assert (await scene.events()) == [RoomEvent.TAKEOVER, RoomEvent.EVICTED, RoomEvent.DISPATCHED]
    taken = recent(scene.store)[-1]
    assert (taken.theirs, taken.their_fence, taken.our_fence) == ("agent-1", before.fence, before.fence + 1)


async def test_an_agent_whose_process_has_died_is_replaced_at_once(scene: Scene) -> None:
    scene.server.make(ROOM, agent("agent-1", 1), participant("customer"))
    scene.holds(ROOM, "agent-1")

    assert await scene.reconciler.heal(ROOM, proven_dead="agent-1")

    assert scene.row().owner == "agent-new-1"


async def test_one_of_many_reconcilers_acts(scene: Scene) -> None:
    others = [scene.another(f"worker-{n}") for n in range(4)]
    scene.server.make(ROOM, agent("agent-1", 1), participant("customer"))
    scene.holds(ROOM, "agent-1")

    healed = await asyncio.gather(*(o.heal(ROOM, proven_dead="agent-1") for o in others))

    assert sum(healed) == 1
    assert len(scene.server.dispatched) == 1


async def test_one_of_many_reconcilers_serves_a_room_that_never_had_an_agent(scene: Scene) -> None:
    await scene.proven()
    second = scene.another("worker-2")
    second._evidence._stamped, second._evidence._since = scene.clock.now, 0.0
    scene.server.make(ROOM, participant("customer"))

    await asyncio.gather(scene.reconciler.heal(ROOM), second.heal(ROOM))

    assert len(scene.server.dispatched) == 1


async def test_a_takeover_that_a_dead_reconciler_began_is_finished_by_another(scene: Scene) -> None:
    await scene.proven()
    scene.server.make(ROOM, participant("customer"))
    scene.leases.take_new(f"room:{ROOM}", "dead", 5.0, note="voicectl")

    await scene.passes(4.5)
    assert scene.server.dispatched == []
    await scene.passes(1.5)

    assert len(scene.server.dispatched) == 1


async def test_a_store_that_stood_still_proves_nothing(scene: Scene) -> None:
    await scene.proven()
    scene.server.make(ROOM, agent("agent-1", 1), participant("customer"))
    scene.server.make("call-2", participant("customer"))
    scene.holds(ROOM, "agent-1")
    await scene.passes(1, renewing="agent-1")

    scene.clock.now += 30  # nobody could write
    await scene.passes(TTL_S - 0.5)

    assert scene.server.asked == []


async def test_a_silence_of_the_server_is_not_an_empty_room(scene: Scene) -> None:
    call = open_call(scene.store, customer="user:1", room=ROOM, desk="assistant", fence=1)
    await scene.proven()
    scene.server.make(ROOM, participant("customer"))
    scene.server.people[ROOM] = []
    await scene.passes(15)
    scene.server.silent = True
    await scene.passes(15)
    scene.server.silent = False
    await scene.passes(15)

    assert begin_ending(scene.store, call, "it is open")


async def test_a_room_without_a_lease_is_served_when_its_own_dispatch_had_its_time(scene: Scene) -> None:
    await scene.proven()
    scene.server.make(ROOM, participant("customer"))
    scene.server.made[ROOM].metadata = '{"voice.desk": "shop"}'

    await scene.passes(UNDER_WAY_S - 0.25)
    assert scene.server.dispatched == []
    await scene.passes(0.5)

    assert scene.server.dispatched == [(ROOM, {"takeover": "1", "desk": "shop"})]


async def test_a_customer_who_comes_back_into_an_emptied_room_is_served(scene: Scene) -> None:
    await scene.proven()
    scene.leases.release(scene.leases.claim(f"room:{ROOM}", "agent-1", 3.0, LeaseState.HELD, note="voicectl"))
    scene.server.make(ROOM, participant("customer"))

    await scene.passes(UNDER_WAY_S + 0.5)

    assert len(scene.server.dispatched) == 1


async def test_rooms_of_others_and_empty_rooms_get_no_agent(scene: Scene) -> None:
    await scene.proven()
    scene.server.make(ROOM)
    scene.server.make("theirs", participant("customer"))
    scene.server.made["theirs"].metadata = '{"their": "room"}'
    scene.server.make("odd", participant("customer"))
    scene.server.made["odd"].metadata = "not JSON"

    await scene.passes(30)

    assert scene.server.asked == []


async def test_an_agent_that_came_while_the_store_was_away_has_time_to_claim_its_room(scene: Scene) -> None:
    await scene.proven()
    scene.server.make(ROOM, agent("agent-1", "0"), participant("customer"))

    await scene.passes(UNDER_WAY_S + UNFENCED_S - 0.5)
    assert scene.server.dispatched == []
    await scene.passes(1)

    assert len(scene.server.dispatched) == 1


async def test_a_holder_that_is_not_in_its_room_is_replaced_although_it_renews(scene: Scene) -> None:
    await scene.proven()
    scene.server.make(ROOM, agent("agent-1", 1), participant("customer"))
    scene.holds(ROOM, "agent-1")
    await scene.passes(RETURN_S, renewing="agent-1")
    scene.server.people[ROOM].pop(0)

    await scene.passes(ABSENT_S - 0.5, renewing="agent-1")
    assert scene.server.dispatched == []
    await scene.passes(1, renewing="agent-1")

    assert scene.row().owner == "agent-new-1"


async def test_a_rival_that_its_frozen_holder_does_not_evict_goes_and_the_holder_stays(scene: Scene) -> None:
    await scene.proven()
    scene.server.make(ROOM, agent("agent-1", 1), participant("agent-customer"), agent("agent-2", 99))
    scene.holds(ROOM, "agent-1")

    await scene.passes(LINGER_S - 0.3, renewing="agent-1")
    assert scene.server.asked == []
    await scene.passes(1, renewing="agent-1")

    assert scene.server.asked == [f"remove {ROOM} agent-2"]
    await scene.reconciler.notes.written()
    (noted,) = recent(scene.store)
    assert (noted.event, noted.ours, noted.theirs, noted.their_fence) == (RoomEvent.EVICTED, "web", "agent-2", 99)


async def test_a_rival_is_spared_if_the_room_changes_hands_before_it_is_removed(scene: Scene) -> None:
    await scene.proven()
    scene.server.make(ROOM, agent("agent-1", 1), participant("customer"), agent("agent-2", 2))
    scene.holds(ROOM, "agent-1")
    seen = scene.row()
    scene.leases.take_over(seen, "other", 5.0, proven_dead=True)
    scene.holds(ROOM, "agent-2")

    await scene.reconciler._evict(ROOM, seen, {"PA_agent-2"})

    assert scene.server.asked == []


async def test_a_room_whose_call_was_ending_is_deleted_and_never_served_again(scene: Scene) -> None:
    await scene.proven()
    scene.server.make(ROOM, agent("agent-1", 1), participant("customer"))
    scene.holds(ROOM, "agent-1")
    call = open_call(scene.store, customer="user:1", room=ROOM, desk="assistant", fence=scene.row().fence)
    begin_ending(scene.store, call, "said goodbye")

    await scene.reconciler.heal(ROOM, proven_dead="agent-1")

    assert scene.server.asked == [f"delete {ROOM}"]


async def test_a_room_that_its_agent_died_deleting_is_deleted(scene: Scene) -> None:
    await scene.proven()
    scene.server.make(ROOM, participant("customer"))
    grant = scene.leases.claim(f"room:{ROOM}", "agent-1", 3.0, LeaseState.HELD)
    scene.leases.move(grant, LeaseState.CLOSING, 10.0)

    await scene.passes(9.5)
    assert scene.server.asked == []
    await scene.passes(1)

    assert scene.server.asked == [f"delete {ROOM}"]


@pytest.mark.parametrize("edited", ["state = 'mine'", "fence = 'many'", "boot_id = 'edited'", "nonce = 'edited'"])
async def test_a_row_edited_by_hand_is_healed(scene: Scene, edited: str) -> None:
    await scene.proven()
    scene.server.make(ROOM, agent("agent-1", 1), participant("customer"))
    scene.holds(ROOM, "agent-1")
    with scene.leases.store.write() as connection:
        connection.exec_driver_sql(f"update leases set {edited} where name = 'room:{ROOM}'")

    await scene.passes(TTL_S + UNDER_WAY_S + 1)

    assert scene.row().owner == "agent-new-1"


async def test_what_ran_out_while_the_store_stood_still_is_neither_deleted_nor_ended(scene: Scene) -> None:
    scene.server.make(ROOM, participant("customer"))
    grant = scene.leases.claim(f"room:{ROOM}", "agent-1", 3.0, LeaseState.HELD)
    scene.leases.move(grant, LeaseState.CLOSING, 10.0)
    scene.clock.now += 30

    await scene.reconciler.heal(ROOM)

    assert scene.server.asked == []


async def test_an_agent_that_dies_again_and_again_is_not_dispatched_in_a_loop_and_the_customer_is_told(
    scene: Scene,
) -> None:
    scene.server.make(ROOM, participant("customer"))
    scene.holds(ROOM, "agent-0")
    open_call(scene.store, customer="user:1", room=ROOM, desk="assistant", fence=scene.row().fence)

    for _ in range(2 * ATTEMPTS):
        await scene.reconciler.heal(ROOM, proven_dead=scene.row().owner)

    assert len(scene.server.dispatched) == ATTEMPTS
    assert (await scene.events()).count(RoomEvent.GAVE_UP) == 1
    assert RoomMark.BUSY in scene.server.marks(ROOM)
    scene.clock.now += WINDOW_S
    assert await scene.reconciler.heal(ROOM, proven_dead=scene.row().owner)


async def test_where_all_lines_are_taken_nobody_is_dispatched_and_the_room_is_busy(scene: Scene) -> None:
    await scene.proven()
    scene.worker(capacity=1)
    scene.server.make(ROOM, participant("customer"))
    scene.holds("call-0", "agent-0", 3600.0)

    await scene.passes(UNDER_WAY_S + 1)

    assert scene.server.dispatched == []
    assert float(scene.server.marks(ROOM)[RoomMark.BUSY]) == pytest.approx(time.time(), abs=60)
    assert (await scene.events()) == [RoomEvent.BUSY]


async def test_the_line_of_an_agent_that_has_died_is_free_for_its_own_customer(scene: Scene) -> None:
    scene.worker(capacity=1)
    scene.server.make(ROOM, participant("customer"))
    scene.holds(ROOM, "agent-1")

    assert await scene.reconciler.heal(ROOM, proven_dead="agent-1")


async def test_who_waits_longest_gets_the_free_line_and_the_mark_goes_when_an_agent_is_there(scene: Scene) -> None:
    await scene.proven()
    scene.worker(capacity=1)
    now = time.time()
    scene.server.make("young", participant("customer"), voice_busy=str(now - 2))
    scene.server.make("old", participant("customer"), voice_busy=str(now - 20))

    await scene.passes(0.5)

    assert [room for room, _ in scene.server.dispatched] == ["old"]
    assert RoomMark.BUSY in scene.server.marks("young")
    held = scene.row("old")
    scene.server.people["old"].append(agent(held.owner, held.fence))
    scene.leases.move(as_grant(held), LeaseState.HELD, 3600.0)
    await scene.passes(0.5)
    assert RoomMark.BUSY not in scene.server.marks("old")


async def test_who_has_waited_long_enough_is_told_by_an_agent_over_capacity(scene: Scene) -> None:
    await scene.proven()
    scene.worker(capacity=1)
    scene.holds("call-0", "agent-0", 3600.0)
    scene.server.make(ROOM, participant("customer"), voice_busy=str(time.time() - WAIT_S - 1))
    scene.server.make("young", participant("customer"), voice_busy=str(time.time() - 1))

    await scene.passes(0.5)

    assert scene.server.dispatched == [(ROOM, {"takeover": "1", "desk": "assistant", "busy": "1"})]
    assert scene.row().owner.startswith(GOODBYE)
    assert RoomMark.BUSY in scene.server.marks(ROOM)


async def test_nobody_waits_for_the_log_of_rooms(scene: Scene) -> None:
    scene.server.make(ROOM, agent("agent-1", 1), participant("customer"))
    scene.holds(ROOM, "agent-1")

    with scene.store.write():  # nothing can be written there
        assert await scene.reconciler.heal(ROOM, proven_dead="agent-1")
        assert recent(scene.store) == []

    assert (await scene.events()) == [RoomEvent.TAKEOVER, RoomEvent.EVICTED, RoomEvent.DISPATCHED]


async def test_a_look_that_fails_is_not_the_last_one(scene: Scene) -> None:
    looks: list[int] = []

    async def look() -> float:
        looks.append(1)
        if len(looks) == 1:
            raise ValueError("whatever")
        return 3600.0

    scene.reconciler.look = look  # type: ignore[method-assign]
    running = asyncio.create_task(scene.reconciler.run())
    await wait_until(lambda: "" if len(looks) == 2 else "one look")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
