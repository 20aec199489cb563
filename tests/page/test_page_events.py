"""Page and server spell the names that pass between them alike."""

from __future__ import annotations

import re
from itertools import chain

import pytest

from voicectl.memory.config import checkout
from voicectl.voice import events

pytestmark = pytest.mark.unit

ENUMS = (events.Topic, events.Rpc, events.Attribute, events.RoomMark)


def test_every_name_of_ours_that_the_page_uses_is_one_that_the_server_knows() -> None:
    used = set(re.findall(r'"(voice\.\w+)"', (checkout() / "page" / "src" / "events.ts").read_text()))
    known = {str(name) for name in chain.from_iterable(ENUMS)}

    assert used
    assert used - known == set()
