"""Customer keys: what identifies a customer to us, and what of it leaves our store.

`+8801700000001` for numbers (E.164), `user:42` for the deploying company's own ids, `demo:rahim` for a bare name typed
into the demo page, `anon:…` for who cannot be known. Never the agent's identity, never the room.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import unicodedata

import phonenumbers

from voicectl.memory.errors import SettingError

MAX_KEY = 120
_NUMBER = re.compile(r"^\+?[\d\s().-]{6,25}$")
_KEY = re.compile(r"^(user|demo|anon):\s*\S.*$", re.DOTALL)


def normalise(text: str) -> str:
    """The customer key for what somebody gave as who they are.

    Args:
        text: A phone number, a key with its prefix, or a bare name.

    Raises:
        SettingError: Empty, too long, or a number that cannot be one.
        TypeError: It is not text.
    """
    refuse_no_text("customer", text)
    shown = text[:40]
    text = clean(text).strip()
    if not text or len(text) > MAX_KEY:
        raise SettingError("customer", shown, f"1 to {MAX_KEY} characters", "Give a number, user:ID or a name.")
    if _NUMBER.match(text):
        return _e164(text)
    if _KEY.match(text):
        kind, rest = text.split(":", 1)
        return f"{kind}:{' '.join(rest.split()).casefold()}"
    return f"demo:{' '.join(text.split()).casefold()}"


def _e164(text: str) -> str:
    digits = re.sub(r"\D", "", text)
    try:
        number = phonenumbers.parse("+" + digits)
    except phonenumbers.NumberParseException as e:
        raise _not_a_number(text) from e
    if phonenumbers.is_possible_number_with_reason(number) != phonenumbers.ValidationResult.IS_POSSIBLE:
        raise _not_a_number(text)
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _not_a_number(text: str) -> SettingError:
    return SettingError("customer", text, "a phone number with its country code", "Write it like +8801700000001.")


def anonymous() -> str:
    """A key for somebody who cannot be known: remembered for the call, never merged with anybody."""
    return f"anon:{secrets.token_hex(8)}"


def spoken_name(text: str) -> str | None:
    """The name inside what somebody typed as who they are; None for numbers and ids."""
    text = " ".join(clean(text).split())
    if not text or _NUMBER.match(text) or (_KEY.match(text) and not text.startswith("demo:")):
        return None
    return text.removeprefix("demo:")[:60].strip() or None


def hashed(key: str) -> str:
    """What stands for a customer in logs and in other systems: 16 hex digits, the same on every machine."""
    return hashlib.sha256(f"voicectl:{key}".encode()).hexdigest()[:16]


def refuse_no_text(what: str, given: object) -> None:
    """Say by its name what somebody's program handed over as text and is not.

    Raises:
        TypeError: It is not a str.
    """
    if not isinstance(given, str):
        raise TypeError(f"{what} is {given!r:.40}, a {type(given).__name__}; it must be a str")


def clean(text: str) -> str:
    """Text without control characters and lone surrogates, which recognition can emit and databases refuse."""
    kept = (c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs"))
    return "".join(kept)
