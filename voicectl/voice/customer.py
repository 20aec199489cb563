"""Who the customer of a call is, from what the server vouches for.

In this order: the phone number of a SIP leg, the attribute that our token endpoint minted, else nobody we can know.
Never the agent's identity, never the room's name.
"""

from __future__ import annotations

from dataclasses import dataclass

from livekit import rtc

from voicectl.memory.errors import SettingError
from voicectl.memory.identity import anonymous, normalise
from voicectl.voice.events import Attribute

SIP_NUMBER = "sip.phoneNumber"


@dataclass(frozen=True)
class Customer:
    """The person on the line."""

    key: str
    name: str | None  # as given to the page; the profile may know better
    identity: str  # of the participant


def customer_of(participant: rtc.RemoteParticipant) -> Customer:
    """The customer behind a participant; an unusable number or key makes an anonymous one."""
    attributes = participant.attributes
    if participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_SIP:
        key = _key(attributes.get(SIP_NUMBER, ""))
        # A withheld number comes as a word, such as "anonymous": not a customer that all withheld numbers share.
        return Customer(key if key.startswith("+") else anonymous(), None, participant.identity)
    return Customer(
        _key(attributes.get(Attribute.CUSTOMER, "")), attributes.get(Attribute.NAME) or None, participant.identity
    )


def _key(given: str) -> str:
    try:
        return normalise(given) if given else anonymous()
    except SettingError:
        return anonymous()
