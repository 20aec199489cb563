"""The grammar of a turn leaves what is possible now, and nothing else."""

from __future__ import annotations

import re
from typing import Literal

import pytest
from livekit.agents import function_tool

from tests.voice.local_llm.desk import assistant_specs
from voicectl.voice.engines.local_llm.cues import Turn
from voicectl.voice.engines.local_llm.grammar import SPEECH_ONLY, only, parse_call, plan, possible_ids, repaired
from voicectl.voice.engines.local_llm.text import norm
from voicectl.voice.engines.local_llm.tools import Hints, Id, Name, Phone, ToolSpec, hint, specs_of

pytestmark = pytest.mark.unit

ORDERS = "Orders: O302 wireless earbuds, O417 rice cooker, O288 electric kettle. Tickets: T51."


def says(sentence: str, facts: str = "", before: str = "") -> Turn:
    said = norm(sentence)
    return Turn(sentence=said, caller=f"{before}\n{said}", facts=facts, dialogue=f"{before}\n{said}")


def order_specs() -> tuple[ToolSpec, ...]:
    @function_tool
    async def get_order_details(order_id: str) -> str:
        """Status of one order."""
        return ""

    @function_tool
    async def create_order(items: str, name: str, phone: str) -> str:
        """The caller orders food."""
        return ""

    @function_tool
    async def set_language(language: Literal["en", "bn"], volume: int, loud: bool = False) -> str:
        """Change the language."""
        return ""

    return specs_of(
        [
            hint(get_order_details, Hints(kinds={"order_id": Id("O")})),
            hint(create_order, Hints(kinds={"name": Name(), "phone": Phone()})),
            set_language,
        ]
    )


def test_every_rule_that_a_grammar_uses_is_defined_once() -> None:
    grammar = plan(says("hello O302", ORDERS), order_specs(), "required").grammar

    without_text = re.sub(r'"(\\.|[^"\\])*"|\[(\\.|[^\]\\])*\]', " ", grammar)
    defined = re.findall(r"^(\w+) ::=", without_text, re.MULTILINE)
    used = set(re.findall(r"\b[a-z]+\b", re.sub(r"^\w+ ::=", "", without_text, flags=re.MULTILINE)))
    assert len(defined) == len(set(defined))
    assert used <= set(defined), grammar


def test_an_id_that_was_spelled_is_the_only_one_and_speech_is_closed() -> None:
    decided = plan(says("where is o three oh two", ORDERS), order_specs())

    assert '"@get_order_details(" ("\\"O302\\"") ")"' in decided.grammar
    assert "O417" not in decided.grammar
    assert decided.grammar.startswith("root ::= tool\n")


def test_ids_come_from_product_words_then_the_dialogue_then_the_only_one() -> None:
    assert possible_ids("O", says("where is my rice cooker", ORDERS)) == ["O417"]
    assert possible_ids("O", says("and when does it come", ORDERS, before="where is O288")) == ["O288"]
    assert possible_ids("T", says("any news", ORDERS)) == ["T51"]
    assert possible_ids("O", says("my parcel is late", ORDERS)) == []


def test_a_tool_without_a_possible_id_is_left_out() -> None:
    decided = plan(says("my parcel is late", ORDERS), order_specs())

    assert "get_order_details" not in decided.grammar
    assert "create_order" in decided.grammar


def test_phone_is_what_the_caller_said_or_empty_and_enums_are_words_of_the_schema() -> None:
    decided = plan(says("for Anna, 555-0192"), order_specs())

    assert '("\\"5550192\\"" | "\\"\\"")' in decided.grammar
    assert '("\\"en\\"" | "\\"bn\\"")' in decided.grammar
    assert "[0-9]{1,9}" in decided.grammar


def test_a_reply_to_a_result_and_tool_choice_none_can_only_speak() -> None:
    specs = order_specs()

    assert plan(Turn(sentence="where is O302", result="shipped"), specs).grammar == SPEECH_ONLY
    assert plan(says("where is O302", ORDERS), specs, "none").grammar == SPEECH_ONLY


def test_a_named_tool_choice_leaves_that_tool_only() -> None:
    grammar = plan(says("hello"), order_specs(), "create_order").grammar

    assert "create_order" in grammar
    assert "set_language" not in grammar
    assert grammar.startswith("root ::= tool\n")


def test_end_call_waits_for_a_closing_phrase() -> None:
    specs = assistant_specs()

    assert "end_call" not in plan(says("tell me a joke"), specs).grammar
    assert "end_call" in plan(says("no thanks, that's all I needed"), specs).grammar


def test_a_clear_goodbye_and_a_told_fact_need_no_model() -> None:
    specs = assistant_specs()

    assert plan(says("thank you, goodbye"), specs).call == ("end_call", {})
    assert plan(says("Hello, my name is Ola and my favourite fruit is mango."), specs).call == (
        "remember",
        {"fact": "favourite fruit is mango"},
    )


def test_a_request_to_forget_calls_that_tool_and_no_other_turn_offers_it() -> None:
    specs = assistant_specs()

    assert plan(says("Please forget that I'm allergic to nuts."), specs).call == (
        "forget_fact",
        {"fact": "is allergic to nuts"},
    )
    asked = plan(says("Can you forget my phone number?", "phone number is 12"), specs)
    assert [t.name for t in asked.tools] == ["forget_fact"]
    assert asked.grammar.startswith("root ::= tool\n")
    for sentence in ("Don't forget that I like tea", "what is my name", "tell me a joke", "oh forget it"):
        assert "forget_fact" not in plan(says(sentence), specs).grammar


def test_recall_is_due_for_an_unknown_fact_and_closed_for_a_known_one() -> None:
    specs = assistant_specs()
    question = "What is my favourite fruit?"

    unknown = plan(says(question, "name: Ola"), specs)
    known = plan(says(question, "favourite fruit is mango"), specs)

    assert [t.name for t in unknown.tools] == ["recall"]
    assert unknown.grammar.startswith("root ::= tool\n")
    assert "recall" not in [t.name for t in known.tools]


def test_a_call_is_read_by_position_and_a_cut_one_is_none() -> None:
    specs = order_specs()

    assert parse_call('@create_order("tea, \\"hot\\"", "Anna", "")', specs) == (
        "create_order",
        {"items": 'tea, "hot"', "name": "Anna", "phone": ""},
    )
    assert parse_call('@create_order("tea', specs) is None
    assert parse_call("@unknown()", specs) is None


def test_names_and_phones_that_nobody_said_are_emptied() -> None:
    spec = order_specs()[1]
    turn = says("one toast for Anna")

    fixed = repaired({"items": "1 toast", "name": "Anna", "phone": "5550177"}, spec, turn)
    invented = repaired({"items": "1 toast", "name": "Nadia", "phone": ""}, spec, turn)

    assert fixed == {"items": "1 toast", "name": "Anna", "phone": ""}
    assert invented is not None
    assert invented["name"] == ""


def test_a_remembered_fact_is_never_the_models_own() -> None:
    remember = assistant_specs()[0]

    cut = repaired({"fact": "parking spot"}, remember, says("Please remember the parking spot is B12."))
    leaked = repaired({"fact": "flower is zinnia"}, remember, says("Can you save that?"))

    assert cut == {"fact": "the parking spot is B12"}
    assert leaked is None


def test_only_leaves_one_tool() -> None:
    remember = assistant_specs()[0]

    assert only(remember, says("hello")).grammar.startswith("root ::= tool\n")
