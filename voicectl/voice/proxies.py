"""Which proxy an address is reached through: the environment's, and never one for this machine itself.

Libraries disagree here: some take HTTP_PROXY for loopback too, some need it spelled out. So our clients are told.
"""

from __future__ import annotations

import os
import urllib.parse
import urllib.request


def is_loopback(url: str) -> bool:
    """Whether an address names this machine."""
    host = urllib.parse.urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def proxy_for(url: str) -> str | None:
    """The proxy for an address of scheme http, https, ws or wss; None for a direct connection."""
    parts = urllib.parse.urlsplit(url)
    if is_loopback(url) or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return urllib.request.getproxies().get({"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme))


def spare_loopback(url: str) -> None:
    """Take HTTP_PROXY out of this process when its LiveKit server is on this machine.

    LiveKit's native client sends ws:// through HTTP_PROXY or http_proxy, to loopback too, and ignores NO_PROXY
    (measured: rtc 1.1.21; HTTPS_PROXY and ALL_PROXY do no harm). Call it before the first room is joined and before
    children start.
    """
    if is_loopback(url):
        for name in ("HTTP_PROXY", "http_proxy"):
            os.environ.pop(name, None)
