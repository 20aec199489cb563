/**
 * Names that the page and the server must spell alike. Constants only.
 * What the values mean is written where they are read: call/call.ts, call/state.ts, memory/facts.ts.
 */

/** Topics of LiveKit text streams. */
export const Topic = {
  /** Both sides' words, from livekit-agents. */
  TRANSCRIPTION: "lk.transcription",
  /** What the customer types. */
  CHAT: "lk.chat",
  /** What the agent remembers about this customer, whole, each time it changes. */
  MEMORY: "voice.memory",
} as const;

/** Methods the page calls on the agent. */
export const Rpc = {
  /** {"id"} → {"ok":true} | {"ok":false,"error"} */
  FORGET: "voice.forget",
} as const;

/** Attributes of the agent participant. */
export const AgentAttribute = {
  /** initializing | idle | listening | thinking | speaking, from livekit-agents. */
  STATE: "lk.agent.state",
  /** Set on an avatar that speaks for an agent; it is not an agent itself. */
  PUBLISH_ON_BEHALF: "lk.publish_on_behalf",
  /** "away" while the store does not answer and the agent speaks without what it knows. */
  MEMORY: "voice.memory",
} as const;

/** Attributes of a transcription stream. */
export const TranscriptAttribute = {
  SEGMENT: "lk.segment_id",
  FINAL: "lk.transcription_final",
} as const;

/** Keys of the room's metadata, a JSON object. */
export const RoomMark = {
  /** Since when the customer waits for a free line, in seconds since 1970 as text; absent: not busy. */
  BUSY: "voice.busy",
} as const;
