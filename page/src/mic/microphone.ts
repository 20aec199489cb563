/**
 * Opening and listing microphones. Always before a token is asked for: a call whose microphone fails never starts.
 * Not here: words for failures (failure.ts), the level (level.ts).
 */
import { createLocalAudioTrack, Room, type LocalAudioTrack } from "livekit-client";
import type { Problem } from "../problem";
import { micFailure, micProblem } from "./failure";

export type Opened = { track: LocalAudioTrack; problem: null } | { track: null; problem: Problem };

const offered = (): boolean => navigator.mediaDevices?.getUserMedia !== undefined;

/** Open a microphone; "" is the system's default. Never throws: a failure comes back in words. */
export async function openMicrophone(deviceId: string): Promise<Opened> {
  if (!offered()) return { track: null, problem: micProblem("insecure") };
  const processing = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
  try {
    const track = await createLocalAudioTrack(deviceId ? { ...processing, deviceId: { exact: deviceId } } : processing);
    return { track, problem: null };
  } catch (error) {
    return { track: null, problem: micProblem(micFailure(error, true), error) };
  }
}

/** The microphones by name; names are empty until the permission is given. */
export async function microphones(): Promise<MediaDeviceInfo[]> {
  return offered() ? Room.getLocalDevices("audioinput", false) : [];
}

/** Whether opening the microphone would ask nothing. Browsers that cannot say count as no. */
export async function alreadyAllowed(): Promise<boolean> {
  try {
    return offered() && (await navigator.permissions.query({ name: "microphone" })).state === "granted";
  } catch {
    return false; // Firefox before 131 does not know the name
  }
}
