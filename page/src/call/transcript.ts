/**
 * The words of both sides, kept by the page itself: LiveKit's own list is emptied when the call ends.
 * Segments come in pieces and may be corrected; what is shown is one bubble per turn.
 */

export type Role = "user" | "agent";

export interface Line {
  /** The segment's id; later pieces of the same segment replace it. */
  id: string;
  role: Role;
  text: string;
  /** False while the words may still change. */
  final: boolean;
  typed: boolean;
}

/** The lines with one segment added, or replaced in its place. A segment without words only ends one that is there. */
export function withSegment(lines: readonly Line[], segment: Line): Line[] {
  const at = lines.findIndex((line) => line.id === segment.id && line.role === segment.role);
  const text = segment.text.trim();
  if (at < 0) return text === "" ? [...lines] : [...lines, { ...segment, text }];
  const before = lines[at]!;
  // A corrected piece may arrive after the final one; words that were final stay.
  if (before.final && !segment.final) return [...lines];
  const after = [...lines];
  after[at] = { ...segment, text: text || before.text };
  return after;
}

/** What is shown: recognition splits a turn at pauses, so neighbouring spoken lines of the customer become one. */
export function bubbles(lines: readonly Line[]): Line[] {
  const shown: Line[] = [];
  for (const line of lines) {
    const last = shown.at(-1);
    if (last?.role === "user" && line.role === "user" && !last.typed && !line.typed) {
      shown[shown.length - 1] = { ...last, text: `${last.text} ${line.text}`, final: last.final && line.final };
    } else {
      shown.push({ ...line });
    }
  }
  return shown;
}

/** The call as text, for copying. */
export function asText(lines: readonly Line[], agent: string): string {
  return bubbles(lines)
    .map((line) => `${line.role === "user" ? "You" : agent}: ${line.text}`)
    .join("\n");
}
