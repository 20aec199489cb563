import { expect, test } from "vitest";
import { asText, bubbles, withSegment, type Line } from "./transcript";

const line = (id: string, role: Line["role"], text: string, rest: Partial<Line> = {}): Line => ({
  id,
  role,
  text,
  final: true,
  typed: false,
  ...rest,
});

test("a corrected guess replaces the one before it, in its place", () => {
  const first = withSegment([], line("u1", "user", "my favourite", { final: false }));
  const answered = withSegment(first, line("a1", "agent", "Yes?"));

  const corrected = withSegment(answered, line("u1", "user", "My favourite colour is teal."));

  expect(corrected.map((one) => one.text)).toEqual(["My favourite colour is teal.", "Yes?"]);
});

test("a guess that arrives after the final words does not undo them", () => {
  const final = withSegment([], line("u1", "user", "Teal."));

  const late = withSegment(final, line("u1", "user", "Teel", { final: false }));

  expect(late).toEqual(final);
});

test("a final segment without words ends the guess and keeps its words", () => {
  const guess = withSegment([], line("u1", "user", "hello", { final: false }));

  const ended = withSegment(guess, line("u1", "user", "", { final: true }));

  expect(ended).toEqual([line("u1", "user", "hello")]);
  expect(withSegment([], line("u2", "user", "  "))).toEqual([]);
});

test("a turn that recognition split at pauses is one bubble", () => {
  const lines = [line("u1", "user", "I like tea."), line("u2", "user", "And", { final: false })];

  expect(bubbles(lines)).toEqual([line("u1", "user", "I like tea. And", { final: false })]);
});

test("typed lines and the agent's sentences stay apart", () => {
  const lines = [
    line("u1", "user", "Hello."),
    line("t1", "user", "ping", { typed: true }),
    line("u2", "user", "Are you there?"),
    line("a1", "agent", "Yes."),
    line("a2", "agent", "How can I help?"),
  ];

  expect(bubbles(lines).map((one) => one.id)).toEqual(["u1", "t1", "u2", "a1", "a2"]);
});

test("the copied transcript names both sides", () => {
  expect(asText([line("a1", "agent", "Hello."), line("u1", "user", "Hi.")], "Shop")).toBe("Shop: Hello.\nYou: Hi.");
});
