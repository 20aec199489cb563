/**
 * Where the call stands, derived from what is observed now and never from the order of events: an agent that was there
 * before us and one that joins after us lead to the same state.
 *
 * Steps: requested (the call was asked for) → accepted (a worker took it: its agent is in the room) → joined (the agent
 * and its sound track are there) → audible (that sound was played here with energy in it). Busy stands beside them: the
 * room says that nobody is free to take the call, and keeps the customer in line.
 */
import { AgentAttribute, RoomMark } from "../events";

export const STEPS = ["requested", "accepted", "joined", "audible"] as const;
export type Step = (typeof STEPS)[number];

/** Seconds without an agent after which we say so. */
export const AGENT_WAIT_S = 10;

/** Seconds in line after which a new call is offered: the server has given up or answered by then (after 30 s). */
export const LINE_WAIT_S = 40;

/** A participant, as far as the state depends on it. */
export interface Seen {
  identity: string;
  isAgent: boolean;
  joinedAtMs: number;
  attributes: Readonly<Record<string, string>>;
}

export interface Observed {
  connection: "opening" | "open" | "reopening" | "ended";
  agent: Seen | null;
  /** An agent was in this call before. */
  hadAgent: boolean;
  /** The room says that no line is free. */
  busy: boolean;
  /** The present agent has a sound track here. */
  sounds: boolean;
  /** The present agent's sound was heard. */
  heard: boolean;
  /** Seconds since an agent has been missing. */
  waitedS: number;
}

export type Activity = "waiting" | "preparing" | "listening" | "thinking" | "speaking" | "reconnecting" | "ended";

export interface CallState {
  step: Step | "busy";
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

/** Whether the room's metadata says that the customer waits for a free line; anything unreadable says nothing. */
export function isBusy(metadata: string | undefined): boolean {
  if (!metadata) return false;
  try {
    const data = JSON.parse(metadata) as Record<string, unknown> | null;
    return Boolean(data?.[RoomMark.BUSY]);
  } catch {
    return false; // metadata may belong to somebody else's front end
  }
}

export function deriveState(seen: Observed): CallState {
  const { agent } = seen;
  const step = stepOf(seen);
  const state = (activity: Activity, words: string, notice: CallState["notice"] = null): CallState => ({
    step,
    activity,
    words,
    notice,
  });

  if (seen.connection === "ended") return state("ended", "Call ended");
  if (seen.connection === "reopening") return state("reconnecting", "Reconnecting…");
  return agent ? present(agent, seen.heard, state) : missing(seen, state);
}

function stepOf({ agent, busy, sounds, heard }: Observed): CallState["step"] {
  if (!agent) return busy ? "busy" : "requested"; // a mark that outlives the wait says nothing: the agent is here
  if (heard) return "audible";
  return sounds ? "joined" : "accepted";
}

type Make = (activity: Activity, words: string, notice?: CallState["notice"]) => CallState;

function missing(seen: Observed, state: Make): CallState {
  const late = seen.waitedS >= AGENT_WAIT_S;
  if (seen.busy) {
    const lost = seen.hadAgent ? "The agent was lost. " : "";
    const words = `${lost}All lines are busy. You are in line; please stay on.`;
    return state("waiting", "Waiting in line…", { words, retry: seen.waitedS >= LINE_WAIT_S });
  }
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
  const away = agent.attributes[AgentAttribute.MEMORY] === "away";
  const notice = away
    ? { words: "The agent cannot reach its memory right now. The call goes on without it.", retry: false }
    : null;
  switch (agent.attributes[AgentAttribute.STATE]) {
    case "listening":
      return state("listening", "Listening", notice);
    case "thinking":
      return state("thinking", "Thinking…", notice);
    case "speaking":
      return state("speaking", "Speaking", notice);
    default:
      if (heard) return state("listening", "Connected", notice);
      return state("preparing", "The agent is getting ready…", notice);
  }
}
