"""Who is on the line: the number a telephone vouches for, the attribute a token carries, else nobody."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
from livekit import rtc

from voicectl.voice.customer import customer_of

pytestmark = pytest.mark.unit
SIP = rtc.ParticipantKind.PARTICIPANT_KIND_SIP
STANDARD = rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD


def somebody(kind: int, **attributes: str) -> rtc.RemoteParticipant:
    named = {k.replace("_", "."): v for k, v in attributes.items()}
    return cast(rtc.RemoteParticipant, SimpleNamespace(kind=kind, attributes=named, identity="p1"))


@pytest.mark.parametrize("number", ["+8801712345678", "8801712345678", "+880 1712-345678"])
def test_a_telephone_is_the_number_however_the_trunk_writes_it(number: str) -> None:
    assert customer_of(somebody(SIP, **{"sip.phoneNumber": number})).key == "+8801712345678"


@pytest.mark.parametrize("withheld", ["", "anonymous", "Restricted", "unknown", "user:admin", "+12"])
def test_a_withheld_number_is_nobody_and_no_two_are_the_same(withheld: str) -> None:
    one, two = (customer_of(somebody(SIP, **{"sip.phoneNumber": withheld})).key for _ in range(2))

    assert one.startswith("anon:")
    assert one != two


def test_a_telephone_cannot_claim_what_only_our_tokens_carry() -> None:
    key = customer_of(somebody(SIP, **{"sip.phoneNumber": "+8801712345678", "voice.customer": "user:admin"})).key

    assert key == "+8801712345678"


def test_a_page_is_who_its_token_says() -> None:
    found = customer_of(somebody(STANDARD, **{"voice.customer": "user:42", "voice.name": "Rahim"}))

    assert (found.key, found.name) == ("user:42", "Rahim")
