/** Words for every way a microphone can be unusable. Not here: opening it (microphone.ts). */
import { textOf, type Problem } from "../problem";

export type MicFailure = "insecure" | "denied" | "missing" | "in-use" | "unplugged" | "other";

/**
 * What kind of failure an attempt to open the microphone met.
 * `secure` is false where the browser offers no microphone at all: plain http on any host but this machine.
 */
export function micFailure(error: unknown, secure: boolean): MicFailure {
  if (!secure) return "insecure";
  const name = error instanceof Error || error instanceof DOMException ? error.name : "";
  switch (name) {
    case "NotAllowedError":
    case "PermissionDeniedError":
    case "SecurityError":
      return "denied";
    case "NotFoundError":
    case "DevicesNotFoundError":
    case "OverconstrainedError": // the remembered device is not plugged in
      return "missing";
    case "NotReadableError":
    case "TrackStartError":
    case "AbortError":
      return "in-use";
    default:
      return "other";
  }
}

export function micProblem(failure: MicFailure, error?: unknown): Problem {
  switch (failure) {
    case "insecure":
      return {
        title: "The browser gives no microphone to this address.",
        remedy: "It does so only over https, or on the machine itself. Open the page at:",
        command: `http://127.0.0.1:${globalThis.location?.port || 9000}`,
      };
    case "denied":
      return {
        title: "The microphone is blocked for this page.",
        remedy:
          "Allow it with the icon left of the address bar. If it is allowed there, check your system's privacy settings for the browser. Then try again.",
      };
    case "missing":
      return {
        title: "No microphone was found.",
        remedy: "Plug one in, or switch your headset on, and try again.",
      };
    case "in-use":
      return {
        title: "The microphone is in use by another program.",
        remedy: "Close the other call or recorder, or choose another microphone, and try again.",
      };
    case "unplugged":
      return {
        title: "The microphone was unplugged.",
        remedy: "Plug it in again or choose another one, and try again.",
      };
    case "other":
      return {
        title: "The microphone could not be opened.",
        remedy: "Try again. If it stays, restart the browser.",
        ...(error === undefined ? {} : { detail: textOf(error) }),
      };
  }
}
