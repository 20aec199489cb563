"""The page in a real browser: a customer is answered aloud, sees what is remembered, and has it forgotten."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import av
import numpy as np
import pytest
from playwright.async_api import Page, async_playwright, expect

from tests.support.installation import CACHE, Installation
from tests.support.llm_stub import LLMStub, Reply, by_keyword
from tests.support.waiting import wait_until
from voicectl.memory import profile
from voicectl.voice.speech import Ear, Voice

pytestmark = [pytest.mark.live, pytest.mark.alone, pytest.mark.timeout(180)]
RATE = 24_000
SHOTS = CACHE / "screenshots"
RECORD = """
async () => {
  const stream = document.querySelector("audio").srcObject;
  window.recorder = new MediaRecorder(stream);
  window.chunks = [];
  window.recorder.ondataavailable = (e) => window.chunks.push(e.data);
  window.recorder.start(200);
}
"""
RECORDED = """
async () => {
  await new Promise((done) => { window.recorder.onstop = done; window.recorder.stop(); });
  const bytes = new Uint8Array(await new Blob(window.chunks).arrayBuffer());
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}
"""


def microphone(voice: Voice, path: Path, line: str) -> Path:
    """A WAV for the fake microphone: silence while the greeting plays, then the line, then silence."""
    from voicectl.voice.speech import write_wav

    spoken = voice.line(line)
    quiet = np.zeros(RATE * 9, np.int16)
    write_wav(path, np.concatenate([quiet, spoken, np.zeros(RATE * 60, np.int16)]))
    return path


@pytest.fixture
async def page(installation: Installation, voice: Voice, tmp_path: Path) -> AsyncIterator[Page]:
    wav = microphone(voice, tmp_path / "microphone.wav", "My name is Daniel, and I love old trains.")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(
            executable_path=chromium,
            args=[
                "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream",
                f"--use-file-for-fake-audio-capture={wav}%noloop",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        context = await browser.new_context(permissions=["microphone"])
        opened = await context.new_page()
        await opened.goto(installation.url)
        yield opened
        await browser.close()


async def transcribed(page: Page, ear: Ear, path: Path) -> str:
    path.write_bytes(base64.b64decode(await page.evaluate(RECORDED)))
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
        frames = [f for frame in container.decode(audio=0) for f in resampler.resample(frame)]
    pcm = np.concatenate([f.to_ndarray().reshape(-1) for f in frames]).astype(np.int16)
    return ear.transcribe(pcm, RATE)


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
    await page.evaluate(RECORD)
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
    heard = await transcribed(page, ear, tmp_path / "heard.webm")

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
