"""While a customer is on the line: the worker, the call, rooms, desks, engines, the control plane.

For somebody else's agent: `accept_call` answers a job offer, `join_call` gives the call with its memory (see
examples/plain_agent.py), `Once` makes an effect happen once, `place_call` calls any agent as a synthetic customer.
The only package that imports LiveKit. It starts no process (`voicectl.cli` does) and keeps nothing after the call
(`voicectl.memory` does).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voicectl.voice.call import MemoryCall, NotOurs, join_call
    from voicectl.voice.caller import Caller, Heard, NothingHeard
    from voicectl.voice.calling import place_call
    from voicectl.voice.offers import accept_call
    from voicectl.voice.once import Once

__all__ = ["Caller", "Heard", "MemoryCall", "NotOurs", "NothingHeard", "Once", "accept_call", "join_call", "place_call"]

_AT = {"Once": "once", "accept_call": "offers", "place_call": "calling"}
_AT |= dict.fromkeys(("MemoryCall", "NotOurs", "join_call"), "call")
_AT |= dict.fromkeys(("Caller", "Heard", "NothingHeard"), "caller")


def __getattr__(name: str) -> Any:
    # On demand: LiveKit takes a second to import, and most commands never need it.
    if name not in _AT:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_AT[name]}"), name)
