/** Words for how a connection failed or a call ended. Data and mapping only. */
import { ConnectionError, ConnectionErrorReason, DisconnectReason } from "livekit-client";
import { textOf, type Problem } from "../problem";

export interface Ending {
  words: string;
  /** What to do when this is not how calls should end. */
  problem: Problem | null;
}

/** What the customer had met when the call ended. */
export interface Met {
  busy: boolean;
  hadAgent: boolean;
}

export const HUNG_UP: Ending = { words: "You ended the call.", problem: null };

/** No way for audio between this browser and the media server: UDP is closed or forwarded away. */
export function iceProblem(detail?: string): Problem {
  return {
    title: "The call was set up, but no audio can pass between this browser and the media server.",
    remedy: "UDP does not get through here (common with WSL, SSH tunnels and strict networks). Let media use TCP: in .env, then restart:",
    command: "VOICE_RTC_TCP_PORT=7881\n./restart_voice_system.sh",
    ...(detail ? { detail } : {}),
  };
}

/** Why joining the room failed. */
export function connectProblem(error: unknown, serverUrl: string): Problem {
  const detail = textOf(error);
  if (/pc connection|publisher connection|subscriber connection/i.test(detail)) return iceProblem(detail);
  if (error instanceof ConnectionError && error.reason === ConnectionErrorReason.NotAllowed) {
    return {
      title: "The media server refused this call's token.",
      remedy: "Its key may have changed since the page's server started. Restart, then call again:",
      command: "./restart_voice_system.sh",
      detail,
    };
  }
  return {
    title: `The media server at ${serverUrl} does not answer.`,
    remedy: "See whether it runs and whether this machine can reach it:",
    command: "voicectl doctor",
    detail,
  };
}

/** How a call that was connected came to its end, which the customer did not ask for. */
export function endingOf(reason: DisconnectReason | undefined, { busy, hadAgent }: Met): Ending {
  switch (reason) {
    case DisconnectReason.CLIENT_INITIATED: // LiveKit's client, when the page is left or put to sleep
      return { words: "The call ended when this page was left.", problem: null };
    case DisconnectReason.ROOM_DELETED:
    case DisconnectReason.ROOM_CLOSED:
      if (busy) return broken("All lines stayed busy, so the call was ended.", "Please call again in a moment.");
      if (!hadAgent) return broken("The call was ended before an agent came.", "Please call again.");
      return { words: "The agent ended the call.", problem: null };
    case DisconnectReason.PARTICIPANT_REMOVED:
      if (busy) return broken("All lines stayed busy, so the call was ended.", "Please call again in a moment.");
      return { words: "You were disconnected by the desk.", problem: null };
    case DisconnectReason.DUPLICATE_IDENTITY:
      return { words: "This call was opened again in another window.", problem: null };
    case DisconnectReason.SERVER_SHUTDOWN:
      return broken("The media server was shut down.", "It should be back in a moment.");
    case DisconnectReason.MEDIA_FAILURE:
      return { words: "The audio connection broke.", problem: iceProblem() };
    default:
      return broken("The connection broke.", "Check your network, then call again. What was said is kept.");
  }
}

function broken(words: string, remedy: string): Ending {
  return { words, problem: { title: words, remedy } };
}
