"""One voice in every room, by sound: the short form of bench/rooms.py, whose full counts are in bench/README.md.

One machine with scripted engines takes injected rivals, dying jobs and servers, and a burst. What each figure means is
said beside the function that measures it (bench/room_*.py). Workers that die: test_two_machines.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from bench import room_injections, room_kills
from bench.room_effects import POINTS, effects
from bench.room_house import House, house
from bench.room_injections import injections
from bench.room_kills import freezes, job_kills, server_restarts
from bench.room_load import bursts
from voicectl.voice.rooms.admin import room_admin

pytestmark = [pytest.mark.live, pytest.mark.alone, pytest.mark.timeout(240)]
SEED = 6
LINES = 10
SLOWER = 3  # than the bench's limits: how fast it is on a quiet machine is the bench's to say


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(settings={"VOICE_CAPACITY": str(LINES)}, root=tmp_path_factory.mktemp("rooms")) as up:
        yield up


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here it counts that it happens, each time and to the right one."""
    monkeypatch.setattr(room_injections, "WITHIN_S", room_injections.WITHIN_S * SLOWER)
    monkeypatch.setattr(room_injections, "GAP_S", room_injections.GAP_S * SLOWER)
    for limit in ("JOB_S", "FROZEN_S", "WORKER_S", "WORKER_FROZEN_S"):
        monkeypatch.setattr(room_kills, limit, getattr(room_kills, limit) * SLOWER)


async def measured(rooms: House, work: Any, *counts: int) -> dict[str, Any]:
    async with room_admin(rooms.first.settings) as admin:
        found: dict[str, Any] = await work(rooms, admin, *counts)
    return found


async def test_a_second_agent_leaves_and_nobody_else_does(rooms: House) -> None:
    found = await measured(rooms, injections, 20, 3, SEED)

    assert found["wrong"] == []
    assert found["as_promised"], found


async def test_a_killed_job_is_replaced_before_the_customer_asks(rooms: House) -> None:
    found = await measured(rooms, job_kills, 10)

    assert found["served"] == 10
    assert found["as_promised"], found


async def test_a_frozen_an_evicted_and_a_fenced_out_job_say_no_word_more(rooms: House) -> None:
    found = await measured(rooms, freezes, 3)

    assert found["wrong"] == []


async def test_a_restarted_server_leaves_one_agent_in_the_room(rooms: House) -> None:
    found = await measured(rooms, server_restarts, 2)

    assert found["wrong"] == []


async def test_a_job_that_dies_in_a_tool_leaves_one_effect_and_its_successor_says_so(rooms: House) -> None:
    found = await measured(rooms, effects, 1)

    assert found["killed"] == len(POINTS)
    assert found["wrong"] == []


async def test_ten_customers_at_the_same_instant_are_served_and_nothing_is_left_of_them(rooms: House) -> None:
    found = await measured(rooms, bursts, 0, LINES)

    (cold,) = found["bursts"]
    assert cold["heard"] == LINES
    assert found["as_promised"], cold
