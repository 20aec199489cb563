/** What is in the room, as the rest of the page needs it: the agent, and whose sound to play. */
import type { RemoteAudioTrack, RemoteParticipant, Room } from "livekit-client";
import { AgentAttribute } from "../events";
import { agentAmong, type Seen } from "./state";

/** The agent that is in the room now. */
export function agentIn(room: Room): Seen | null {
  return agentAmong([...room.remoteParticipants.values()].map(seenAs));
}

/** The subscribed sound of an agent, or of the avatar that speaks for it. */
export function voiceOf(room: Room, agent: Seen | null): RemoteAudioTrack | null {
  if (!agent) return null;
  for (const one of room.remoteParticipants.values()) {
    if (one.identity !== agent.identity && one.attributes[AgentAttribute.PUBLISH_ON_BEHALF] !== agent.identity) continue;
    for (const publication of one.audioTrackPublications.values()) {
      if (publication.track) return publication.track as RemoteAudioTrack;
    }
  }
  return null;
}

/** Whether somebody else than an agent sent this: another customer may not speak for the agent. */
export function isRival(room: Room, identity: string): boolean {
  const sender = room.remoteParticipants.get(identity);
  return sender !== undefined && !sender.isAgent;
}

function seenAs(one: RemoteParticipant): Seen {
  return {
    identity: one.identity,
    isAgent: one.isAgent,
    joinedAtMs: one.joinedAt?.getTime() ?? 0,
    attributes: one.attributes,
  };
}
