import { afterEach, expect, test, vi } from "vitest";
import { ApiError, fetchTicket, problemOf, retryAfter, tokenBody } from "./api";

afterEach(() => vi.unstubAllGlobals());

const answer = (status: number, body: string, headers: Record<string, string> = {}) => {
  const fetched = vi.fn(() => Promise.resolve(new Response(body, { status, headers })));
  vi.stubGlobal("fetch", fetched);
  return fetched;
};

const request = { desk: "shop", who: " Rahim ", bearer: null };

test("the request is LiveKit's own, and leaves out who nobody said", () => {
  expect(tokenBody(request)).toEqual({
    participant_identity: "Rahim",
    participant_name: "Rahim",
    room_config: { agents: [{ agent_name: "shop" }] },
  });
  expect(tokenBody({ ...request, who: " " })).toEqual({ room_config: { agents: [{ agent_name: "shop" }] } });
});

test("a ticket is what the endpoint answered", async () => {
  const fetched = answer(201, '{"server_url":"ws://x","participant_token":"t"}');

  await expect(fetchTicket({ ...request, bearer: "company" })).resolves.toEqual({ serverUrl: "ws://x", token: "t" });

  const [path, init] = fetched.mock.calls[0] as unknown as [string, RequestInit];
  expect(path).toBe("/api/token");
  expect((init.headers as Record<string, string>)["Authorization"]).toBe("Bearer company");
});

test("busy says when to try again", async () => {
  answer(503, '{"error":"all lines are busy","remedy":""}', { "Retry-After": "12" });

  const failure = (await fetchTicket(request).catch((error: unknown) => error)) as ApiError;

  expect(failure.problem).toEqual({ title: "All lines are busy.", remedy: "A line may be free in 12 s." });
  expect(failure.retryAfterS).toBe(12);
});

test("the server's words are shown as they are, and a wordless failure names the log", () => {
  expect(problemOf(422, '{"error":"who: too long","remedy":"Use 100 characters."}', null)).toEqual({
    title: "who: too long",
    remedy: "Use 100 characters.",
  });
  const wordless = problemOf(500, "<html>boom</html>", null);
  expect(wordless.title).toContain("500");
  expect(wordless.command).toBe("voicectl logs web");
  expect(wordless.detail).toContain("boom");
});

test("a server that is down, and an answer without a token, are told in words", async () => {
  vi.stubGlobal("fetch", () => Promise.reject(new TypeError("Failed to fetch")));
  await expect(fetchTicket(request)).rejects.toMatchObject({ problem: { command: "voicectl status" } });

  answer(201, "{}");
  await expect(fetchTicket(request)).rejects.toMatchObject({ problem: { title: expect.stringContaining("no token") } });
});

test("Retry-After counts only as seconds", () => {
  expect([retryAfter("7"), retryAfter(null), retryAfter("soon"), retryAfter("-1")]).toEqual([7, null, null, null]);
});
