/** A problem as people read it: what happened, and what helps. Every failure of the page ends up as one of these. */

export interface Problem {
  /** What went wrong, one sentence. */
  title: string;
  /** What the reader can do about it. */
  remedy: string;
  /** A command or a line of configuration to copy, shown as code. */
  command?: string;
  /** What the machine said, for whoever must find the cause. */
  detail?: string;
}

/** The text of anything that was thrown. */
export function textOf(error: unknown): string {
  return error instanceof Error ? error.message || error.name : String(error);
}
