"""Errors of model files, one class per thing a caller would do differently.

ModelFault
├── UnknownModel        the catalogue has no such name
├── DiskShort           not enough free disk; nothing was downloaded
├── CpuTooOld           this processor lacks instructions the model's engine needs; nothing was downloaded
├── ChecksumMismatch    a source gave other bytes than expected; the bad file is removed
├── SourcesGone         no source could be read; both are named with their reasons
└── ModelMissing        a model is needed now and is not on this disk
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from voicectl.voice.errors import VoiceFault


class ModelFault(VoiceFault):
    """Root of what can go wrong with model files."""


class UnknownModel(ModelFault):
    """The catalogue has no such model.

    Args:
        name: What was asked for.
        known: The names there are.
    """

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        super().__init__(f"no model {name!r}. Known ones: {', '.join(known)}. See: voicectl models list")


class DiskShort(ModelFault):
    """The disk is too full for the pull.

    Args:
        folder: Where the files would go.
        needed_bytes: What the pull needs at its peak, with the margin.
        free_bytes: What is free.
    """

    def __init__(self, folder: Path, needed_bytes: int, free_bytes: int) -> None:
        self.folder, self.needed_bytes, self.free_bytes = folder, needed_bytes, free_bytes
        super().__init__(
            f"{free_bytes / 1e6:,.0f} MB are free at {folder}, the models need {needed_bytes / 1e6:,.0f} MB. "
            f"Free {(needed_bytes - free_bytes) / 1e6:,.0f} MB, or set VOICE_HOME to a folder on a larger disk."
        )


class CpuTooOld(ModelFault):
    """The processor cannot run the model's engine.

    Args:
        name: The model.
        lacking: Instruction sets that are missing, as the kernel names them.
    """

    def __init__(self, name: str, lacking: Sequence[str]) -> None:
        self.name, self.lacking = name, tuple(lacking)
        super().__init__(
            f"{name} needs a processor with {', '.join(lacking)}; this one has none. "
            "Set OPENAI_API_KEY or OPENAI_BASE_URL to use a language model elsewhere."
        )


class ChecksumMismatch(ModelFault):
    """The bytes that arrived are not the model's; the file is removed.

    Args:
        path: The file.
        source: Where the bytes came from.
        expected: SHA-256 of the catalogue.
        got: SHA-256 of what arrived.
    """

    def __init__(self, path: Path, source: str, expected: str, got: str) -> None:
        self.path, self.source, self.expected, self.got = path, source, expected, got
        super().__init__(
            f"{path.name} from {source} has SHA-256 {got}, expected {expected}; the file was removed. "
            "Try again: voicectl models pull. If it stays, choose the other source with VOICE_MODEL_SOURCE."
        )


class SourcesGone(ModelFault):
    """Neither source gave the file.

    Args:
        name: The model.
        reasons: One line for each source that was tried.
    """

    def __init__(self, name: str, reasons: Sequence[str]) -> None:
        self.name, self.reasons = name, tuple(reasons)
        super().__init__(
            f"{name} could not be downloaded. {' | '.join(reasons)}. Check the network and HTTPS_PROXY, "
            f"or put the files into VOICE_HOME/models/{name} yourself; then: voicectl models pull {name}"
        )


class ModelMissing(ModelFault):
    """A model is needed and is not ready on this disk.

    Args:
        name: The model.
        home: VOICE_HOME.
    """

    def __init__(self, name: str, home: Path) -> None:
        self.name, self.home = name, home
        super().__init__(f"model {name} is not in {home / 'models'}. Run: voicectl models pull {name}")
