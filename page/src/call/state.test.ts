import { expect, test } from "vitest";
import { AgentAttribute } from "../events";
import { agentAmong, deriveState, isBusy, type Observed, type Seen } from "./state";

const agent = (attributes: Record<string, string> = {}, rest: Partial<Seen> = {}): Seen => ({
  identity: "agent-1",
  isAgent: true,
  joinedAtMs: 1,
  attributes,
  ...rest,
});

const seen = (rest: Partial<Observed> = {}): Observed => ({
  connection: "open",
  agent: null,
  hadAgent: false,
  busy: false,
  sounds: false,
  heard: false,
  waitedS: 0,
  ...rest,
});

test("each step is only claimed when it was observed", () => {
  const speaking = agent({ [AgentAttribute.STATE]: "speaking" });

  expect(deriveState(seen()).step).toBe("requested");
  expect(deriveState(seen({ busy: true })).step).toBe("busy");
  expect(deriveState(seen({ agent: speaking })).step).toBe("accepted");
  expect(deriveState(seen({ agent: speaking, sounds: true })).step).toBe("joined");
  expect(deriveState(seen({ agent: speaking, sounds: true, heard: true })).step).toBe("audible");
});

test.each(["listening", "thinking", "speaking"])("the agent's own state %s is shown", (state) => {
  expect(deriveState(seen({ agent: agent({ [AgentAttribute.STATE]: state }) })).activity).toBe(state);
});

test("an agent that does not come is said after 10 s, with a way out", () => {
  expect(deriveState(seen({ waitedS: 9 })).notice).toBeNull();

  const { notice } = deriveState(seen({ waitedS: 10 }));

  expect(notice?.words).toContain("10 s");
  expect(notice?.retry).toBe(true);
});

test("an agent that was lost is not one that never came", () => {
  const soon = deriveState(seen({ hadAgent: true, waitedS: 1 }));
  const late = deriveState(seen({ hadAgent: true, waitedS: 12 }));

  expect(soon.notice).toEqual({ words: "The agent was lost. Another one is taking over.", retry: false });
  expect(late.notice?.retry).toBe(true);
});

test("who waits for a free line is told so, and a new call, which would be last in line, is offered late", () => {
  const { words, retry } = deriveState(seen({ busy: true, waitedS: 12 })).notice!;

  expect(words).toBe("All lines are busy. You are in line; please stay on.");
  expect(retry).toBe(false);
  expect(deriveState(seen({ busy: true, waitedS: 40 })).notice?.retry).toBe(true);
  expect(deriveState(seen({ busy: true, hadAgent: true })).notice?.words).toContain("lost");
});

test("an agent that is here outranks a mark that says busy", () => {
  const { step, notice } = deriveState(seen({ busy: true, agent: agent(), sounds: true }));

  expect([step, notice]).toEqual(["joined", null]);
});

test("an agent without its memory says so, and not any longer than that", () => {
  const away = deriveState(seen({ agent: agent({ [AgentAttribute.MEMORY]: "away" }) }));
  const back = deriveState(seen({ agent: agent({ [AgentAttribute.MEMORY]: "" }) }));

  expect(away.notice?.words).toContain("memory");
  expect(back.notice).toBeNull();
});

test("busy is read from the room's metadata, and somebody else's metadata says nothing", () => {
  expect(isBusy('{"voice.desk":"shop","voice.busy":"1795200000"}')).toBe(true);
  for (const metadata of [undefined, "", "not json", "null", '{"voice.desk":"shop"}', '{"voice.busy":""}', "[1]"]) {
    expect(isBusy(metadata)).toBe(false);
  }
});

test("a lost connection outranks what the agent last said", () => {
  const speaking = agent({ [AgentAttribute.STATE]: "speaking" });

  expect(deriveState(seen({ connection: "reopening", agent: speaking })).activity).toBe("reconnecting");
  expect(deriveState(seen({ connection: "ended", agent: speaking })).activity).toBe("ended");
});

test("the agent is told from customers and avatars, and the newer one wins", () => {
  const human = agent({}, { identity: "agent-bot", isAgent: false, joinedAtMs: 9 });
  const avatar = agent({ [AgentAttribute.PUBLISH_ON_BEHALF]: "new" }, { identity: "avatar", joinedAtMs: 9 });
  const old = agent({}, { identity: "old", joinedAtMs: 1 });
  const fresh = agent({}, { identity: "new", joinedAtMs: 2 });

  expect(agentAmong([human, avatar])).toBeNull();
  expect(agentAmong([old, fresh, avatar])?.identity).toBe("new");
  expect(agentAmong([fresh, old])?.identity).toBe("new");
});
