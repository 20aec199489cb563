"""Questions to running parts: each answers with what is still missing, and with "" when nothing is.

Promise: a probe asks the server itself, never a proxy (provider keys are the exception), and returns in seconds.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import jwt

Probe = Callable[[], str]


@dataclass(frozen=True)
class Answer:
    """What a server said: the HTTP status, 0 when nobody answered, and the body or the reason."""

    status: int
    body: str


def ask(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    timeout_s: float = 2.0,
    proxied: bool = False,
) -> Answer:
    """One HTTP request: GET, or POST when there is a body. Through the shell's proxy only when proxied is set."""
    if urlsplit(url).scheme not in ("http", "https"):
        return Answer(0, f"{url} is not an http address")
    request = urllib.request.Request(url, data=body, headers=dict(headers or {}))  # noqa: S310  (checked above)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(None if proxied else {}))
    try:
        with opener.open(request, timeout=timeout_s) as response:
            return Answer(response.status, response.read(65_536).decode("utf-8", "replace"))
    except urllib.error.HTTPError as e:
        with e:
            return Answer(e.code, e.read(65_536).decode("utf-8", "replace"))
    except (OSError, http.client.HTTPException) as e:
        reason = getattr(e, "reason", None) or e
        return Answer(0, str(reason))


def http_url(livekit_url: str) -> str:
    """LiveKit's HTTP address for its WebSocket address."""
    return livekit_url.replace("wss://", "https://", 1).replace("ws://", "http://", 1).rstrip("/")


def livekit_accepts(url: str, key: str, secret: str) -> Answer:
    """Ask a LiveKit server for its rooms with our key: 200 it is ours to use, 401 it is somebody else's."""
    now = int(time.time())
    claims = {"iss": key, "nbf": now - 60, "exp": now + 60, "video": {"roomList": True}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a short secret: choices.py says it in our words
        token = jwt.encode(claims, secret, algorithm="HS256")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    return ask(f"{http_url(url)}/twirp/livekit.RoomService/ListRooms", headers=headers, body=b"{}")


def livekit(url: str, key: str, secret: str) -> Probe:
    """LiveKit answers and takes our key."""

    def missing() -> str:
        answer = livekit_accepts(url, key, secret)
        if answer.status == 200:
            return ""
        return f"{url} refuses our key" if answer.status == 401 else f"{url}: {answer.body[:120] or answer.status}"

    return missing


def answers(url: str, headers: Mapping[str, str] | None = None) -> Probe:
    """A GET of the address gives 200."""

    def missing() -> str:
        answer = ask(url, headers=headers)
        return "" if answer.status == 200 else f"{url}: {_words(answer)}"

    return missing


def _words(answer: Answer) -> str:
    """What an error answer says, without its JSON round it."""
    try:
        said = json.loads(answer.body)
        return str(said["error"]["message"])[:120]
    except (ValueError, KeyError, TypeError):
        return answer.body[:120].strip() or str(answer.status)


def can_take_a_call(page: str) -> Probe:
    """`/readyz` of the control plane gives 200; its JSON names what is missing."""

    def missing() -> str:
        answer = ask(f"{page}/readyz")
        if answer.status == 200:
            return ""
        try:
            said = json.loads(answer.body)
            lacks = said.get("missing") if isinstance(said, dict) else None
        except ValueError:
            lacks = None
        if isinstance(lacks, dict) and lacks:
            return "; ".join(f"{part}: {lack}" for part, lack in lacks.items())
        if lacks:
            return "; ".join(map(str, lacks)) if isinstance(lacks, list) else str(lacks)
        return answer.body[:120].strip() or str(answer.status)

    return missing
