"""What LiveKit reports of its rooms, as a reason to look at them now: the reconciler is woken, nothing else happens.

What an event says is believed of nobody: the reconciler asks the server itself. So a report that comes twice, late or
again from somebody who kept it costs one look. Only the signature decides whether it is LiveKit's.
Not here: what is looked at then (rooms/reconciler.py), how our own LiveKit server is told of this address
(cli/system/livekit_server.py).
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from enum import StrEnum

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from livekit import api

from voicectl.voice.config import VoiceSettings
from voicectl.voice.events import WEBHOOK_PATH

log = logging.getLogger(__name__)

# LiveKit tries again for half a minute what was not taken; what is older somebody kept, as signatures hold 5 minutes.
OLD_S = 60.0


class Outcome(StrEnum):
    """What became of a webhook."""

    WOKE = "woke"  # the reconciler looks
    OLD = "old"  # signed, and of a time that the poll has seen long ago
    REFUSED = "refused"  # not signed by our server


class Webhooks:
    """Receives them.

    Args:
        settings: For the key that LiveKit signs with.
        poke: Wakes the reconciler; called in the event loop.
        clock: Seconds since 1970.

    Attributes:
        counts: How many there were, by outcome.
    """

    def __init__(
        self, settings: VoiceSettings, poke: Callable[[], None], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings, self._poke, self._clock = settings, poke, clock
        self.counts: Counter[str] = Counter({outcome.value: 0 for outcome in Outcome})

    def receive(self, body: bytes, signature: str) -> tuple[Outcome, str]:
        """Take one webhook.

        Args:
            body: As it came, byte for byte: the signature is over these.
            signature: The Authorization header.

        Returns:
            What became of it, and why in words where it was not taken.
        """
        outcome, why = self._judge(body, signature)
        self.counts[outcome.value] += 1
        if outcome is Outcome.WOKE:
            self._poke()
        return outcome, why

    def _judge(self, body: bytes, signature: str) -> tuple[Outcome, str]:
        try:
            receiver = api.WebhookReceiver(api.TokenVerifier(*self._settings.key_secret()))
            event = receiver.receive(body.decode(), signature)
        except Exception as e:  # noqa: BLE001  (the receiver's own are bare; whatever it is, it is not our server's)
            log.warning("a webhook is not LiveKit's", extra={"why": f"{type(e).__name__}: {e}"[:200]})
            return Outcome.REFUSED, "not signed with this installation's LiveKit key"
        if (age_s := self._clock() - event.created_at) > OLD_S:
            return Outcome.OLD, f"{age_s:.0f} s old"
        log.debug("webhook", extra={"event": event.event, "room": event.room.name})
        return Outcome.WOKE, ""


def routes(webhooks: Webhooks) -> APIRouter:
    """The route that LiveKit posts to."""
    router = APIRouter()

    @router.post(WEBHOOK_PATH)
    async def webhook(request: Request) -> JSONResponse:
        outcome, why = webhooks.receive(await request.body(), request.headers.get("authorization", ""))
        if outcome is Outcome.REFUSED:
            remedy = "In LiveKit's configuration: webhook: {api_key: the LIVEKIT_API_KEY of this installation}"
            return JSONResponse({"error": why, "remedy": remedy}, 401)
        return JSONResponse({"outcome": outcome.value})

    return router
