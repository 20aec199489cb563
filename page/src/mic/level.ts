/**
 * How loud a microphone is, as a number people can look at.
 * Measured from the samples (RMS in decibels), so that silence is 0 on every machine.
 */
import { createAudioAnalyser, type LocalAudioTrack } from "livekit-client";

const FLOOR_DB = -60; // room noise after the browser's noise suppression lies below this
const LOUD_DB = -12;

/** From here on we take it for a voice: about -45 dB. Soft speech at a laptop measures -35 to -25. */
export const VOICE_LEVEL = 0.31;

/** 0 (silence) to 1 (loud) for samples between -1 and 1. */
export function levelOf(samples: Float32Array): number {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  if (sum === 0) return 0;
  const db = 10 * Math.log10(sum / samples.length);
  return Math.min(1, Math.max(0, (db - FLOOR_DB) / (LOUD_DB - FLOOR_DB)));
}

export interface Meter {
  read(): number;
  close(): void;
}

/** A meter on a track. The track stays the caller's. */
export function meterOf(track: LocalAudioTrack): Meter {
  const { analyser, cleanup } = createAudioAnalyser(track, { fftSize: 1024, smoothingTimeConstant: 0 });
  const samples = new Float32Array(analyser.fftSize);
  return {
    read: () => {
      analyser.getFloatTimeDomainData(samples);
      return levelOf(samples);
    },
    close: () => void cleanup(),
  };
}
