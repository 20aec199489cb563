"""One table from exceptions to words and exit codes; the only place where an error becomes text.

Not here: the errors themselves (each package's errors.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import typer

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
    memory_errors.Refused: REFUSED,
    memory_errors.FencedOut: REFUSED,
    memory_errors.CallOver: REFUSED,
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
        voice_errors.ServerSilent: UNREACHABLE,
        voice_errors.WorkerRunning: REFUSED,
        model_errors.DiskShort: REFUSED,
        model_errors.UnknownModel: NOT_FOUND,
        voice_errors.VoiceFault: FAILED,
    }
    for kind, code in codes.items():
        if isinstance(error, kind):
            return Answer(str(error), code)
    return None
