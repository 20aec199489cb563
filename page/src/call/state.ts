/**
 * Where the call stands, derived from what is observed now and never from the order of events: an agent that was there
 * before us and one that joins after us lead to the same state.
 *
 * Steps: requested (the call was asked for) → accepted (a worker took it: the room says so, or its agent is here)
 * → joined (the agent participant is in the room) → audible (its sound was played here with energy in it).
 */
import { AgentAttribute, RoomMark } from "../events";

export const STEPS = ["requested", "accepted", "joined", "audible"] as const;
export type Step = (typeof STEPS)[number];

/** Seconds without an agent after which we say so. */
export const AGENT_WAIT_S = 10;

/** A participant, as far as the state depends on it. */
export interface Seen {
  identity: string;
  isAgent: boolean;
  joinedAtMs: number;
  attributes: Readonly<Record<string, string>>;
}

export interface Mark {
  state: "accepted" | "busy" | "failed" | null;
  reason: string;
}

export interface Observed {
  connection: "opening" | "open" | "reopening" | "ended";
  agent: Seen | null;
  /** An agent was in this call before. */
  hadAgent: boolean;
  mark: Mark;
  /** The present agent's sound was heard. */
  heard: boolean;
  /** Seconds since an agent has been missing. */
  waitedS: number;
}

export type Activity = "waiting" | "preparing" | "listening" | "thinking" | "speaking" | "reconnecting" | "ended";

export interface CallState {
  step: Step;
  activity: Activity;
  /** The state in a few words. */
  words: string;
  /** Something the customer should know; `retry` offers a new call. */
  notice: { words: string; retry: boolean } | null;
}

/** The agent among the participants: of kind agent, no avatar; of two the one that came last, as the older is leaving. */
export function agentAmong(participants: Iterable<Seen>): Seen | null {
  let found: Seen | null = null;
  for (const one of participants) {
    if (!one.isAgent || one.attributes[AgentAttribute.PUBLISH_ON_BEHALF]) continue;
    if (found === null || one.joinedAtMs >= found.joinedAtMs) found = one;
  }
  return found;
}

/** What the room's metadata says about the call; anything unreadable says nothing. */
export function markOf(metadata: string | undefined): Mark {
  const nothing: Mark = { state: null, reason: "" };
  if (!metadata) return nothing;
  try {
    const data = JSON.parse(metadata) as Record<string, unknown> | null;
    const state = data?.[RoomMark.STATE];
    const reason = data?.[RoomMark.REASON];
    if (state !== "accepted" && state !== "busy" && state !== "failed") return nothing;
    return { state, reason: typeof reason === "string" ? reason : "" };
  } catch {
    return nothing; // metadata may belong to somebody else's front end
  }
}

export function deriveState(seen: Observed): CallState {
  const { agent, mark } = seen;
  const step: Step = agent
    ? seen.heard
      ? "audible"
      : "joined"
    : mark.state === "accepted" && !seen.hadAgent
      ? "accepted"
      : "requested";
  const state = (activity: Activity, words: string, notice: CallState["notice"] = null): CallState => ({
    step,
    activity,
    words,
    notice,
  });

  if (seen.connection === "ended") return state("ended", "Call ended");
  if (seen.connection === "reopening") return state("reconnecting", "Reconnecting…");

  const failed = agent?.attributes[AgentAttribute.FAILED] ?? (mark.state === "failed" ? mark.reason || "unknown" : null);
  if (failed) return state("waiting", "No agent", { words: `The agent had to give up: ${failed}`, retry: true });
  const busy = agent?.attributes[AgentAttribute.BUSY] ?? (mark.state === "busy" ? mark.reason : null);
  if (busy !== null) {
    const words = busy ? `All agents are busy: ${busy}` : "All agents are busy. You are in line; stay on, or try later.";
    return state("waiting", "Waiting in line…", { words, retry: seen.waitedS >= AGENT_WAIT_S });
  }
  if (!agent) return missing(seen, state);
  return present(agent, seen.heard, state);
}

type Make = (activity: Activity, words: string, notice?: CallState["notice"]) => CallState;

function missing(seen: Observed, state: Make): CallState {
  const late = seen.waitedS >= AGENT_WAIT_S;
  if (seen.hadAgent) {
    const words = late
      ? `The agent was lost and no other has come for ${Math.floor(seen.waitedS)} s.`
      : "The agent was lost. Another one is taking over.";
    return state("waiting", "Getting another agent…", { words, retry: late });
  }
  const words = seen.connection === "opening" ? "Connecting…" : "Asking for an agent…";
  if (!late) return state("waiting", words);
  return state("waiting", words, {
    words: `No agent has joined for ${Math.floor(seen.waitedS)} s. It may be starting or busy.`,
    retry: true,
  });
}

function present(agent: Seen, heard: boolean, state: Make): CallState {
  switch (agent.attributes[AgentAttribute.STATE]) {
    case "listening":
      return state("listening", "Listening");
    case "thinking":
      return state("thinking", "Thinking…");
    case "speaking":
      return state("speaking", "Speaking");
    default:
      return heard ? state("listening", "Connected") : state("preparing", "The agent is getting ready…");
  }
}
