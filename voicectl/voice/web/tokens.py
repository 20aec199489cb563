"""Tokens for customers: room, identity and grants are ours; the request only says who it claims to be and which desk.

LiveKit's standard token endpoint (POST, snake_case JSON), so its own front ends work unchanged. Minting has no side
effect: clients ask for more tokens than they use. Not here: HTTP (app.py), who may claim what (identity of memory).
"""

from __future__ import annotations

import json
import secrets
from datetime import timedelta
from typing import Annotated, Any

import jwt
from livekit import api
from pydantic import BaseModel, ConfigDict, Field

from voicectl.memory.errors import SettingError
from voicectl.memory.identity import anonymous, hashed, normalise, spoken_name
from voicectl.voice.config import VoiceSettings
from voicectl.voice.desk_list import DESKS, DeskInfo, desk_info
from voicectl.voice.events import Attribute, RoomMark

Short = Annotated[str, Field(max_length=200)]


class AgentWanted(BaseModel):
    """A desk, in the place where LiveKit's front ends name an agent."""

    model_config = ConfigDict(extra="ignore")
    agent_name: Short = ""


class RoomConfig(BaseModel):
    """What of a room configuration a client may say."""

    model_config = ConfigDict(extra="ignore")
    agents: Annotated[list[AgentWanted], Field(max_length=1)] = []


class TokenRequest(BaseModel):
    """The body of LiveKit's standard token request; what is not listed here is ours to decide and ignored."""

    model_config = ConfigDict(extra="ignore")
    participant_identity: Short = ""
    participant_name: Short = ""
    room_config: RoomConfig = RoomConfig()


class NotVouched(Exception):
    """The bearer token does not say who the customer is.

    Args:
        reason: What is wrong with it.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


def customer_in(settings: VoiceSettings, request: TokenRequest, authorization: str) -> tuple[str, str | None]:
    """Customer key and name for a request.

    Raises:
        NotVouched: VOICE_AUTH=jwt and the bearer token is missing or wrong.
        SettingError: The claimed identity cannot be one.
    """
    if settings.auth == "jwt":
        claims = _claims(settings, authorization)
        subject = str(claims["sub"])
        # A number is the customer who calls by phone from it; anything else is the company's own id.
        return normalise(subject if subject.startswith(("+", "user:")) else f"user:{subject}"), claims.get("name")
    claimed = request.participant_identity or request.participant_name
    if not claimed.strip():
        return anonymous(), None
    return normalise(claimed), spoken_name(request.participant_name) or spoken_name(claimed)


def _claims(settings: VoiceSettings, authorization: str) -> dict[str, Any]:
    if settings.jwt_key is None:
        raise SettingError("VOICE_JWT_KEY", "", "the key that signs your customers' tokens (VOICE_AUTH=jwt)")
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise NotVouched("send your token as: Authorization: Bearer …")
    key = settings.jwt_key.get_secret_value()
    algorithm = "RS256" if key.lstrip().startswith("-----BEGIN") else "HS256"
    try:
        claims: dict[str, Any] = jwt.decode(token, key, algorithms=[algorithm], options={"require": ["sub", "exp"]})
    except jwt.PyJWTError as e:
        raise NotVouched(str(e)) from e
    return claims


def mint(
    settings: VoiceSettings,
    customer: str,
    name: str | None,
    desk: str,
    *,
    known: tuple[DeskInfo, ...] = DESKS,
    may_send_data: bool = True,
) -> tuple[str, str]:
    """A token for one customer in a new room of their own, with the agent's dispatch inside it.

    Args:
        settings: Key, secret and life of the token.
        customer: Customer key.
        name: As given; shown to the agent.
        desk: Name of a desk; "" for the default one.
        known: The desks there are.
        may_send_data: Chat and RPC; voice alone does without.

    Returns:
        The token and the room's name.

    Raises:
        DeskUnknown: There is no such desk.
    """
    desk = desk_info(desk or settings.default_desk, known).name
    key, secret = settings.key_secret()
    room = f"call-{secrets.token_hex(8)}"
    attributes = {str(Attribute.CUSTOMER): customer}
    if name:
        attributes[str(Attribute.NAME)] = name[:60]
    dispatch = api.RoomAgentDispatch(agent_name=settings.agent_name, metadata=json.dumps({"desk": desk}))
    token = (
        api.AccessToken(key, secret)
        .with_identity(f"customer-{hashed(customer)[:8]}-{secrets.token_hex(4)}")  # one per connect: tabs do not clash
        .with_name((name or "")[:60])
        .with_ttl(timedelta(seconds=settings.token_ttl_s))
        .with_attributes(attributes)
        .with_grants(
            api.VideoGrants(
                room_join=True,
                room=room,
                can_subscribe=True,
                can_publish=True,
                can_publish_sources=["microphone"],
                can_publish_data=may_send_data,
            )
        )
        .with_room_config(
            api.RoomConfiguration(
                agents=[dispatch],
                max_participants=1,  # agents do not count (livekit-server.md 15)
                empty_timeout=60,
                departure_timeout=20,
                metadata=json.dumps({RoomMark.DESK: desk}),
            )
        )
    )
    return token.to_jwt(), room
