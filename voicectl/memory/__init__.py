"""What outlives a call: customers, calls, turns, the profile and its history, leases. No LiveKit here.

Usable alone, with one SQLite file: `from voicectl.memory import Memory` (alone.py). Not here: anything about rooms,
audio or prompts of a desk (`voicectl.voice`), anything that starts a process (`voicectl.cli`).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voicectl.memory.alone import Memory, OwnCall

__all__ = ["Memory", "OwnCall"]


def __getattr__(name: str) -> Any:
    # On demand: every module of this package imports the package first, and most do not need all of it.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.alone"), name)
