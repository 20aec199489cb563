/** What the agent remembers, as it sends it. Reading only: forgetting is asked of the agent (call/streams.ts). */

export interface Fact {
  id: string;
  text: string;
  /** The customer's sentence that taught it; null where nobody said it in a call. */
  because: string | null;
  /** tool | rule | operator | ade | memory_step; more may come. */
  source: string;
}

/** The facts in a message of topic voice.memory, or null when it is not one. A fact without id or text is dropped. */
export function parseFacts(message: string): Fact[] | null {
  let data: unknown;
  try {
    data = JSON.parse(message);
  } catch {
    return null;
  }
  const list = (data as { facts?: unknown } | null)?.facts;
  if (!Array.isArray(list)) return null;
  return list.flatMap((item: Record<string, unknown> | null) =>
    item && (typeof item["id"] === "string" || typeof item["id"] === "number") && typeof item["text"] === "string"
      ? [
          {
            id: String(item["id"]),
            text: item["text"],
            because: typeof item["because"] === "string" && item["because"] !== "" ? item["because"] : null,
            source: typeof item["source"] === "string" ? item["source"] : "",
          },
        ]
      : [],
  );
}

/** Ids that were not there before; nothing is new in the first list, which is what was known when the call began. */
export function newIds(before: readonly Fact[] | null, after: readonly Fact[]): string[] {
  if (before === null) return [];
  const known = new Set(before.map((fact) => fact.id));
  return after.filter((fact) => !known.has(fact.id)).map((fact) => fact.id);
}

/** Where a fact without a sentence comes from, in words. */
export function originOf(source: string): string {
  switch (source) {
    case "operator":
      return "Noted by a person here";
    case "ade":
      return "Noted by a person in Letta";
    case "memory_step":
      return "Learnt after an earlier call";
    case "rule":
    case "tool":
      return "Learnt in an earlier call";
    default:
      return "Known from before";
  }
}
