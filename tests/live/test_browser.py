"""The page in a real browser: a customer is answered aloud, sees what is remembered, and has it forgotten."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.support.browser import SHOTS, chromium, microphone_file, record, recorded
from tests.support.installation import Installation
from tests.support.llm_stub import LLMStub, Reply, by_keyword
from tests.support.waiting import wait_until
from voicectl.memory import profile
from voicectl.voice.speech import Ear, Voice

pytestmark = [pytest.mark.live, pytest.mark.alone, pytest.mark.timeout(180)]


@pytest.fixture
async def page(installation: Installation, voice: Voice, tmp_path: Path) -> AsyncIterator[Page]:
    line = voice.line("My name is Daniel, and I love old trains.")
    # After 9 s the greeting is over.
    async with chromium(microphone_file(tmp_path / "microphone.wav", line, after_s=9)) as browser:
        context = await browser.new_context(permissions=["microphone"])
        opened = await context.new_page()
        await opened.goto(installation.url)
        yield opened


async def test_a_customer_talks_through_the_page_and_forgets_a_fact(
    installation: Installation, script: LLMStub, page: Page, ear: Ear, customer: str, tmp_path: Path
) -> None:
    script.script = by_keyword(
        {
            "Result:": Reply("How nice, I will remember the old trains."),
            "train": Reply(tool="remember", arguments={"fact": "loves old trains"}),
        }
    )
    SHOTS.mkdir(parents=True, exist_ok=True)

    await page.get_by_test_id("who").fill(customer)
    await page.screenshot(path=SHOTS / "1-before.png")
    await page.get_by_test_id("start").click()
    await expect(page.get_by_test_id("state")).to_have_attribute("data-step", "audible", timeout=30_000)
    await record(page)
    user = page.locator("[data-testid=transcript] [data-role=user], [data-testid=transcript][data-role=user]")
    agent = page.locator("[data-testid=transcript] [data-role=agent], [data-testid=transcript][data-role=agent]")
    await expect(user.first).to_contain_text("train", ignore_case=True, timeout=40_000)
    await expect(agent.last).to_contain_text("old trains", ignore_case=True, timeout=30_000)
    facts = page.get_by_test_id("memory-fact")
    await expect(facts.filter(has_text="name: Daniel")).to_be_visible(timeout=15_000)
    loves = facts.filter(has_text="loves old trains")
    await expect(loves).to_contain_text(re.compile(r"\bI lov", re.IGNORECASE))  # in the customer's own words
    await expect(page.get_by_test_id("state")).to_have_attribute("data-activity", "listening", timeout=20_000)
    await page.screenshot(path=SHOTS / "2-in-call.png")
    heard = await recorded(page, ear, tmp_path / "heard.webm")

    await loves.get_by_test_id("forget").click()
    await page.get_by_test_id("forget-confirm").click()
    await expect(loves).to_have_count(0, timeout=10_000)
    await page.get_by_test_id("end").click()
    await expect(page.get_by_test_id("state")).to_have_attribute("data-step", "ended", timeout=10_000)
    await page.screenshot(path=SHOTS / "3-ended.png")

    assert "train" in heard.lower()
    store = installation.store()
    await wait_until(lambda: "" if texts(store, customer) == ["name: Daniel"] else str(texts(store, customer)))
    store.close()


def texts(store: object, customer: str) -> list[str]:
    return [line.text for line in profile.lines(store, customer)]


async def test_the_page_shows_the_build_it_talks_to_and_asks_nobody_else(
    page: Page, installation: Installation
) -> None:
    asked: list[str] = []
    page.on("request", lambda r: asked.append(r.url))

    await page.reload()
    await expect(page.get_by_test_id("build")).to_contain_text("0.1.0")

    assert asked
    assert [u for u in asked if not u.startswith((installation.url, "blob:", "data:"))] == []
