"""Chromium with a microphone that plays a file, and one tab of the page as a customer uses it.

    async with chromium(wav) as browser:
        tab = await Tab.open(browser, installation.url, "user:1")
        await tab.call()  # audible, by sound that was played in this tab

Not here: what is expected of a call (the tests), the installation (installation.py).
"""

from __future__ import annotations

import base64
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import jwt
import numpy as np
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from tests.support.installation import CACHE
from voicectl.voice.speech import Ear, Pcm, write_wav

RATE = 24_000
SHOTS = CACHE / "screenshots"
AUDIBLE_MS = 60_000.0  # a second call in a row waits for a fresh process, which loads its models on a busy machine
ANSWER_MS = 30_000.0
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
# Every state that the call went through from now on; a look now and then could miss one.
WATCH = """
() => {
  window.states = [];
  const note = () => {
    const state = document.querySelector("[data-testid=state]");
    window.states.push(state ? `${state.dataset.step} ${state.dataset.activity}` : "no call");
  };
  note();
  const what = { subtree: true, childList: true, attributes: true, attributeFilter: ["data-step", "data-activity"] };
  new MutationObserver(note).observe(document.body, what);
}
"""


@asynccontextmanager
async def chromium(microphone: Path) -> AsyncIterator[Browser]:
    """A browser whose microphone plays a WAV file once, from its beginning at each opening."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(
            executable_path=program,
            args=[
                "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream",
                f"--use-file-for-fake-audio-capture={microphone}%noloop",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        yield browser
        await browser.close()


def microphone_file(path: Path, line: Pcm, *, after_s: int, rest_s: int = 60) -> Path:
    """A WAV for the microphone: silence for `after_s`, the line, silence for `rest_s`."""
    write_wav(path, np.concatenate([np.zeros(RATE * after_s, np.int16), line, np.zeros(RATE * rest_s, np.int16)]))
    return path


async def record(page: Page) -> None:
    """Keep what the page plays from now on."""
    await page.evaluate(RECORD)


async def recorded(page: Page, ear: Ear, path: Path) -> str:
    """What was said in the sound since `record`, by an ear of our own; the sound is kept at `path`."""
    path.write_bytes(base64.b64decode(await page.evaluate(RECORDED)))
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
        frames = [f for frame in container.decode(audio=0) for f in resampler.resample(frame)]
    pcm = np.concatenate([f.to_ndarray().reshape(-1) for f in frames]).astype(np.int16)
    return ear.transcribe(pcm, RATE)


@dataclass
class Tab:
    """One tab on the page.

    Attributes:
        context: What it shares nothing of with other tabs, or all of it with those of the same browser window.
        page: The tab.
        room: Of the last call that was placed in it.
        identity: The customer's participant in that room.
    """

    context: BrowserContext
    page: Page
    room: str = ""
    identity: str = ""

    @classmethod
    async def open(cls, where: Browser | BrowserContext, url: str, customer: str) -> Tab:
        """A tab on the page with the customer's name filled in; of a Browser in a context of its own."""
        context = await where.new_context(permissions=["microphone"]) if isinstance(where, Browser) else where
        page = await context.new_page()
        await page.goto(url)
        await page.get_by_test_id("who").fill(customer)
        return cls(context, page)

    async def dial(self) -> None:
        """Place a call, or another one; returns when the server has given the token."""
        async with self.page.expect_response("**/api/token") as answer:
            await self.page.get_by_test_id("start").click()
        token = (await (await answer.value).json())["participant_token"]
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
        self.room, self.identity = claims["video"]["room"], claims["sub"]

    async def call(self) -> None:
        """Place a call and wait until the agent is heard in this tab."""
        await self.dial()
        await self.reaches("audible", AUDIBLE_MS)

    async def reaches(self, step: str, timeout_ms: float = ANSWER_MS) -> None:
        """Wait for a step of the call."""
        await expect(self.page.get_by_test_id("state")).to_have_attribute("data-step", step, timeout=timeout_ms)

    async def doing(self, activity: str, timeout_ms: float = ANSWER_MS) -> None:
        """Wait for what the agent does."""
        await expect(self.page.get_by_test_id("state")).to_have_attribute("data-activity", activity, timeout=timeout_ms)

    async def answered(self, typed: str, answer: str, ear: Ear, path: Path) -> str:
        """Type a line when the agent listens, wait for its answer in words; returns what was heard of it."""
        await self.doing("listening")
        await record(self.page)
        await self.page.get_by_test_id("chat").fill(typed)
        await self.page.get_by_test_id("send").click()
        agent = self.page.get_by_test_id("transcript").locator("[data-role=agent]")
        await expect(agent.last).to_contain_text(answer, ignore_case=True, timeout=ANSWER_MS)
        await self.doing("listening")
        return await recorded(self.page, ear, path)

    async def hang_up(self) -> None:
        """End the call with the button."""
        await self.page.get_by_test_id("end").click()
        await self.reaches("ended")

    async def watch(self) -> None:
        """From now on remember every state of the call."""
        await self.page.evaluate(WATCH)

    async def states(self) -> list[str]:
        """The states since `watch`, as "step activity", without repetitions in a row."""
        found: list[str] = await self.page.evaluate("() => window.states")
        return [state for before, state in zip(["", *found], found, strict=False) if state != before]

    async def shot(self, name: str) -> None:
        """Keep a picture for people to look at."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        await self.page.screenshot(path=SHOTS / f"{name}.png")
