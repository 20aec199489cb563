"""One table from exceptions to words and exit codes; the only place where an error becomes text.

Not here: the errors themselves (each package's errors.py).
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

import typer

from voicectl.memory import backends
from voicectl.memory import errors as memory_errors


@dataclass(frozen=True)
class Answer:
    """What the person sees, and the exit code."""

    text: str
    code: int


FAILED, USAGE, UNREACHABLE, NOT_FOUND, REFUSED = 1, 2, 3, 4, 5

_CODES: dict[type[Exception], int] = {
    memory_errors.SettingError: USAGE,
    memory_errors.StoreUnavailable: UNREACHABLE,
    memory_errors.StoreForeign: REFUSED,
    memory_errors.CustomerUnknown: NOT_FOUND,
    memory_errors.OperationUnknown: NOT_FOUND,
    memory_errors.AgentUnknown: NOT_FOUND,
    memory_errors.Refused: REFUSED,
    memory_errors.FencedOut: REFUSED,
    memory_errors.CallOver: REFUSED,
    backends.BackendUnavailable: UNREACHABLE,
    backends.BackendFault: FAILED,
}

# What a folder or a disk refuses is no bug of ours, whichever line meets it.
_DISK: dict[int, tuple[str, int]] = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), ("Free some of it; what was fetched is kept.", FAILED)),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR),
        ("VOICE_HOME must be a folder that you may write to: VOICE_HOME=/path voicectl up", REFUSED),
    ),
}


def explained(error: Exception) -> Answer | None:
    """Words and exit code of an error that we know; None for a bug, which deserves its stack."""
    from voicectl.cli.errors import CliFault
    from voicectl.voice import errors as voice_errors
    from voicectl.voice import model_errors

    if isinstance(error, CliFault):
        return Answer(f"{error.text}{' ' + error.remedy if error.remedy else ''}", error.code)
    if callable(getattr(error, "format_message", None)):  # typer carries its own copy of click: no class to name
        context = getattr(error, "ctx", None)
        where = f"\nTry: {context.command_path} --help" if context is not None else ""
        return Answer(f"{error.format_message()}{where}", USAGE)  # type: ignore[attr-defined]
    if isinstance(error, typer.Abort):
        return Answer("stopped", FAILED)
    codes: dict[type[Exception], int] = {
        **_CODES,
        voice_errors.DeskUnknown: NOT_FOUND,
        voice_errors.NoWorker: UNREACHABLE,
        voice_errors.ParticipantUnknown: NOT_FOUND,
        voice_errors.RoomUnknown: NOT_FOUND,
        voice_errors.ServerSilent: UNREACHABLE,
        voice_errors.WorkerRunning: REFUSED,
        model_errors.DiskShort: REFUSED,
        model_errors.UnknownModel: NOT_FOUND,
        voice_errors.VoiceFault: FAILED,
    }
    for kind, code in codes.items():
        if isinstance(error, kind):
            return Answer(str(error), code)
    if isinstance(error, OSError) and error.errno in _DISK:
        remedy, code = _DISK[error.errno]
        where = f"{error.filename}: " if error.filename else ""
        return Answer(f"{where}{error.strerror}. {remedy}", code)
    return None
