/** The microphone check as React sees it: one preview track at most, closed before a call opens its own. */
import { TrackEvent, type LocalAudioTrack } from "livekit-client";
import { useCallback, useEffect, useRef, useState } from "react";
import type { Problem } from "../problem";
import { micProblem } from "./failure";
import { VOICE_LEVEL, meterOf, type Meter } from "./level";
import { alreadyAllowed, microphones, openMicrophone } from "./microphone";

export interface MicCheck {
  status: "idle" | "opening" | "open" | "problem";
  problem: Problem | null;
  devices: MediaDeviceInfo[];
  /** A voice was heard since the microphone was opened. */
  heard: boolean;
  level: () => number;
  open: (deviceId: string) => Promise<void>;
  close: () => void;
  fail: (problem: Problem) => void;
}

export function useMicCheck(deviceId: string): MicCheck {
  const [status, setStatus] = useState<MicCheck["status"]>("idle");
  const [problem, setProblem] = useState<Problem | null>(null);
  const [devices, setDevices] = useState<MediaDeviceInfo[]>([]);
  const [heard, setHeard] = useState(false);
  const track = useRef<LocalAudioTrack | null>(null);
  const meter = useRef<Meter | null>(null);
  const attempt = useRef(0);

  const close = useCallback(() => {
    attempt.current += 1; // an opening that is still under way must not come back
    meter.current?.close();
    track.current?.stop();
    meter.current = track.current = null;
    setStatus("idle");
    setHeard(false);
  }, []);

  const fail = useCallback(
    (why: Problem) => {
      close();
      setProblem(why);
      setStatus("problem");
    },
    [close],
  );

  const open = useCallback(
    async (id: string) => {
      close();
      const mine = attempt.current;
      setProblem(null);
      setStatus("opening");
      const opened = await openMicrophone(id);
      if (mine !== attempt.current) return opened.track?.stop();
      if (opened.problem) return fail(opened.problem);
      track.current = opened.track;
      meter.current = meterOf(opened.track);
      opened.track.on(TrackEvent.Ended, () => fail(micProblem("unplugged")));
      setStatus("open");
      setDevices(await microphones());
    },
    [close, fail],
  );

  const level = useCallback(() => {
    const now = meter.current?.read() ?? 0;
    if (now >= VOICE_LEVEL) setHeard(true);
    return now;
  }, []);

  // Once: somebody who allowed it before sees the level at once; nobody is asked without a click.
  useEffect(() => {
    let gone = false;
    void alreadyAllowed().then((yes) => (yes && !gone && attempt.current === 0 ? open(deviceId) : undefined));
    return () => {
      gone = true;
    };
  }, []);

  useEffect(() => {
    const refresh = () => void microphones().then(setDevices);
    navigator.mediaDevices?.addEventListener("devicechange", refresh);
    return () => navigator.mediaDevices?.removeEventListener("devicechange", refresh);
  }, []);

  return { status, problem, devices, heard, level, open, close, fail };
}
