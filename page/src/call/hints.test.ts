import { expect, test } from "vitest";
import { listen, newEar, type Ear, type Hint, type Sample } from "./hints";

const STEP_MS = 200;

/** Feed the ear for some seconds; returns it with the hint it ends on. */
function feed(ear: Ear, seconds: number, sample: Partial<Sample> = {}): Ear {
  let now = ear;
  const steps = Math.round((seconds * 1000) / STEP_MS);
  for (let i = 0; i < steps; i++) {
    now = listen(now, { nowMs: now.lastMs + STEP_MS, level: 0, expected: true, wordsAtMs: null, ...sample });
  }
  return now;
}

const hintAfter = (seconds: number, sample: Partial<Sample> = {}): Hint => feed(newEar(0), seconds, sample).hint;

test("silence becomes a hint after 10 s, not before", () => {
  expect(hintAfter(9.8)).toBeNull();
  expect(hintAfter(10)).toBe("no-speech");
});

test("silence is nothing to remark while the agent speaks or the customer is muted", () => {
  expect(hintAfter(30, { expected: false })).toBeNull();
});

test("sound without words is another hint than silence", () => {
  expect(hintAfter(7, { level: 0.6 })).toBeNull();
  expect(hintAfter(9, { level: 0.6 })).toBe("no-transcript");
});

test("a short noise asks for no transcript", () => {
  const noise = feed(newEar(0), 1, { level: 0.6 });

  expect(feed(noise, 8.8).hint).toBeNull();
});

test("words that arrive take the hint back", () => {
  const unheard = feed(newEar(0), 9, { level: 0.6 });

  const answered = listen(unheard, {
    nowMs: unheard.lastMs + STEP_MS,
    level: 0.6,
    expected: true,
    wordsAtMs: unheard.lastMs + 100,
  });

  expect(unheard.hint).toBe("no-transcript");
  expect(answered.hint).toBeNull();
});
