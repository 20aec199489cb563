"""How the model sees the tool that ends a call."""

from __future__ import annotations

from typing import cast

import pytest
from livekit.agents.llm.utils import build_legacy_openai_schema

from voicectl.voice.agents.assistant import end_call
from voicectl.voice.call import MemoryCall

pytestmark = pytest.mark.unit


def test_the_tool_shows_no_inner_parameter_and_says_when_to_use_it() -> None:
    (tool,) = end_call(cast(MemoryCall, object())).tools

    shown = build_legacy_openai_schema(tool)["function"]  # type: ignore[arg-type]

    assert shown["name"] == "end_call"
    assert shown["parameters"]["properties"] == {}
    assert "Call when" in shown["description"]
    assert "Do not call when" in shown["description"]
