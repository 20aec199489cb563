import { ConnectionError, DisconnectReason } from "livekit-client";
import { expect, test } from "vitest";
import { connectProblem, endingOf } from "./ending";

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

test("hanging up, by either side, is no problem; a broken connection is one", () => {
  expect(endingOf(DisconnectReason.SIGNAL_CLOSE, true)).toEqual({ words: "You ended the call.", problem: null });
  expect(endingOf(DisconnectReason.ROOM_DELETED, false)).toEqual({ words: "The agent ended the call.", problem: null });
  expect(endingOf(DisconnectReason.MEDIA_FAILURE, false).problem?.command).toContain("VOICE_RTC_TCP_PORT");
  expect(endingOf(undefined, false).problem?.remedy).toContain("call again");
});
