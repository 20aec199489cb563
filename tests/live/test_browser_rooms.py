"""Rooms as the browser makes them: each call its own, whatever the tab does, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from livekit import api
from playwright.async_api import Browser, Route, WebSocketRoute, expect

from tests.support.browser import Tab, chromium, microphone_file
from tests.support.installation import Installation
from tests.support.llm_stub import LLMStub, Reply, by_keyword
from tests.support.waiting import wait_until
from voicectl.memory.store.leases import open_leases
from voicectl.voice.caller import alike
from voicectl.voice.events import RoomMark
from voicectl.voice.rooms import registry
from voicectl.voice.rooms.admin import RoomAdmin, is_human, room_admin
from voicectl.voice.speech import Ear
from voicectl.voice.web.tokens import mint

pytestmark = [pytest.mark.live, pytest.mark.alone, pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]
SAID = "Here is your pizza."
# LiveKit notices a dead browser after 20 s, then the call waits 20 s for it (livekit-server.md 10).
FORGOTTEN_S = 20 + 20 + 10.0
LEFT_S = 12.0  # below the 20 s after which LiveKit closes an empty room by itself


@pytest.fixture
def script(script: LLMStub) -> LLMStub:
    script.script = by_keyword({"pizza": Reply(SAID)})
    return script


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    """One for the module, with a silent microphone: its customers type."""
    path = tmp_path_factory.mktemp("microphone") / "silence.wav"
    async with chromium(microphone_file(path, np.zeros(0, np.int16), after_s=1)) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def admin(installation: Installation) -> AsyncIterator[RoomAdmin]:
    async with room_admin(installation.settings) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def left_behind(installation: Installation, llm: LLMStub, browser: Browser, admin: RoomAdmin) -> set[str]:
    """The rooms of a customer who hung up three times at once and then had the tab crash in mid-call.

    It happens before the other tests: they are over when the time of these rooms is up.
    """
    rooms: set[str] = set()
    tab = await Tab.open(browser, installation.url, "user:impatient")
    for _ in range(3):
        await tab.dial()
        await wait_until(lambda: in_room(admin, tab))
        await tab.page.get_by_test_id("end").click()  # perhaps before the page itself knows that it is connected
        rooms.add(tab.room)
    await tab.call()
    await crash(tab)
    assert len(rooms | {tab.room}) == 4
    return rooms | {tab.room}


async def in_room(admin: RoomAdmin, tab: Tab) -> str:
    return "" if await humans(admin, tab.room) else f"nobody is in {tab.room}"


async def crash(tab: Tab) -> None:
    gone = asyncio.Event()
    tab.page.on("crash", lambda _: gone.set())
    session = await tab.context.new_cdp_session(tab.page)
    dying = asyncio.create_task(session.send("Page.crash"))  # never answered
    await asyncio.wait_for(gone.wait(), 10)
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)


@pytest_asyncio.fixture(loop_scope="module")
async def tab(installation: Installation, browser: Browser, customer: str, left_behind: set[str]) -> AsyncIterator[Tab]:
    opened = await Tab.open(browser, installation.url, customer)
    yield opened
    await opened.context.close()


async def agents(admin: RoomAdmin, room: str) -> list[str]:
    """Who speaks in a room: identity and session of each agent, both new for each job."""
    people = await admin.participants(room)
    return [f"{p.identity} {p.sid}" for p in people if not is_human(p)]


async def humans(admin: RoomAdmin, room: str) -> list[str]:
    return [f"{p.identity} {p.sid}" for p in await admin.participants(room) if is_human(p)]


async def gone(admin: RoomAdmin, rooms: set[str], timeout_s: float = LEFT_S) -> None:
    async def left() -> str:
        there = rooms & {r.name for r in await admin.rooms()}
        return f"still there: {there}" if there else ""

    await wait_until(left, timeout_s)


def without_an_agent(installation: Installation) -> Callable[[Route], Awaitable[None]]:
    """The token endpoint's answer, but for an agent's name that no worker has."""
    settings = installation.settings.model_copy(update={"agent_name": "nobody"})

    async def answer(route: Route) -> None:
        token, _ = mint(settings, "user:in-line", None, "")
        await route.fulfill(status=201, json={"server_url": settings.livekit_url, "participant_token": token})

    return answer


class Network:
    """The way of a page's signalling to the server, which can be cut.

    Of a browser that is cut off by `set_offline` the page notices the same, 15 s later: by unanswered pings.
    """

    def __init__(self) -> None:
        self.there = asyncio.Event()
        self.there.set()
        self._open: list[tuple[WebSocketRoute, WebSocketRoute]] = []

    async def carry(self, page: WebSocketRoute) -> None:
        """Take a connection of the page to the server, once the network is there."""
        await self.there.wait()
        self._open.append((page, page.connect_to_server()))

    async def cut(self) -> None:
        """Break what is open, and let nothing through until the network is there again."""
        self.there.clear()
        for page, server in self._open:
            await server.close(code=1001)
            await page.close(code=1001)
        self._open.clear()


async def mark_busy(installation: Installation, room: str) -> None:
    """The room's metadata as the reconciler writes it for a customer who waits; without a desk it leaves it alone."""
    settings = installation.settings
    key, secret = settings.key_secret()
    async with api.LiveKitAPI(settings.livekit_url, key, secret) as client:
        since = json.dumps({RoomMark.BUSY: str(int(time.time()))})
        await client.room.update_room_metadata(api.UpdateRoomMetadataRequest(room=room, metadata=since))


async def test_basic_connection(
    installation: Installation, script: LLMStub, tab: Tab, admin: RoomAdmin, ear: Ear, tmp_path: Path
) -> None:
    await tab.call()
    heard = await tab.answered("I would like a pizza.", SAID, ear, tmp_path / "answer.webm")
    speakers = await agents(admin, tab.room)
    await tab.shot("rooms-1-audible")
    await tab.hang_up()
    ending = await tab.page.get_by_test_id("ending").text_content()
    await tab.shot("rooms-2-ended")

    assert alike(heard, SAID), heard
    assert len(speakers) == 1
    assert ending is not None
    assert ending.startswith("You ended the call.")
    await gone(admin, {tab.room})


async def test_reconnection_after_a_closed_tab(
    installation: Installation, script: LLMStub, tab: Tab, admin: RoomAdmin, customer: str
) -> None:
    await tab.call()
    (before,) = await agents(admin, tab.room)

    await tab.page.close()
    await gone(admin, {tab.room})
    again = await Tab.open(tab.context, installation.url, customer)
    await again.call()
    (after,) = await agents(admin, again.room)

    assert again.room != tab.room
    assert after != before
    await again.hang_up()


async def test_three_to_five_rapid_reconnects(
    installation: Installation, script: LLMStub, tab: Tab, admin: RoomAdmin, customer: str
) -> None:
    before = {r.name for r in await admin.rooms()}
    ours: list[str] = []
    speakers: list[str] = []

    async def audible() -> None:
        await tab.call()
        ours.append(tab.room)
        speakers.extend(await agents(admin, tab.room))

    await audible()
    await tab.hang_up()  # "Call again" follows at once
    await audible()
    await tab.page.goto("about:blank")  # leaves in mid-call
    await tab.page.goto(installation.url)
    await audible()
    await tab.page.close()
    tab = await Tab.open(tab.context, installation.url, customer)
    await audible()

    assert len(set(ours)) == 4
    assert len(set(speakers)) == 4, f"one agent each, and each a new one: {speakers}"
    await gone(admin, set(ours[:-1]))
    assert await agents(admin, tab.room) == speakers[-1:]
    assert {r.name for r in await admin.rooms()} - before == {tab.room}


async def test_a_second_tab_while_the_first_is_on_a_call(
    installation: Installation, script: LLMStub, tab: Tab, admin: RoomAdmin, customer: str, ear: Ear, tmp_path: Path
) -> None:
    await tab.call()
    there = await agents(admin, tab.room) + await humans(admin, tab.room)
    await tab.watch()

    second = await Tab.open(tab.context, installation.url, customer)
    await second.call()
    theirs = await agents(admin, second.room)
    heard = await tab.answered("I would like a pizza.", SAID, ear, tmp_path / "answer.webm")
    await second.hang_up()
    await gone(admin, {second.room})
    still = await agents(admin, tab.room) + await humans(admin, tab.room)
    states = await tab.states()

    assert second.room != tab.room
    assert second.identity != tab.identity
    assert len(theirs) == 1
    assert still == there, "nobody left the first room, not even to come back"
    assert {s.split()[0] for s in states} == {"audible"}, states
    assert "audible reconnecting" not in states
    assert alike(heard, SAID), heard
    await tab.hang_up()


async def test_a_reload_in_mid_call_ends_it_and_a_new_call_is_one_click_away(
    installation: Installation, script: LLMStub, tab: Tab, admin: RoomAdmin, customer: str
) -> None:
    await tab.call()
    old = tab.room

    await tab.page.reload()
    await gone(admin, {old})
    await expect(tab.page.get_by_test_id("who")).to_have_value(customer)
    await tab.call()

    (me,) = [p for p in await admin.participants(tab.room) if is_human(p)]
    assert tab.room != old
    assert [(t.source, t.muted) for t in me.tracks] == [(api.TrackSource.MICROPHONE, False)]
    await tab.hang_up()


async def test_a_network_that_is_away_for_a_while_is_said_and_the_call_goes_on(
    installation: Installation, script: LLMStub, tab: Tab, admin: RoomAdmin, ear: Ear, tmp_path: Path
) -> None:
    network = Network()
    await tab.context.route_web_socket(lambda url: "/rtc" in url, network.carry)
    await tab.call()
    speakers = await agents(admin, tab.room)

    await network.cut()
    await tab.doing("reconnecting")
    await tab.shot("rooms-3-reconnecting")
    network.there.set()
    heard = await tab.answered("I would like a pizza.", SAID, ear, tmp_path / "answer.webm")

    assert await agents(admin, tab.room) == speakers
    assert alike(heard, SAID), heard
    await tab.hang_up()


async def test_a_customer_whom_nobody_could_answer_is_told_and_tries_again(
    installation: Installation, script: LLMStub, tab: Tab
) -> None:
    leases = open_leases(installation.settings)
    (worker,) = registry.live_workers(leases)
    name = installation.settings.agent_name
    lines = [registry.claim(leases, f"elsewhere-{n}", f"agent-{n}", name) for n in range(worker["capacity"])]
    told = tab.page.get_by_test_id("error")

    await tab.page.get_by_test_id("start").click()
    await expect(told).to_contain_text("All lines are busy", timeout=10_000)
    await expect(told).to_contain_text("A line may be free in 10 s.")
    await tab.shot("rooms-4-refused")
    for line in lines:
        leases.release(line)
    leases.close()
    await expect(tab.page.get_by_test_id("start")).to_have_text("Try again")
    await tab.call()

    await tab.hang_up()


async def test_a_customer_in_line_is_told_so_until_somebody_is_free_or_nobody_was(
    installation: Installation, script: LLMStub, tab: Tab, admin: RoomAdmin
) -> None:
    await tab.page.route("**/api/token", without_an_agent(installation))
    notice, error = tab.page.get_by_test_id("notice"), tab.page.get_by_test_id("error")

    await tab.dial()
    await wait_until(lambda: in_room(admin, tab))
    await mark_busy(installation, tab.room)
    await tab.reaches("busy")
    await expect(notice).to_have_text("All lines are busy. You are in line; please stay on.")
    await tab.shot("rooms-5-busy")
    await admin.dispatch(tab.room, "voicectl", {})  # as the reconciler does when a line is free
    await tab.reaches("audible")
    await tab.hang_up()

    await tab.dial()
    await wait_until(lambda: in_room(admin, tab))
    await mark_busy(installation, tab.room)
    await tab.reaches("busy")
    await admin.delete_room(tab.room)
    await tab.reaches("ended")
    await expect(error).to_contain_text("All lines stayed busy")
    await expect(tab.page.get_by_test_id("start")).to_have_text("Call again")
    await tab.shot("rooms-6-nobody-was-free")


async def test_what_impatience_and_a_crashed_tab_left_is_gone_in_time(admin: RoomAdmin, left_behind: set[str]) -> None:
    await gone(admin, left_behind, FORGOTTEN_S)
