"""What the small model is shown for the assistant desk: its instructions and, per tool, when to call it.

The desk attaches these to its own tools: `hint(tool, REMEMBER)`. Names and numbers in the examples cannot occur in a
real call.
Not here: the tools themselves and the desk (voice/agents/assistant.py).
"""

from __future__ import annotations

from voicectl.voice.engines.local_llm.cues import Cue, as_told, said_back
from voicectl.voice.engines.local_llm.tools import Example, Hints, Text

INSTRUCTIONS = "You are a friendly personal voice assistant who remembers what callers tell you."


def confirm_saved(sentence: str, result: str) -> str:
    """The confirmation after a fact was kept ("Okay, I'll remember that your dog is Rex.").

    What was not saved is said to be so, with the reason. Empty for any other result: the model puts it into words.
    """
    told = said_back(as_told(sentence))
    if result.lower().startswith("not saved: "):
        return f"I'm sorry, I could not save that: {result[len('not saved: ') :]}."
    if not result.lower().startswith("saved") or not told:
        return ""
    if not told.lower().startswith(("you", "your")) or len(told.split()) > 20:
        return "Okay, I'll remember that."
    return f"Okay, I'll remember that {told[0].lower()}{told[1:]}."


def confirm_forgotten(_: str, result: str) -> str:
    """What became of a request to forget, said as it is: a small model would promise more."""
    said: list[str] = []
    for part in result.split("; "):
        what, _, rest = part.partition(": ")
        if what == "forgotten":
            said.append("Okay, I have forgotten that.")
        elif what == "not forgotten":
            said.append(f"I'm sorry, I cannot forget that: {rest}.")
        elif what.startswith("not forgotten yet"):
            said.append(f"Which one shall I forget: {rest}?".replace('", "', '", or "'))
        elif what == "nothing forgotten":
            said.append("I don't have that in my memory, so there is nothing to forget.")
    return " ".join(said)


REMEMBER = Hints(
    when="the caller tells something about themselves, or asks you to remember, save or note something",
    kinds={"fact": Text(said=True)},
    must_on=frozenset({Cue.ASKS_TO_SAVE, Cue.TELLS}),
    never_on=frozenset({Cue.GIVES_NAME, Cue.ASKS_TO_FORGET}),
    confirm=confirm_saved,
    promises=("remember", "saved", "save", "noted", "note", "memorize"),
    examples=(
        Example(
            "um please note that my car is a blue Toyota",
            "Okay, I'll remember that your car is a blue Toyota.",
            call={"fact": "car is a blue Toyota"},
            result="saved",
        ),
        Example("No, don't save that.", "All right, I won't."),
        Example(
            "My favourite tea is rooibos.",
            "Okay, I'll remember that your favourite tea is rooibos.",
            call={"fact": "favourite tea is rooibos"},
            result="saved",
        ),
        Example("I went to the market today, it was so crowded.", "That sounds tiring. Did you find what you wanted?"),
        Example(
            "keep in mind my aunt lives in Narvik",
            "Okay, I'll remember that your aunt lives in Narvik.",
            call={"fact": "aunt lives in Narvik"},
            result="saved",
        ),
    ),
)

FORGET_FACT = Hints(
    when="the caller asks you to forget or delete something about themselves",
    kinds={"fact": Text(said=True)},
    only_on=frozenset({Cue.ASKS_TO_FORGET}),
    must_on=frozenset({Cue.ASKS_TO_FORGET}),
    confirm=confirm_forgotten,
    examples=(
        Example(
            "please forget that I play the oboe",
            "Okay, I have forgotten that.",
            call={"fact": "plays the oboe"},
            result='forgotten: "plays the oboe"',
        ),
    ),
)

RECALL = Hints(
    when="the caller asks what was said in an earlier call",
    kinds={"query": Text()},
    never_on=frozenset({Cue.ANSWER_KNOWN, Cue.ASKS_TO_FORGET}),
    must_on=frozenset({Cue.ASKS_EARLIER, Cue.ANSWER_UNKNOWN}),
    examples=(
        Example(
            "what did I say about that song last week",
            "I'm sorry, I find nothing about a song.",
            call={"query": "song"},
            result="nothing found",
        ),
        Example("Who wrote Hamlet?", "Hamlet was written by William Shakespeare."),
        Example(
            "Which film did I want to see?",
            "You wanted to see Jaws.",
            call={"query": "film to see"},
            result="On 2 May the caller wanted to see Jaws.",
        ),
    ),
)

END_CALL = Hints(
    when="the caller says goodbye or has nothing else",
    only_on=frozenset({Cue.CLOSING}),
    examples=(Example("that is everything, thank you, have a good evening", call={}),),
)

__all__ = ["END_CALL", "FORGET_FACT", "INSTRUCTIONS", "RECALL", "REMEMBER", "confirm_forgotten", "confirm_saved"]
