/** The agent's voice as five bars: real sound while it speaks, a resting shape otherwise. */
import { useMultibandTrackVolume } from "@livekit/components-react";
import type { RemoteAudioTrack } from "livekit-client";
import type { Activity } from "../call/state";

// In bins of 23 Hz: 100 Hz to 3 kHz, where a voice is.
const BANDS = { bands: 5, loPass: 4, hiPass: 130, updateInterval: 60 };

export function VoiceBars({ voice, activity }: { voice: RemoteAudioTrack | null; activity: Activity }) {
  const volumes = useMultibandTrackVolume(voice ?? undefined, BANDS);
  return (
    <span className="bars" data-activity={activity} aria-hidden="true">
      {[0, 1, 2, 3, 4].map((band) => (
        <i key={band} style={{ height: `${18 + 82 * (activity === "speaking" ? Math.min(1, volumes[band] ?? 0) : 0)}%` }} />
      ))}
    </span>
  );
}
