"""Two machines with one LiveKit server and one PostgreSQL: each is a worker, a control plane and a VOICE_HOME.

Not here: one machine (test_room_trials.py), many at once and full counts (bench/rooms.py worker-kills).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench import room_kills
from bench.room_house import House, call, house
from bench.room_kills import worker_kills
from voicectl.voice.rooms.admin import room_admin
from voicectl.voice.rooms.registry import live_workers

pytestmark = [pytest.mark.live, pytest.mark.alone, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(machines=2, root=tmp_path_factory.mktemp("machines")) as up:
        yield up


def test_both_workers_are_listed_in_the_one_store(machines: House) -> None:
    listed = {w["pid"] for w in live_workers(machines.leases)}

    assert listed == {m.processes["worker"].pid for m in machines.machines}


@pytest.mark.parametrize("machine", [0, 1])
async def test_a_token_of_either_control_plane_leads_to_an_agent(machines: House, machine: int) -> None:
    ticket = machines.ticket(machine=machine)
    async with room_admin(machines.first.settings) as admin, call(machines, admin, ticket) as on:
        speaks = await on.greeted()
        answers = await on.answer()
        settled = on.watch.now.one

    assert settled
    assert answers == speaks


async def test_when_a_worker_dies_or_stands_still_the_other_goes_on_with_its_call(
    machines: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("WORKER_S", "WORKER_FROZEN_S"):  # how fast it is on a quiet machine is the bench's to say
        monkeypatch.setattr(room_kills, limit, getattr(room_kills, limit) * 3)
    async with room_admin(machines.first.settings) as admin:
        found = await worker_kills(machines, admin, 3, 1)

    assert found["killed"]["served"] == 3
    assert found["stopped"]["served"] == 1
    assert found["as_promised"], found
