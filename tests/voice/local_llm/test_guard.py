"""What the model wrote is checked before it is heard or called."""

from __future__ import annotations

import pytest

from voicectl.voice.engines.local_llm.guard import grounded, invented, invented_about_caller, leaked, promises

pytestmark = pytest.mark.unit


def test_numbers_and_states_without_a_source_are_inventions() -> None:
    source = "O302: shipped, arrives Friday, 39 dollars"

    assert invented("O302 was shipped and arrives on Friday.", source) == []
    assert invented("It arrives on Monday for 40 dollars.", source) == ["40", "monday"]
    assert invented("It takes two to three days.", source) == ["two", "three"]


def test_an_answer_about_the_caller_may_only_use_what_was_told() -> None:
    facts = "favourite fruit is mango\nwhat is my favourite fruit"

    assert invented_about_caller("Your favorite fruit is mango.", facts) == []
    assert invented_about_caller("I'm sorry, I don't know that yet.", facts) == []
    assert invented_about_caller("Your favourite fruit is papaya.", facts) == ["papaya"]
    assert invented_about_caller("Would you like some papaya?", facts) == []


def test_words_of_the_examples_are_a_leak_unless_this_call_has_them() -> None:
    assert leaked("Your locker number is 8812.", ("8812", "Odile"), "nothing") == ["8812"]
    assert leaked("Your locker number is 8812.", ("8812", "Odile"), "locker number is 8812") == []


def test_a_fact_is_grounded_only_in_the_callers_own_words() -> None:
    assert grounded("lives in Leeds", "um I live in Leeds now")
    assert not grounded("car is a blue Toyota", "my car is broken")


def test_a_claim_of_having_saved_is_a_promise_and_a_denial_is_none() -> None:
    words = ("remember", "saved")

    assert promises("Okay, I'll remember that.", words)
    assert promises("Saved, your dog is Rex.", words)
    assert not promises("All right, I won't remember that.", words)
    assert not promises("Do you remember Paris?", words)
