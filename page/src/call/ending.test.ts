import { ConnectionError, DisconnectReason } from "livekit-client";
import { expect, test } from "vitest";
import { connectProblem, endingOf } from "./ending";

const served = { busy: false, hadAgent: true };

test("media that cannot pass is told from a server that does not answer, each with its command", () => {
  const ice = connectProblem(ConnectionError.internal("could not establish pc connection"), "ws://x");
  const gone = connectProblem(ConnectionError.serverUnreachable("could not establish signal connection"), "ws://x:1");

  expect(ice.command).toContain("VOICE_RTC_TCP_PORT");
  expect(gone.title).toContain("ws://x:1");
  expect(gone.command).not.toContain("VOICE_RTC_TCP_PORT");
});

test("a refused token says so", () => {
  expect(connectProblem(ConnectionError.notAllowed("invalid token", 401), "ws://x").title).toContain("token");
});

test("an agent that hangs up is no problem; a broken connection is one", () => {
  expect(endingOf(DisconnectReason.ROOM_DELETED, served)).toEqual({ words: "The agent ended the call.", problem: null });
  expect(endingOf(DisconnectReason.MEDIA_FAILURE, served).problem?.command).toContain("VOICE_RTC_TCP_PORT");
  expect(endingOf(undefined, served).problem?.remedy).toContain("call again");
});

test("each way of ending has words of its own", () => {
  const reasons = [
    DisconnectReason.CLIENT_INITIATED,
    DisconnectReason.ROOM_DELETED,
    DisconnectReason.PARTICIPANT_REMOVED,
    DisconnectReason.DUPLICATE_IDENTITY,
    DisconnectReason.SERVER_SHUTDOWN,
    DisconnectReason.MEDIA_FAILURE,
    DisconnectReason.SIGNAL_CLOSE,
  ];

  expect(new Set(reasons.map((reason) => endingOf(reason, served).words)).size).toBe(reasons.length);
});

test("who was never answered is told why, and to call again", () => {
  const busy = endingOf(DisconnectReason.ROOM_DELETED, { busy: true, hadAgent: false });
  const nobody = endingOf(DisconnectReason.ROOM_DELETED, { busy: false, hadAgent: false });

  expect(busy.words).toContain("busy");
  expect(endingOf(DisconnectReason.PARTICIPANT_REMOVED, { busy: true, hadAgent: false })).toEqual(busy);
  expect(nobody.words).toContain("before an agent came");
  expect([busy, nobody].map((ending) => ending.problem?.remedy)).toEqual([
    expect.stringContaining("call again"),
    expect.stringContaining("call again"),
  ]);
});
