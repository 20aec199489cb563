"""Spoken ids, cues of a sentence, and the caller's own words as a fact."""

from __future__ import annotations

import pytest

from voicectl.voice.engines.local_llm.cues import Cue, Turn, as_fact, as_told, cues, said_back, says_goodbye
from voicectl.voice.engines.local_llm.text import flat, norm

pytestmark = pytest.mark.unit


def shown(sentence: str, facts: str = "") -> frozenset[Cue]:
    said = norm(sentence)
    return cues(Turn(sentence=said, caller=said, facts=facts))


@pytest.mark.parametrize(
    ("spoken", "written"),
    [
        ("order o three oh two please", "order O302 please"),
        ("ticket t fifty one", "ticket T51"),
        ("um it's O, 2, 8, 8", "it's O288"),
        ("0 1 8 1 1 2 2 3 3 4 4.", "01811223344."),
        ("five five five oh one three three", "5550133"),
        ("I have two dogs and one cat", "I have two dogs and one cat"),
        ("flight at 6 in the morning", "flight at 6 in the morning"),
    ],
)
def test_spelled_ids_are_joined_and_counts_stay_words(spoken: str, written: str) -> None:
    assert norm(spoken) == written


@pytest.mark.parametrize(
    ("result", "line"),
    [
        ('{"status": "saved"}', "saved"),
        ('{"id": "O302", "state": "shipped", "note": null}', "id: O302, state: shipped"),
        ("[]", "nothing found"),
        ("two\nlines", "two lines"),
        ("", "done"),
    ],
)
def test_a_tool_result_becomes_one_line_without_json(result: str, line: str) -> None:
    assert flat(result) == line


@pytest.mark.parametrize(
    "sentence",
    [
        "My daughter's name is Marisol.",
        "I live in Leeds",
        "I'm allergic to nuts",
        "so my train leaves at 8 from Bonn",
        "Hi, my name is Ola and my favourite car is red.",
    ],
)
def test_who_tells_something_about_themselves_is_noticed(sentence: str) -> None:
    assert Cue.TELLS in shown(sentence)


@pytest.mark.parametrize(
    "sentence",
    [
        "What is my daughter's name?",
        "I have a question",
        "I like that",
        "I think my favourite is red",
        "my internet is down, what should I do",
        "my name is Ola",
        "don't remember that, my dog is fine",
    ],
)
def test_questions_doubts_and_refusals_tell_nothing(sentence: str) -> None:
    assert Cue.TELLS not in shown(sentence)


def test_a_request_to_save_is_told_from_a_question_whether_we_remember() -> None:
    assert Cue.ASKS_TO_SAVE in shown("Can you note down that the gate is green?")

    assert Cue.ASKS_TO_SAVE not in shown("Do you remember my birthday?")
    assert Cue.ASKS_TO_SAVE not in shown("No, don't save that.")
    assert Cue.ASKS_TO_SAVE not in shown("remember me?")


def test_a_personal_question_is_known_unknown_or_open_by_the_facts() -> None:
    assert Cue.ANSWER_KNOWN in shown("What is my favourite fruit?", "name: Ola\nfavourite fruit is mango")
    assert Cue.ANSWER_KNOWN in shown("Where do I live?", "name: Ola\ncity: Leeds")
    assert Cue.ANSWER_UNKNOWN in shown("What is my favourite colour?", "name: Ola\nfavourite fruit is mango")
    assert Cue.ANSWER_UNKNOWN in shown("Where do I live?")

    assert not {Cue.ANSWER_KNOWN, Cue.ANSWER_UNKNOWN} & shown("How do I boil an egg?")


def test_only_a_clear_goodbye_ends_the_call_without_the_model() -> None:
    assert says_goodbye("Okay, that's all, thank you. Goodbye.")

    assert not says_goodbye("I said goodbye to my friend")
    assert not says_goodbye("Wait, don't say bye")
    assert not says_goodbye("Please remember I ski. Bye.")


@pytest.mark.parametrize(
    ("sentence", "fact", "back"),
    [
        ("My favourite fruit is mango.", "favourite fruit is mango", "your favourite fruit is mango"),
        ("Hi, my name is Ola and I live in Leeds.", "lives in Leeds", "you live in Leeds"),
        ("so, can you note down that my code is 4471?", "code is 4471", "your code is 4471"),
        ("I'm allergic to nuts, please remember that.", "is allergic to nuts", "you're allergic to nuts"),
        (
            "Wait, before I go, please remember I take my coffee black. Bye.",
            "takes their coffee black",
            "you take your coffee black",
        ),
    ],
)
def test_a_fact_is_the_callers_words_without_greeting_name_and_request(sentence: str, fact: str, back: str) -> None:
    told = as_told(sentence)

    assert as_fact(told) == fact
    assert said_back(told)[0].lower() + said_back(told)[1:] == back


@pytest.mark.parametrize(
    ("sentence", "asks"),
    [
        ("Please forget that I'm allergic to nuts.", True),
        ("forget my phone number", True),
        ("Okay, can you please delete my address?", True),
        ("I want you to forget where I live", True),
        ("Hi, my name is Ola, please forget my old address", True),
        ("Don't forget that I take my tea with honey.", False),
        ("I always forget my keys", False),
        ("Please don't forget my birthday", False),
        ("oh, forget it", False),
        ("forget about it, never mind", False),
        ("did you forget my name?", False),
        ("I forgot my password", False),
    ],
)
def test_a_request_to_forget_is_told_from_forgetting(sentence: str, asks: bool) -> None:
    assert (Cue.ASKS_TO_FORGET in shown(sentence)) is asks
