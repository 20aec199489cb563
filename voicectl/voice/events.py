"""Names that the worker, the control plane and the page share; page/src/events.ts holds the same constants."""

from __future__ import annotations

from enum import StrEnum

WEBHOOK_PATH = "/api/livekit/webhook"  # where the control plane takes LiveKit's reports


class Topic(StrEnum):
    """Topics of text streams between agent and page."""

    MEMORY = "voice.memory"  # agent → customer: what is remembered, JSON
    CHAT = "lk.chat"  # customer → agent: a typed turn (LiveKit's own topic)


class Rpc(StrEnum):
    """Methods the page may call on the agent."""

    FORGET = "voice.forget"  # {"id": operation id} → {"ok": true} or {"ok": false, "error": words}


class Attribute(StrEnum):
    """Participant attributes of ours. A customer cannot set any: the token does not grant it."""

    CUSTOMER = "voice.customer"  # customer key, minted into the token
    NAME = "voice.name"  # name the customer gave to the page
    FENCE = "voice.fence"  # of an agent: its fence of the room
    BUILD = "voice.build"  # of an agent: the build it runs
    CALL = "voice.call"  # of an agent: the call
    PID = "voice.pid"  # of an agent: the process of its job
    MEMORY = "voice.memory"  # of an agent: "away" while the store does not answer, else ""


class RoomMark(StrEnum):
    """Keys in a room's metadata. A room without them is not ours: we never dispatch into it."""

    DESK = "voice.desk"
    BUSY = "voice.busy"  # since when the customer waits for a line, seconds since 1970; absent: not busy


class EndReason(StrEnum):
    """Why a call ended; never empty."""

    CUSTOMER_LEFT = "customer left"
    AGENT_ENDED = "ended by the agent"
    NO_CUSTOMER = "no customer came"
    CONNECTION_LOST = "the customer's connection was lost"
    ROOM_DELETED = "the room was deleted"
    TOO_LONG = "longest call reached"
    ERROR = "an error"
    FENCED_OUT = "another agent has the room"
    HANDED_OVER = "the worker stopped; another goes on"
    UNKNOWN_DESK = "unknown desk"
    BUSY = "all lines were busy"
