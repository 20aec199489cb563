"""Errors of the local model's server.

LocalLLMFault
├── ModelMissing    the model file is not there; names the folder and the command that brings it
└── CpuTooOld       the processor lacks an instruction set that the engine was built for
"""

from __future__ import annotations

from pathlib import Path

from voicectl.voice.errors import VoiceFault


class LocalLLMFault(VoiceFault):
    """The small model on this machine cannot be served."""


class ModelMissing(LocalLLMFault):
    """The model file is not where it should be.

    Args:
        folder: The folder that should hold exactly one .gguf file.
        found: How many it holds.
    """

    def __init__(self, folder: Path, found: int) -> None:
        self.folder, self.found = folder, found
        super().__init__(f"{folder} holds {found} .gguf files, expected 1. Run: voicectl models pull")


class CpuTooOld(LocalLLMFault):
    """The processor cannot run the engine.

    Args:
        flag: The instruction set that is missing, as /proc/cpuinfo spells it.
    """

    def __init__(self, flag: str) -> None:
        self.flag = flag
        super().__init__(
            f"this processor has no {flag}, which the local language model needs. "
            "Set OPENAI_API_KEY or OPENAI_BASE_URL to use another model."
        )
