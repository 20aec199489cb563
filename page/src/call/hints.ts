/**
 * Silences that must not look alike: nothing is heard from the microphone; sound is heard but no words come; what was
 * typed moves nobody. Fed with one sample at a time; holds no clock of its own.
 */
import { VOICE_LEVEL } from "../mic/level";

export const SILENT_S = 10;
/** Sound that must have passed before missing words mean anything. */
export const SPOKEN_S = 2;
/** Speech recognition on two cores takes up to 4 s after the end of a sentence. */
export const UNHEARD_S = 8;

/** Right after a reconnection typed text can be lost without an error (measured); an agent reacts within a second. */
export const UNANSWERED_S = 8;

export type Hint = "no-speech" | "no-transcript" | "no-answer" | null;

export interface Ear {
  /** When the microphone last had reason to be quiet, or was heard. */
  quietSinceMs: number;
  /** Length of the sound that no transcript has answered. */
  spokenMs: number;
  /** When that sound began; null when there is none. */
  spokenSinceMs: number | null;
  lastMs: number;
  hint: Hint;
}

export interface Sample {
  nowMs: number;
  /** 0 to 1, see mic/level.ts. */
  level: number;
  /** The customer is expected to speak: the agent listens, the microphone is open. */
  expected: boolean;
  /** When words of the customer last arrived; null for never. */
  wordsAtMs: number | null;
}

export function newEar(nowMs: number): Ear {
  return { quietSinceMs: nowMs, spokenMs: 0, spokenSinceMs: null, lastMs: nowMs, hint: null };
}

/** The ear after one more sample. */
export function listen(ear: Ear, { nowMs, level, expected, wordsAtMs }: Sample): Ear {
  const step = nowMs - ear.lastMs;
  const heard = level >= VOICE_LEVEL;
  const answered = wordsAtMs !== null && wordsAtMs > ear.lastMs;
  const quietSinceMs = heard || !expected ? nowMs : ear.quietSinceMs;

  let { spokenMs, spokenSinceMs } = ear;
  if (answered) [spokenMs, spokenSinceMs] = [0, null];
  else if (heard && expected) [spokenMs, spokenSinceMs] = [spokenMs + step, spokenSinceMs ?? nowMs];

  const unheard = spokenSinceMs !== null && spokenMs >= SPOKEN_S * 1000 && nowMs - spokenSinceMs >= UNHEARD_S * 1000;
  const silent = nowMs - quietSinceMs >= SILENT_S * 1000;
  const hint: Hint = unheard ? "no-transcript" : silent ? "no-speech" : null;
  return { quietSinceMs, spokenMs, spokenSinceMs, lastMs: nowMs, hint };
}

/** Whether typed text has waited too long for any sign of the agent. */
export function unanswered(typedAtMs: number | null, nowMs: number): boolean {
  return typedAtMs !== null && nowMs - typedAtMs >= UNANSWERED_S * 1000;
}

export function hintWords(hint: Exclude<Hint, null>): string {
  switch (hint) {
    case "no-speech":
      return `No speech heard for ${SILENT_S} s. Is the right microphone chosen, and is it switched on?`;
    case "no-transcript":
      return "Your microphone is heard, but no words were recognised. Speak a little closer, or type below.";
    case "no-answer":
      return "The agent has not reacted to what you typed. Send it again, or say it.";
  }
}
