/** What agent and page send each other besides sound: words, facts, the wish to forget one. Reading and asking only. */
import type { Room, TextStreamReader } from "livekit-client";
import { Rpc, TranscriptAttribute } from "../events";
import { parseFacts, type Fact } from "../memory/facts";
import { textOf } from "../problem";
import type { Line, Role } from "./transcript";

const FORGET_TIMEOUT_MS = 10_000;

/** Hand on a segment of the transcript each time more of it has arrived. */
export async function readSegment(reader: TextStreamReader, role: Role, put: (line: Line) => void): Promise<void> {
  const id = reader.info.attributes?.[TranscriptAttribute.SEGMENT] ?? reader.info.id;
  let text = "";
  try {
    for await (const piece of reader) {
      text += piece;
      put({ id, role, text, final: false, typed: false });
    }
  } catch {
    // The sender broke off: what arrived stays, as it was heard.
  }
  // The agent's words come piece by piece in one stream; each of the customer's streams is a whole guess.
  const final = role === "agent" || reader.info.attributes?.[TranscriptAttribute.FINAL] === "true";
  put({ id, role, text, final, typed: false });
}

/** The facts in a message; null when it was cut off or is no such message (the next change brings the whole list). */
export async function readFacts(reader: TextStreamReader): Promise<Fact[] | null> {
  try {
    return parseFacts(await reader.readAll());
  } catch {
    return null;
  }
}

/** Ask the agent to forget a fact and wait for its answer. Returns why not, or null when it is forgotten. */
export async function askToForget(room: Room, agent: string, id: string): Promise<string | null> {
  try {
    const answer = await room.localParticipant.performRpc({
      destinationIdentity: agent,
      method: Rpc.FORGET,
      payload: JSON.stringify({ id }),
      responseTimeout: FORGET_TIMEOUT_MS,
    });
    const said = JSON.parse(answer) as { ok?: boolean; error?: string };
    return said.ok === true ? null : said.error || "The agent refused without a reason.";
  } catch (error) {
    return `The agent did not answer (${textOf(error)}). Nothing was forgotten; try again.`;
  }
}
