/**
 * The page's three requests to its own server: what it is, which desks there are, a token for one call.
 * Each fails with an ApiError whose problem can be shown as it is. Nothing is retried here and no token is kept.
 */
import { textOf, type Problem } from "./problem";

export interface Desk {
  name: string;
  title: string;
  description: string;
}

export interface Engine {
  name?: string;
  local: boolean;
}

export interface About {
  build_id: string;
  auth: "demo" | "jwt";
  engines: Partial<Record<"llm" | "stt" | "tts", Engine>>;
  livekit_url: string;
}

export interface TokenRequest {
  desk: string;
  /** Name or number; empty means the customer stays unknown. */
  who: string;
  /** The company's own token (auth "jwt"), sent as a bearer. */
  bearer: string | null;
}

export interface Ticket {
  serverUrl: string;
  token: string;
}

export class ApiError extends Error {
  constructor(
    readonly problem: Problem,
    readonly status: number,
    readonly retryAfterS: number | null = null,
  ) {
    super(problem.title);
  }
}

/** The body of LiveKit's standard token endpoint; unset fields are left out, as its own clients do. */
export function tokenBody({ desk, who }: TokenRequest): Record<string, unknown> {
  const name = who.trim();
  return {
    ...(name ? { participant_identity: name, participant_name: name } : {}),
    room_config: { agents: [{ agent_name: desk }] },
  };
}

/** Words for an answer that is not 2xx. `body` is what the server sent, JSON {"error","remedy"} or anything else. */
export function problemOf(status: number, body: string, retryAfterS: number | null): Problem {
  let said: { error?: unknown; remedy?: unknown } = {};
  try {
    const parsed: unknown = JSON.parse(body);
    if (typeof parsed === "object" && parsed !== null) said = parsed;
  } catch {
    // Not JSON: a proxy's page, for example. The words below do without it.
  }
  const remedy = typeof said.remedy === "string" ? said.remedy : "";
  if (status === 503) {
    const again = retryAfterS === null ? "Please try again in a moment." : `A line may be free in ${retryAfterS} s.`;
    return {
      title: typeof said.error === "string" ? sentence(said.error) : "All lines are busy.",
      remedy: remedy ? `${remedy} ${again}` : again,
    };
  }
  if (typeof said.error === "string") return { title: said.error, remedy: remedy || "Please check and try again." };
  return {
    title: `The server answered ${status} without saying why.`,
    remedy: "Look for the cause in its log:",
    command: "voicectl logs web",
    ...(body.trim() ? { detail: body.trim().slice(0, 200) } : {}),
  };
}

function sentence(words: string): string {
  const text = words.charAt(0).toUpperCase() + words.slice(1);
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

/** Retry-After in seconds; the date form and nonsense give null. */
export function retryAfter(header: string | null): number | null {
  const seconds = Number.parseInt(header ?? "", 10);
  return Number.isFinite(seconds) && seconds > 0 ? seconds : null;
}

async function ask(path: string, init?: RequestInit): Promise<unknown> {
  let answer: Response;
  try {
    answer = await fetch(path, { ...init, cache: "no-store" });
  } catch (error) {
    throw new ApiError(
      {
        title: "This page's server does not answer.",
        remedy: "See what is running, then reload the page:",
        command: "voicectl status",
        detail: textOf(error),
      },
      0,
    );
  }
  const body = await answer.text();
  if (!answer.ok) {
    const wait = retryAfter(answer.headers.get("Retry-After"));
    throw new ApiError(problemOf(answer.status, body, wait), answer.status, wait);
  }
  try {
    return JSON.parse(body);
  } catch {
    throw new ApiError(problemOf(answer.status, body, null), answer.status);
  }
}

export async function fetchAbout(): Promise<About> {
  return (await ask("/api/about")) as About;
}

export async function fetchDesks(): Promise<Desk[]> {
  return (await ask("/api/desks")) as Desk[];
}

/** Mint one token for one call in a room of its own. */
export async function fetchTicket(request: TokenRequest): Promise<Ticket> {
  const headers: Record<string, string> = { "Content-Type": "application/json" };
  if (request.bearer) headers["Authorization"] = `Bearer ${request.bearer}`;
  const answer = (await ask("/api/token", { method: "POST", headers, body: JSON.stringify(tokenBody(request)) })) as {
    server_url?: unknown;
    participant_token?: unknown;
  };
  if (typeof answer.server_url !== "string" || typeof answer.participant_token !== "string") {
    throw new ApiError(
      {
        title: "The server's answer holds no token.",
        remedy: "Page and server may be of different builds: reload the page. If it stays, see the log:",
        command: "voicectl logs web",
      },
      200,
    );
  }
  return { serverUrl: answer.server_url, token: answer.participant_token };
}
