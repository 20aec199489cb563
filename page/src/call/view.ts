/** What a call shows: one immutable record, replaced when something changed. Not here: what changes it (call.ts). */
import type { RemoteAudioTrack } from "livekit-client";
import type { Fact } from "../memory/facts";
import type { Problem } from "../problem";
import type { Ending } from "./ending";
import type { Hint } from "./hints";
import type { CallState, Observed, Step } from "./state";
import type { Line } from "./transcript";

export interface CallView {
  state: CallState;
  connection: Observed["connection"];
  /** The room was joined, so there is something to keep. */
  wasOpen: boolean;
  lines: readonly Line[];
  facts: readonly Fact[] | null;
  /** Facts learnt in this call. */
  fresh: readonly string[];
  hint: Hint;
  muted: boolean;
  soundBlocked: boolean;
  /** Milliseconds from the click to each step, where it was observed. */
  reachedMs: Partial<Record<Step, number>>;
  voice: RemoteAudioTrack | null;
  /** The microphone broke during the call. */
  micTrouble: Problem | null;
  ending: Ending | null;
  lastedS: number;
}

/** The view of a call that was just asked for. */
export function firstView(state: CallState, facts: readonly Fact[] | null): CallView {
  return {
    state,
    connection: "opening",
    wasOpen: false,
    lines: [],
    facts,
    fresh: [],
    hint: null,
    muted: false,
    soundBlocked: false,
    reachedMs: { requested: 0 },
    voice: null,
    micTrouble: null,
    ending: null,
    lastedS: 0,
  };
}

/** The view after a change, or the same object when nothing in it is different. */
export function changed(view: CallView, change: Partial<CallView>): CallView {
  const same = (Object.keys(change) as (keyof CallView)[]).every((key) => equal(view[key], change[key]));
  return same ? view : { ...view, ...change };
}

// Tracks and lists are compared by identity, the small records by value.
function equal(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  const record = (value: unknown): value is object =>
    typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype;
  return record(a) && record(b) && JSON.stringify(a) === JSON.stringify(b);
}
