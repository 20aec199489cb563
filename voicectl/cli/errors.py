"""Errors of the command line, one class per exit code.

CliFault
├── Failed        1  it was tried and did not work
├── Usage         2  the command was called in a way that cannot mean anything
├── NotRunning    3  the installation, or a server it needs, is not running or not reachable
├── NotFound      4  no such thing
└── Refused       5  understood and not done: a conflict, a shortage, or nobody confirmed it

Not here: turning them into text and exit status (main.py); what memory and voice raise (their own errors.py).
"""

from __future__ import annotations


class CliFault(Exception):
    """Something the person at the command line must know.

    Args:
        text: What failed, with the value, and what was expected.
        remedy: What to do, as a command to paste or an instruction; empty when there is nothing to do.
        code: Exit status of voicectl; the class's own when not given.
    """

    code = 1

    def __init__(self, text: str, remedy: str = "", code: int | None = None) -> None:
        self.text, self.remedy = text, remedy
        if code is not None:
            self.code = code
        super().__init__(f"{text}{' ' + remedy if remedy else ''}")


class Failed(CliFault):
    """It was tried and did not work."""

    code = 1


class Usage(CliFault):
    """The command was called in a way that cannot mean anything."""

    code = 2


class NotRunning(CliFault):
    """The installation, or a server it needs, is not running or not reachable."""

    code = 3


class NotFound(CliFault):
    """There is no such thing."""

    code = 4


class Refused(CliFault):
    """Understood and not done: a conflict, a shortage, or nobody confirmed it."""

    code = 5
