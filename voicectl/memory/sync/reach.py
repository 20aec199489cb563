"""Letta for a command: the same adapter as the syncer's, only to look, or to make room for a rebuild.

Not here: writing turns, which only the syncer does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from voicectl.memory import null_model
from voicectl.memory.backends import LlmEndpoint
from voicectl.memory.config import MemorySettings, read_state
from voicectl.memory.errors import Refused, SettingError
from voicectl.memory.sync.null_keeper import NULL_PORT_KEY

if TYPE_CHECKING:
    from voicectl.memory.backends.letta import LettaBackend


@contextmanager
def letta_of(settings: MemorySettings) -> Iterator[LettaBackend]:
    """The Letta server of an installation.

    Raises:
        Refused: Memory is in the store alone.
        SettingError: No server is named.
    """
    if settings.backend == "embedded":
        raise Refused("Letta", "memory is in the store alone (MEMORY_BACKEND=embedded)", "Nothing is mirrored.")
    adapter = letta_adapter(settings)
    port = read_state(settings.home).get(NULL_PORT_KEY)
    # Without a port no syncer has served a null model yet: Letta is only looked at then.
    backend = adapter(null_model.url_of(port if isinstance(port, int) else 1), None)
    try:
        yield backend
    finally:
        backend.close()


def letta_adapter(settings: MemorySettings) -> Callable[[str, LlmEndpoint | None], LettaBackend]:
    """Makes the adapter for the server in the settings, given the null model's URL and what answers operators.

    Raises:
        SettingError: No server is named (never the client's default, a cloud: letta.md 10), or the package is missing.
    """
    url = settings.letta_base_url
    if url is None:
        raise SettingError(
            "LETTA_BASE_URL", "nothing", "the address of a Letta server", "Run voicectl up, or MEMORY_BACKEND=embedded."
        )
    try:
        from voicectl.memory.backends.letta import LettaBackend
    except ModuleNotFoundError as e:
        remedy = "Install it: uv sync --extra letta; or do without: MEMORY_BACKEND=embedded."
        raise SettingError("MEMORY_BACKEND", "letta", f"the package {e.name} beside us", remedy) from e
    key = settings.letta_api_key.get_secret_value() if settings.letta_api_key else None
    return lambda null_url, llm: LettaBackend(url, key, null_url, llm)


@contextmanager
def letta_if_any(settings: MemorySettings) -> Iterator[LettaBackend | None]:
    """The Letta server of an installation; None where memory is in the store alone, or no server was chosen yet."""
    if settings.backend == "embedded" or settings.letta_base_url is None:
        yield None
        return
    with letta_of(settings) as backend:
        yield backend
