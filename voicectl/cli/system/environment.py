"""What a child process gets to see of the shell it was started from: settings, and what any program needs.

Promise: nothing else passes, so a variable left over from another project reaches no library behind our back; and
loopback is never asked of a proxy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from voicectl.cli.system.strays import MARK
from voicectl.memory.config import OUR_PREFIXES, Settings, env_names

PROXIES = frozenset(("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"))
BASICS = frozenset(("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR"))
# Where packages come from: Letta is fetched by a child, and a company's mirror is then the only source there is.
MIRRORS = frozenset(
    (
        "UV_DEFAULT_INDEX",
        "UV_INDEX",
        "UV_INDEX_URL",
        "UV_EXTRA_INDEX_URL",
        "UV_FIND_LINKS",
        "UV_KEYRING_PROVIDER",
        "UV_CACHE_DIR",
        "UV_NATIVE_TLS",
        "UV_SYSTEM_CERTS",
        "UV_HTTP_TIMEOUT",
        "UV_PYTHON_INSTALL_MIRROR",
    )
)
SYSTEM = BASICS | PROXIES | MIRRORS | {"CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"}
SYSTEM_PREFIXES = ("LC_", "SSL_CERT_", "OMP_", "XDG_", "LD_LIBRARY_", "DYLD_LIBRARY_")
# Differ from shell to shell and change nothing about a process that runs.
QUIET = MIRRORS | {"PATH", "SHELL", "TMPDIR", "LANG", "LANGUAGE"}
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def names_of(models: Iterable[type[Settings]]) -> set[str]:
    """Every environment name that these settings read."""
    return {e for m in models for n, f in m.model_fields.items() for e in env_names(n, f)}


def for_child(
    part: str, home: Path, shell: Mapping[str, str], settings: Iterable[type[Settings]], own: Mapping[str, str]
) -> dict[str, str]:
    """The environment of one process.

    Args:
        part: Its name in the process table.
        home: VOICE_HOME, absolute.
        shell: The environment `voicectl` itself runs in.
        settings: Models whose names may pass.
        own: What the process table adds; it wins.
    """
    known = names_of(settings)
    passed = {
        n: v for n, v in shell.items() if n in known or n in SYSTEM or n.startswith((*OUR_PREFIXES, *SYSTEM_PREFIXES))
    }
    return {**passed, **no_proxy(shell), "PYTHONUNBUFFERED": "1", "VOICE_HOME": str(home), MARK: part, **own}


def no_proxy(shell: Mapping[str, str]) -> dict[str, str]:
    """NO_PROXY in both spellings, with loopback added to what the shell says."""
    said = [h.strip() for h in (shell.get("no_proxy") or shell.get("NO_PROXY") or "").split(",") if h.strip()]
    value = ",".join([*said, *(h for h in LOOPBACK if h not in said)])
    return {"NO_PROXY": value, "no_proxy": value}


def differing(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Names whose values differ between two environments; what every shell sets its own way does not count."""
    return sorted(n for n in {*then, *now} - QUIET if then.get(n) != now.get(n))
