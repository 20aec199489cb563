import { expect, test } from "vitest";
import { AgentAttribute } from "../events";
import { agentAmong, deriveState, markOf, type Observed, type Seen } from "./state";

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
  mark: { state: null, reason: "" },
  heard: false,
  waitedS: 0,
  ...rest,
});

test("each step is only claimed when it was observed", () => {
  const accepted = markOf('{"voice.state":"accepted"}');

  expect(deriveState(seen()).step).toBe("requested");
  expect(deriveState(seen({ mark: accepted })).step).toBe("accepted");
  expect(deriveState(seen({ mark: accepted, agent: agent() })).step).toBe("joined");
  expect(deriveState(seen({ agent: agent({ [AgentAttribute.STATE]: "speaking" }) })).step).toBe("joined");
  expect(deriveState(seen({ agent: agent(), heard: true })).step).toBe("audible");
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

test("busy and failed are told with their reasons, from the room or from the agent", () => {
  const busy = deriveState(seen({ mark: markOf('{"voice.state":"busy","voice.reason":"two ahead of you"}') }));
  const failed = deriveState(seen({ agent: agent({ [AgentAttribute.FAILED]: "no language model" }) }));

  expect(busy.notice?.words).toContain("two ahead of you");
  expect(busy.notice?.retry).toBe(false);
  expect(failed.notice).toEqual({ words: "The agent had to give up: no language model", retry: true });
});

test("metadata of somebody else's front end says nothing", () => {
  for (const metadata of [undefined, "", "not json", "null", '{"voice.state":"other"}', "[1]"]) {
    expect(markOf(metadata).state).toBeNull();
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
