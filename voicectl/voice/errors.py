"""Errors of the voice package.

VoiceFault
├── DeskUnknown     no desk of that name; carries the list
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
