import { expect, test } from "vitest";
import { micFailure, micProblem } from "./failure";
import { VOICE_LEVEL, levelOf } from "./level";

const named = (name: string) => Object.assign(new Error("from the browser"), { name });

test.each([
  ["NotAllowedError", "denied"],
  ["NotFoundError", "missing"],
  ["OverconstrainedError", "missing"],
  ["NotReadableError", "in-use"],
  ["TypeError", "other"],
] as const)("%s is %s", (name, failure) => {
  expect(micFailure(named(name), true)).toBe(failure);
});

test("without a secure address nothing else matters", () => {
  expect(micFailure(named("NotAllowedError"), false)).toBe("insecure");
});

test("each failure has words and a remedy of its own", () => {
  const problems = (["insecure", "denied", "missing", "in-use", "unplugged", "other"] as const).map((one) =>
    micProblem(one),
  );

  expect(new Set(problems.map((problem) => problem.title)).size).toBe(problems.length);
  expect(new Set(problems.map((problem) => problem.remedy)).size).toBe(problems.length);
  expect(micProblem("other", named("OddError")).detail).toBe("from the browser");
});

test("silence is 0, a loud tone 1, and soft speech counts as a voice while room noise does not", () => {
  const tone = (amplitude: number) =>
    Float32Array.from({ length: 1024 }, (_, i) => amplitude * Math.sin((2 * Math.PI * i) / 64));

  expect(levelOf(new Float32Array(1024))).toBe(0);
  expect(levelOf(tone(0.9))).toBe(1);
  expect(levelOf(tone(0.025))).toBeGreaterThan(VOICE_LEVEL); // -35 dB
  expect(levelOf(tone(0.004))).toBeLessThan(VOICE_LEVEL); // -51 dB
});
