"""Who counts as a customer is decided by kind, as the server's API numbers it."""

from __future__ import annotations

import pytest
from livekit import api

from voicectl.voice.rooms.admin import is_human

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("kind", "human"),
    [
        ("STANDARD", True),
        ("SIP", True),
        ("CONNECTOR", True),
        ("AGENT", False),
        ("EGRESS", False),
        ("INGRESS", False),
        ("BRIDGE", False),
    ],
)
def test_a_customer_is_known_by_kind_whatever_the_name(kind: str, human: bool) -> None:
    participant = api.ParticipantInfo(identity="robot-agent-abbott", kind=api.ParticipantInfo.Kind.Value(kind))

    assert is_human(participant) is human
