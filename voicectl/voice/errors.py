"""Errors of the voice package.

VoiceFault
├── DeskUnknown     no desk of that name; carries the list
├── NoWorker        no worker is registered at all; carries the name that was dispatched
├── NotReached      a dispatch reached no worker; carries its name and those under which workers are registered
├── NotSeen         something was asked of a room and not observed in time; carries what is missing
├── ParticipantUnknown  nobody of that identity is in the room; carries who is
├── RoomUnknown     the server has no such room; carries those it has
├── ServerSilent    LiveKit's API did not answer, or refused; an error is never "empty"
└── WorkerRunning   a worker of this VOICE_HOME is running already; carries who
"""

from __future__ import annotations


class VoiceFault(Exception):
    """Root of the voice package's errors."""


class DeskUnknown(VoiceFault):
    """No desk has that name.

    Args:
        name: What was asked for.
        known: The desks there are.
    """

    def __init__(self, name: str, known: list[str]) -> None:
        self.name, self.known = name, known
        super().__init__(f"no desk {name[:60]!r}; there are: {', '.join(known)}")


class NoWorker(VoiceFault):
    """No worker is registered.

    Args:
        agent_name: The name that was dispatched.
    """

    def __init__(self, agent_name: str) -> None:
        self.agent_name = agent_name
        super().__init__(
            f"a dispatch to {agent_name!r} reached nobody: no worker is registered under any name. See: voicectl status"
        )


class NotReached(VoiceFault):
    """A dispatch reached no worker, although there are some.

    Args:
        agent_name: The name that was dispatched.
        registered: The names under which workers are registered.
        waited_s: How long we asked.
    """

    def __init__(self, agent_name: str, registered: list[str], waited_s: float) -> None:
        self.agent_name, self.registered, self.waited_s = agent_name, registered, waited_s
        names = ", ".join(repr(n) for n in registered)
        remedy = (
            "Why: voicectl logs worker"
            if agent_name in registered
            else "VOICE_AGENT_NAME must be the same for both; see: voicectl config explain VOICE_AGENT_NAME"
        )
        super().__init__(
            f"a dispatch to {agent_name!r} reached no worker within {waited_s:g} s; "
            f"workers are registered as {names}. {remedy}"
        )


class NotSeen(VoiceFault):
    """Something was asked of a room and was not observed in time.

    Args:
        room: The room's name.
        waited_s: How long we looked.
        missing: What did not happen.
    """

    def __init__(self, room: str, waited_s: float, missing: str) -> None:
        self.room, self.waited_s, self.missing = room, waited_s, missing
        super().__init__(f"{room}: after {waited_s:g} s {missing}. Why: voicectl logs worker")


class ParticipantUnknown(VoiceFault):
    """Nobody of that identity is in the room.

    Args:
        room: The room's name.
        identity: Who was asked for.
        there: Who is there.
    """

    def __init__(self, room: str, identity: str, there: list[str]) -> None:
        self.room, self.identity, self.there = room, identity, there
        super().__init__(f"no {identity[:80]!r} in {room}; there are: {', '.join(there) or 'nobody'}")


class RoomUnknown(VoiceFault):
    """The server has no such room.

    Args:
        room: Name or sid that was asked for.
        known: Rooms that it has.
    """

    SHOWN = 10

    def __init__(self, room: str, known: list[str]) -> None:
        self.room, self.known = room, known
        more = f" and {len(known) - self.SHOWN} more" if len(known) > self.SHOWN else ""
        there = f"; there are: {', '.join(known[: self.SHOWN])}{more}" if known else "; there is none"
        super().__init__(f"the server has no room {room[:80]!r}{there}. See: voicectl rooms list")


class ServerSilent(VoiceFault):
    """LiveKit's API did not answer, or refused.

    Args:
        url: The server.
        what: What was asked.
        reason: What came back.
    """

    def __init__(self, url: str, what: str, reason: str) -> None:
        self.url, self.what, self.reason = url, what, reason
        super().__init__(f"{url} did not {what}: {reason}")


class WorkerRunning(VoiceFault):
    """Another worker holds this VOICE_HOME.

    Args:
        holder: What the lock file says about it.
    """

    def __init__(self, holder: str) -> None:
        self.holder = holder
        super().__init__(f"a worker runs already: {holder}. See: voicectl status")
