/**
 * One call from the click to its end: the room, who is in it, what is said and remembered. React only renders `view`.
 *
 * Promises: one token per call, asked for when the microphone is already open; the agent's sound goes to the one audio
 * element given; the view stays readable after the end. A Call is used once; calling again makes a new one.
 * Not here: what is in the room (observe.ts), what that means (state.ts, hints.ts, transcript.ts, ending.ts).
 */
import {
  RoomEvent,
  Track,
  TrackEvent,
  type DisconnectReason,
  type LocalAudioTrack,
  type RemoteAudioTrack,
  type Room,
  type TextStreamReader,
} from "livekit-client";
import { ApiError, type Ticket } from "../api";
import { Topic } from "../events";
import { newIds, type Fact } from "../memory/facts";
import { micFailure, micProblem } from "../mic/failure";
import { meterOf, type Meter } from "../mic/level";
import { HUNG_UP, connectProblem, endingOf, type Ending } from "./ending";
import { listen, newEar, unanswered, type Ear } from "./hints";
import { agentIn, isRival, voiceOf } from "./observe";
import { deriveState, isBusy, type Observed, type Seen } from "./state";
import { askToForget, readFacts, readSegment } from "./streams";
import { withSegment, type Role } from "./transcript";
import { changed, firstView, type CallView } from "./view";

const TICK_MS = 200;
/** Together below the 10 s after which a failed connection must have been explained. */
const CONNECT = { maxRetries: 0, websocketTimeout: 4000, peerConnectionTimeout: 6000 };
/** Energy of 10 ms at a tenth of full scale: a sound, no comfort noise. */
const AUDIBLE_ENERGY = 1e-4;

export interface CallParts {
  room: Room;
  audio: HTMLAudioElement;
  /** Null: a call in which the customer only types. */
  mic: LocalAudioTrack | null;
  /** Asks the server for the token; used once. */
  ticket: () => Promise<Ticket>;
  /** What is known already, from a call of the same customer before. */
  facts?: readonly Fact[] | null;
  now?: () => number;
  meter?: (track: LocalAudioTrack) => Meter;
}

export class Call {
  view: CallView;
  private readonly listeners = new Set<() => void>();
  private readonly now: () => number;
  private readonly startedMs: number;
  private missingSinceMs: number;
  private openedMs: number | null = null;
  private connection: Observed["connection"] = "opening";
  private hadAgent = false;
  /** The customer waits, or waited to the end, for a free line. */
  private inLine = false;
  private heardFrom: string | null = null;
  private measuring = false;
  private byUs = false;
  private factsAtMs = 0;
  private wordsAtMs: number | null = null;
  /** When text was typed that the agent has shown no reaction to. */
  private typedAtMs: number | null = null;
  private ear: Ear;
  private meter: Meter | null = null;
  private timer: ReturnType<typeof setInterval> | null = null;
  private typedLines = 0;

  constructor(private readonly parts: CallParts) {
    this.now = parts.now ?? (() => performance.now());
    this.startedMs = this.missingSinceMs = this.now();
    this.ear = newEar(this.startedMs);
    this.view = firstView(deriveState(this.observed(null)), parts.facts ?? null);
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  get mic(): LocalAudioTrack | null {
    return this.parts.mic;
  }

  /** The microphone's level now, 0 to 1. */
  readonly level = (): number => (this.meter && !this.view.muted ? this.meter.read() : 0);

  /** Place the call. Resolves when the room is joined or the attempt has ended; failures are in the view. */
  async start(): Promise<void> {
    const { room, mic } = this.parts;
    this.watch();
    if (mic) this.measure(mic);
    this.timer = setInterval(() => this.tick(), TICK_MS);
    let serverUrl = "";
    try {
      const ticket = await this.parts.ticket();
      if (this.byUs) return this.finish(HUNG_UP);
      serverUrl = ticket.serverUrl;
      await room.connect(ticket.serverUrl, ticket.token, CONNECT);
      this.openedMs = this.now();
      this.connection = "open";
      this.sync();
      if (mic) await room.localParticipant.publishTrack(mic, { source: Track.Source.Microphone });
    } catch (error) {
      const problem = error instanceof ApiError ? error.problem : connectProblem(error, serverUrl);
      this.finish(this.byUs ? HUNG_UP : { words: "The call could not be connected.", problem });
      await room.disconnect();
    }
  }

  async end(): Promise<void> {
    this.byUs = true;
    await this.parts.room.disconnect();
    this.finish(HUNG_UP);
  }

  async setMuted(muted: boolean): Promise<void> {
    await (muted ? this.parts.mic?.mute() : this.parts.mic?.unmute());
    this.patch({ muted });
  }

  /** Speak through another microphone from now on. */
  async changeMicrophone(deviceId: string): Promise<void> {
    try {
      await this.parts.room.switchActiveDevice("audioinput", deviceId, true);
      this.patch({ micTrouble: null });
    } catch (error) {
      this.patch({ micTrouble: micProblem(micFailure(error, true), error) });
    }
  }

  /** Start sound that the browser held back; to be called from a click. */
  async allowSound(): Promise<void> {
    try {
      await this.parts.room.startAudio();
    } catch {
      this.patch({ soundBlocked: true }); // still blocked: the button stays
    }
  }

  /** Send a typed line. Rejects when it could not be sent. */
  async say(text: string): Promise<void> {
    await this.parts.room.localParticipant.sendText(text, { topic: Topic.CHAT });
    this.typedAtMs = this.now();
    const id = `typed-${++this.typedLines}`;
    this.patch({ lines: withSegment(this.view.lines, { id, role: "user", text, final: true, typed: true }) });
  }

  /** Have the agent forget a fact. Returns why not, or null when it is forgotten. */
  async forget(id: string): Promise<string | null> {
    const agent = this.agent();
    if (!agent) return "There is no agent to ask. Call again, then forget it.";
    const refusal = await askToForget(this.parts.room, agent.identity, id);
    if (refusal === null) this.patch({ facts: (this.view.facts ?? []).filter((fact) => fact.id !== id) });
    return refusal;
  }

  private watch(): void {
    const { room } = this.parts;
    const sync = () => this.sync();
    room.registerTextStreamHandler(Topic.TRANSCRIPTION, (reader, from) => void this.hear(reader, from.identity));
    room.registerTextStreamHandler(Topic.MEMORY, (reader, from) => void this.remember(reader, from.identity));
    for (const event of [
      RoomEvent.ParticipantConnected,
      RoomEvent.ParticipantDisconnected,
      RoomEvent.ParticipantAttributesChanged,
      RoomEvent.RoomMetadataChanged,
      RoomEvent.TrackSubscribed,
      RoomEvent.TrackUnsubscribed,
    ] as const) {
      room.on(event, sync);
    }
    room.on(RoomEvent.SignalReconnecting, () => this.connected("reopening"));
    room.on(RoomEvent.Reconnecting, () => this.connected("reopening"));
    room.on(RoomEvent.Reconnected, () => this.connected("open"));
    room.on(RoomEvent.AudioPlaybackStatusChanged, () => this.patch({ soundBlocked: !room.canPlaybackAudio }));
    room.on(RoomEvent.MediaDevicesError, (error: Error) =>
      this.patch({ micTrouble: micProblem(micFailure(error, true), error) }),
    );
    room.on(RoomEvent.Disconnected, (reason?: DisconnectReason) => {
      // While opening, the rejected connect says more than the reason does.
      if (this.connection === "opening") return;
      this.finish(this.byUs ? HUNG_UP : endingOf(reason, { busy: this.inLine, hadAgent: this.hadAgent }));
    });
  }

  private measure(mic: LocalAudioTrack): void {
    const open = () => {
      this.meter?.close();
      this.meter = (this.parts.meter ?? meterOf)(mic);
    };
    open();
    mic.on(TrackEvent.Restarted, open); // another device: the old samples have ended
  }

  private agent(): Seen | null {
    return agentIn(this.parts.room);
  }

  private observed(agent: Seen | null): Observed {
    return {
      connection: this.connection,
      agent,
      hadAgent: this.hadAgent,
      busy: isBusy(this.parts.room.metadata),
      sounds: voiceOf(this.parts.room, agent) !== null,
      heard: agent !== null && agent.identity === this.heardFrom,
      waitedS: Math.floor((this.now() - this.missingSinceMs) / 1000),
    };
  }

  private connected(to: "open" | "reopening"): void {
    this.connection = to;
    this.sync();
  }

  /** Look at the room as it is now. Every event leads here, so none of them can be missed for good. */
  private sync(): void {
    if (this.connection === "ended") return;
    const agent = this.agent();
    if (agent) this.hadAgent = true;
    // While reconnecting the list is empty although nobody left.
    if (agent || this.connection === "reopening") this.missingSinceMs = this.now();
    const voice = this.attach(agent);
    const seen = this.observed(agent);
    const state = deriveState(seen);
    const reachedMs = { ...this.view.reachedMs };
    if (state.step !== "busy") reachedMs[state.step] ??= Math.round(this.now() - this.startedMs);
    // An agent that comes while the mark stays only says goodbye.
    if (seen.busy) this.inLine = true;
    else if (agent) this.inLine = false;
    this.patch({ state, voice, reachedMs, connection: this.connection, wasOpen: this.openedMs !== null });
  }

  /** Let the one audio element play this agent's voice and nothing else. */
  private attach(agent: Seen | null): RemoteAudioTrack | null {
    const voice = voiceOf(this.parts.room, agent);
    const before = this.view.voice;
    if (before !== voice) {
      before?.detach(this.parts.audio);
      voice?.attach(this.parts.audio);
    }
    return voice;
  }

  private tick(): void {
    const nowMs = this.now();
    this.sync();
    void this.checkAudible();
    const expected =
      this.connection === "open" && this.view.state.activity === "listening" && this.meter !== null && !this.view.muted;
    this.ear = listen(this.ear, { nowMs, level: this.level(), expected, wordsAtMs: this.wordsAtMs });
    const { activity } = this.view.state;
    if (activity === "thinking" || activity === "speaking") this.typedAtMs = null;
    const lastedS = this.openedMs === null ? 0 : Math.floor((nowMs - this.openedMs) / 1000);
    this.patch({ hint: unanswered(this.typedAtMs, nowMs) ? "no-answer" : this.ear.hint, lastedS });
  }

  /** Audible means: played here, with energy in it. A subscription alone proves nothing. */
  private async checkAudible(): Promise<void> {
    const agent = this.agent();
    const { voice } = this.view;
    const { audio, room } = this.parts;
    if (!agent || !voice || agent.identity === this.heardFrom || this.measuring) return;
    if (audio.paused || !room.canPlaybackAudio) return;
    this.measuring = true;
    try {
      const stats = await voice.getReceiverStats();
      if ((stats?.totalAudioEnergy ?? 0) > AUDIBLE_ENERGY) {
        this.heardFrom = agent.identity;
        this.sync();
      }
    } finally {
      this.measuring = false;
    }
  }

  private async hear(reader: TextStreamReader, identity: string): Promise<void> {
    if (isRival(this.parts.room, identity)) return;
    const role: Role = identity === this.parts.room.localParticipant.identity ? "user" : "agent";
    await readSegment(reader, role, (line) => {
      if (role === "user" && line.text.trim()) this.wordsAtMs = this.now();
      if (role === "agent") this.typedAtMs = null;
      this.patch({ lines: withSegment(this.view.lines, line) });
    });
  }

  private async remember(reader: TextStreamReader, identity: string): Promise<void> {
    if (isRival(this.parts.room, identity) || identity === this.parts.room.localParticipant.identity) return;
    const sentMs = reader.info.timestamp;
    const facts = await readFacts(reader);
    if (facts === null || sentMs < this.factsAtMs) return; // an older list that arrived late
    const fresh = this.factsAtMs === 0 ? [] : newIds(this.view.facts, facts);
    this.factsAtMs = sentMs;
    this.patch({ facts, fresh: [...this.view.fresh, ...fresh] });
  }

  private finish(ending: Ending): void {
    if (this.connection === "ended") return;
    const lastedS = this.openedMs === null ? 0 : Math.floor((this.now() - this.openedMs) / 1000);
    this.connection = "ended";
    if (this.timer) clearInterval(this.timer);
    this.meter?.close();
    this.parts.mic?.stop();
    this.view.voice?.detach(this.parts.audio);
    const lines = this.view.lines.map((line) => ({ ...line, final: true }));
    this.patch({
      state: { ...deriveState(this.observed(null)), step: this.view.state.step },
      connection: "ended",
      voice: null,
      hint: null,
      soundBlocked: false,
      ending,
      lines,
      lastedS,
      wasOpen: this.openedMs !== null,
    });
  }

  private patch(change: Partial<CallView>): void {
    const after = changed(this.view, change);
    if (after === this.view) return;
    this.view = after;
    for (const listener of this.listeners) listener();
  }
}
