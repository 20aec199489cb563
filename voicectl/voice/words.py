"""What the system itself says in a call, word for word: templates are always right and take no time.

Not here: the closing line and the filler, which are settings (config.py).
"""

from __future__ import annotations

APOLOGY = "I'm sorry, I lost my thread for a moment. Could you say that again, please?"
# Recorded in outage.ogg: it is said when there is no voice to say it.
OUTAGE = "I'm sorry, something on our side is not working, so I have to end this call. Please try again later."
CUT_OFF_ANSWERS = "I'm sorry, we were cut off for a moment."  # and then what is owed
# Recorded in busy.ogg: who says it loads no engine.
BUSY = "I'm sorry, all lines are busy at the moment. Please call again in a few minutes. Goodbye."
CUT_OFF = "I'm sorry, we were cut off for a moment. I'm back. Could you say that again, please?"


def greeting(name: str | None, calls_before: int) -> str:
    """The first words to a customer.

    Args:
        name: As they are called; None when it is not known.
        calls_before: How often they called before.
    """
    if calls_before and name:
        return f"Hello {name}, welcome back. How can I help you?"
    return f"Hello{' ' + name if name else ''}, nice to meet you. How can I help you?"
