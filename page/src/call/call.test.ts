import { EventEmitter } from "node:events";
import { DisconnectReason, RoomEvent, type LocalAudioTrack, type Room } from "livekit-client";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { ApiError } from "../api";
import { AgentAttribute, Topic } from "../events";
import { Call, type CallParts } from "./call";

/** A room without a server: what LiveKit would report is put into it by the test. */
class FakeRoom extends EventEmitter {
  remoteParticipants = new Map<string, ReturnType<typeof participant>>();
  metadata: string | undefined;
  canPlaybackAudio = true;
  readonly handlers = new Map<string, (reader: unknown, from: { identity: string }) => void>();
  readonly localParticipant = {
    identity: "me",
    publishTrack: vi.fn(() => Promise.resolve()),
    sendText: vi.fn(() => Promise.resolve()),
    performRpc: vi.fn(() => Promise.resolve('{"ok":true}')),
  };
  readonly connect = vi.fn(() => Promise.resolve());
  readonly disconnect = vi.fn(() => Promise.resolve());
  readonly startAudio = vi.fn(() => Promise.resolve());

  registerTextStreamHandler(topic: string, handler: (reader: unknown, from: { identity: string }) => void): void {
    this.handlers.set(topic, handler);
  }

  send(topic: string, from: string, text: string, info: Record<string, unknown> = {}): void {
    const reader = {
      info: { id: "s", timestamp: 1, attributes: {}, ...info },
      readAll: () => Promise.resolve(text),
      async *[Symbol.asyncIterator]() {
        yield text;
      },
    };
    this.handlers.get(topic)?.(reader, { identity: from });
  }
}

const voice = (energy: number) => ({
  attach: vi.fn(),
  detach: vi.fn(),
  getReceiverStats: vi.fn(() => Promise.resolve({ totalAudioEnergy: energy })),
});

const participant = (identity: string, track: ReturnType<typeof voice> | null = null, state = "listening") => ({
  identity,
  isAgent: identity.startsWith("agent"),
  joinedAt: new Date(1),
  attributes: { [AgentAttribute.STATE]: state },
  audioTrackPublications: new Map(track ? [["t", { track }]] : []),
});

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function callIn(room: FakeRoom, rest: Partial<CallParts> = {}): Call {
  const ticket = vi.fn(() => Promise.resolve({ serverUrl: "ws://x", token: "t" }));
  const audio = { paused: false } as HTMLAudioElement;
  return new Call({ room: room as unknown as Room, audio, mic: null, ticket, now: () => Date.now(), ...rest });
}

const later = (ms: number) => vi.advanceTimersByTimeAsync(ms);

test("an agent that was there first and one that joins later lead to the same state", async () => {
  const before = new FakeRoom();
  before.remoteParticipants.set("agent-1", participant("agent-1", voice(0.5)));
  const after = new FakeRoom();
  const [first, second] = [callIn(before), callIn(after)];

  await first.start();
  await second.start();
  expect(second.view.state.step).toBe("requested");
  after.remoteParticipants.set("agent-1", participant("agent-1", voice(0.5)));
  after.emit(RoomEvent.ParticipantConnected);
  expect(second.view.state.step).toBe("joined");
  await later(500);

  expect(first.view.state.step).toBe("audible");
  expect(second.view.state).toEqual(first.view.state);
});

test("an agent whose event was missed is seen all the same", async () => {
  const room = new FakeRoom();
  const call = callIn(room);
  await call.start();

  room.remoteParticipants.set("agent-1", participant("agent-1"));
  await later(400);

  expect(call.view.state.step).toBe("accepted");
});

const DELAYS = [0, 5000];
const steps = DELAYS.flatMap((ticket) =>
  DELAYS.flatMap((connect) => DELAYS.flatMap((publish) => DELAYS.map((agent) => [ticket, connect, publish, agent]))),
);

test.each(steps)("a slow step changes nothing: token %i, joining %i, microphone %i, agent %i ms", async (...ms) => {
  const [ticketMs, connectMs, publishMs, agentMs] = ms as [number, number, number, number];
  const sleep = (after: number) => new Promise<void>((done) => setTimeout(done, after));
  const room = new FakeRoom();
  room.connect.mockImplementation(() => sleep(connectMs));
  room.localParticipant.publishTrack.mockImplementation(() => sleep(publishMs));
  const mic = { stop: vi.fn(), on: vi.fn() } as unknown as LocalAudioTrack;
  const ticket = () => sleep(ticketMs).then(() => ({ serverUrl: "ws://x", token: "t" }));
  const call = callIn(room, { ticket, mic, meter: () => ({ read: () => 0, close: () => undefined }) });

  void call.start();
  setTimeout(() => {
    room.remoteParticipants.set("agent-1", participant("agent-1", voice(0.5)));
    room.emit(RoomEvent.ParticipantConnected);
  }, ticketMs + connectMs + agentMs);
  await later(25_000);

  expect([call.view.state.step, call.view.connection, call.view.state.notice]).toEqual(["audible", "open", null]);
  expect(room.connect).toHaveBeenCalledOnce();
});

test("busy stands while the room says so, and what follows is as if it had never been", async () => {
  const room = new FakeRoom();
  const call = callIn(room);
  await call.start();

  room.metadata = '{"voice.busy":"1795200000"}';
  room.emit(RoomEvent.RoomMetadataChanged);
  expect(call.view.state.step).toBe("busy");
  room.metadata = '{"voice.desk":"shop"}';
  room.emit(RoomEvent.RoomMetadataChanged);
  expect([call.view.state.step, call.view.state.notice]).toEqual(["requested", null]);
  room.remoteParticipants.set("agent-1", participant("agent-1", voice(0.5)));
  await later(500);

  expect(call.view.state.step).toBe("audible");
  expect(Object.keys(call.view.reachedMs)).not.toContain("busy");
});

test("a line that stayed busy to the end is what the customer is told, also when the mark went first", async () => {
  const room = new FakeRoom();
  room.metadata = '{"voice.busy":"1795200000"}';
  const call = callIn(room);
  await call.start();

  room.metadata = "{}";
  await later(400);
  room.emit(RoomEvent.Disconnected, DisconnectReason.ROOM_DELETED);

  expect(call.view.ending?.problem?.title).toContain("busy");
});

test("an agent that comes only to say that all lines are busy does not count as an answer; a free one does", async () => {
  const [goodbye, free] = [new FakeRoom(), new FakeRoom()];
  for (const room of [goodbye, free]) {
    room.metadata = '{"voice.busy":"1795200000"}';
    const call = callIn(room);
    await call.start();
    room.remoteParticipants.set("agent-1", participant("agent-1", voice(0.5)));
    await later(400);
    if (room === free) room.metadata = "{}";
    await later(400);
    room.emit(RoomEvent.Disconnected, DisconnectReason.ROOM_DELETED);

    expect(call.view.ending?.words).toContain(room === free ? "agent ended" : "stayed busy");
  }
});

test("a page that is left by LiveKit's own doing is not said to be the customer's", async () => {
  const room = new FakeRoom();
  const call = callIn(room);
  await call.start();

  room.emit(RoomEvent.Disconnected, DisconnectReason.CLIENT_INITIATED);

  expect(call.view.ending?.words).toContain("page was left");
});

test("a subscribed track without sound is not audible", async () => {
  const room = new FakeRoom();
  room.remoteParticipants.set("agent-1", participant("agent-1", voice(0)));
  const call = callIn(room);

  await call.start();
  await later(3000);

  expect(call.view.state.step).toBe("joined");
});

test("the one audio element goes from the agent that left to the one that took over", async () => {
  const room = new FakeRoom();
  const [old, fresh] = [voice(0.5), voice(0.5)];
  room.remoteParticipants.set("agent-1", participant("agent-1", old));
  const call = callIn(room);
  await call.start();

  room.remoteParticipants.clear();
  room.emit(RoomEvent.ParticipantDisconnected);
  expect(call.view.state.notice?.words).toContain("taking over");
  room.remoteParticipants.set("agent-2", participant("agent-2", fresh));
  room.emit(RoomEvent.TrackSubscribed);

  expect(old.detach).toHaveBeenCalledOnce();
  expect(fresh.attach).toHaveBeenCalledOnce();
  expect(call.view.state.notice).toBeNull();
});

test("no agent for 10 s is said, with a retry", async () => {
  const call = callIn(new FakeRoom());
  await call.start();

  await later(10_200);

  expect(call.view.state.notice?.retry).toBe(true);
});

test("one token is asked for per call, and none is used after hanging up early", async () => {
  const room = new FakeRoom();
  let give = (_: { serverUrl: string; token: string }) => {};
  const ticket = vi.fn(() => new Promise<{ serverUrl: string; token: string }>((resolve) => (give = resolve)));
  const call = callIn(room, { ticket });

  const started = call.start();
  await call.end();
  give({ serverUrl: "ws://x", token: "t" });
  await started;

  expect(ticket).toHaveBeenCalledOnce();
  expect(room.connect).not.toHaveBeenCalled();
  expect(call.view.ending?.words).toBe("You ended the call.");
});

test("a refused token ends the call with the server's words and frees the microphone", async () => {
  const mic = { stop: vi.fn(), on: vi.fn() };
  const problem = { title: "All lines are busy.", remedy: "Please try again in 12 s." };
  const call = callIn(new FakeRoom(), {
    mic: mic as unknown as LocalAudioTrack,
    meter: () => ({ read: () => 0, close: () => undefined }),
    ticket: () => Promise.reject(new ApiError(problem, 503, 12)),
  });

  await call.start();

  expect(call.view.ending?.problem).toEqual(problem);
  expect(call.view.wasOpen).toBe(false);
  expect(mic.stop).toHaveBeenCalledOnce();
});

test("what was said and remembered stays after the end", async () => {
  const room = new FakeRoom();
  room.remoteParticipants.set("agent-1", participant("agent-1"));
  const call = callIn(room);
  await call.start();
  room.send(Topic.TRANSCRIPTION, "agent-1", "Hello Rahim.", { attributes: { "lk.segment_id": "a" } });
  room.send(Topic.TRANSCRIPTION, "me", "I like teal.", {
    attributes: { "lk.segment_id": "u", "lk.transcription_final": "true" },
  });
  room.send(Topic.MEMORY, "agent-1", '{"facts":[{"id":"1","text":"likes teal","because":"I like teal."}]}');
  await later(0);

  await call.end();

  expect(call.view.lines.map((line) => [line.role, line.text])).toEqual([
    ["agent", "Hello Rahim."],
    ["user", "I like teal."],
  ]);
  expect(call.view.facts?.map((fact) => fact.text)).toEqual(["likes teal"]);
  expect(call.view.state.activity).toBe("ended");
});

test("another customer in the room cannot put words or facts on the page", async () => {
  const room = new FakeRoom();
  room.remoteParticipants.set("human-2", participant("human-2"));
  const call = callIn(room);
  await call.start();

  room.send(Topic.TRANSCRIPTION, "human-2", "I am the agent.");
  room.send(Topic.MEMORY, "human-2", '{"facts":[]}');
  await later(0);

  expect(call.view.lines).toEqual([]);
  expect(call.view.facts).toBeNull();
});

test("an older list of facts that arrives late is not shown", async () => {
  const room = new FakeRoom();
  room.remoteParticipants.set("agent-1", participant("agent-1"));
  const call = callIn(room);
  await call.start();

  room.send(Topic.MEMORY, "agent-1", '{"facts":[{"id":"1","text":"new"}]}', { timestamp: 20 });
  room.send(Topic.MEMORY, "agent-1", '{"facts":[]}', { timestamp: 10 });
  await later(0);

  expect(call.view.facts?.map((fact) => fact.text)).toEqual(["new"]);
});

test("a fact goes when the agent says it is forgotten, and stays with the reason when not", async () => {
  const room = new FakeRoom();
  room.remoteParticipants.set("agent-1", participant("agent-1"));
  const facts = [{ id: "1", text: "likes teal", because: null, source: "tool" }];
  const call = callIn(room, { facts });
  await call.start();

  room.localParticipant.performRpc.mockResolvedValueOnce('{"ok":false,"error":"noted by a person"}');
  expect(await call.forget("1")).toBe("noted by a person");
  expect(call.view.facts).toHaveLength(1);
  room.localParticipant.performRpc.mockRejectedValueOnce(new Error("timeout"));
  expect(await call.forget("1")).toContain("timeout");
  expect(await call.forget("1")).toBeNull();

  expect(call.view.facts).toEqual([]);
});

test("sound that the browser holds back is offered to be turned on", async () => {
  const room = new FakeRoom();
  const call = callIn(room);
  await call.start();

  room.canPlaybackAudio = false;
  room.emit(RoomEvent.AudioPlaybackStatusChanged);
  expect(call.view.soundBlocked).toBe(true);
  await call.allowSound();

  expect(room.startAudio).toHaveBeenCalledOnce();
});

test("while reconnecting an empty room is not taken for a lost agent", async () => {
  const room = new FakeRoom();
  room.remoteParticipants.set("agent-1", participant("agent-1", voice(0.5)));
  const call = callIn(room);
  await call.start();

  room.emit(RoomEvent.Reconnecting);
  room.remoteParticipants.clear();
  await later(15_000);
  expect(call.view.state.activity).toBe("reconnecting");
  expect(call.view.state.notice).toBeNull();
  room.remoteParticipants.set("agent-1", participant("agent-1", voice(0.5)));
  room.emit(RoomEvent.Reconnected);

  expect(call.view.state.activity).toBe("listening");
  expect(call.view.connection).toBe("open");
});

test("typed text that moves nobody is said after 8 s, until the agent shows a sign of life", async () => {
  const room = new FakeRoom();
  room.remoteParticipants.set("agent-1", participant("agent-1", voice(0.5)));
  const call = callIn(room);
  await call.start();

  await call.say("ping");
  await later(7000);
  expect(call.view.hint).toBeNull();
  await later(1400);
  expect(call.view.hint).toBe("no-answer");
  room.remoteParticipants.set("agent-1", participant("agent-1", voice(0.5), "thinking"));
  await later(400);

  expect(call.view.hint).toBeNull();
  expect(call.view.lines.map((line) => [line.text, line.typed])).toEqual([["ping", true]]);
});
