"""Errors of the memory package, one class per thing a caller would do differently.

MemoryFault
├── SettingError        a setting has a value we cannot use; names the setting and the command that explains it
├── StoreError          the store cannot be used
│   ├── StoreUnavailable    locked, gone, full, read-only: try again later, nothing was written
│   └── StoreForeign        the database holds tables that are not ours, or a newer schema: refused
├── FencedOut           another holder has a higher fence; whoever gets this must stop writing
├── CallOver            the call has ended or is unknown; nothing more is written to it
├── CustomerUnknown     no such customer
├── OperationUnknown    no such line or operation of a customer
├── AgentUnknown        Letta has no such agent, or it is a customer's
├── BackendFault        what the mirrored server said or did not say (drawn in backends/__init__.py)
└── Refused             a change that was understood and not made (conflict, limit, not confirmed)
"""

from __future__ import annotations


class MemoryFault(Exception):
    """Root of the memory package's errors."""


class SettingError(MemoryFault):
    """A setting has a value we cannot use.

    Args:
        name: The environment name, e.g. `VOICE_HTTP_PORT`.
        value: What was found, already masked when it is a secret.
        expected: What would be right.
        remedy: What to do, as a command or an instruction.
    """

    def __init__(self, name: str, value: str, expected: str, remedy: str = "") -> None:
        self.name, self.value, self.expected = name, value, expected
        self.remedy = remedy or f"See: voicectl config explain {name}"
        super().__init__(f"{name}={value} is not usable: {expected}. {self.remedy}")


class StoreError(MemoryFault):
    """The store cannot be used."""


class StoreUnavailable(StoreError):
    """The store did not take the write or answer the read; nothing was changed.

    Args:
        where: The database, without its password.
        reason: What the driver said.
    """

    def __init__(self, where: str, reason: str) -> None:
        self.where, self.reason = where, reason
        super().__init__(f"the store {where} is not available: {reason}")


class StoreForeign(StoreError):
    """The database is not ours to use: foreign tables, or a schema newer than this program.

    Args:
        where: The database, without its password.
        found: What is there instead.
    """

    def __init__(self, where: str, found: str) -> None:
        self.where, self.found = where, found
        super().__init__(
            f"the database {where} {found}. Give us an empty one: set DATABASE_URL, or unset it to use SQLite."
        )


class FencedOut(MemoryFault):
    """Somebody else holds the lease with a higher fence.

    Args:
        name: The lease, e.g. `room:abc`, or the call.
        ours: Our fence.
        theirs: The fence found.
    """

    def __init__(self, name: str, ours: int, theirs: int) -> None:
        self.name, self.ours, self.theirs = name, ours, theirs
        super().__init__(f"{name}: fence {ours} is out, {theirs} holds it now")


class CallOver(MemoryFault):
    """The call has ended or never existed.

    Args:
        call_id: The call.
        state: Its state, or "unknown".
    """

    def __init__(self, call_id: str, state: str) -> None:
        self.call_id, self.state = call_id, state
        super().__init__(f"call {call_id} is {state}; nothing more is written to it")


class CustomerUnknown(MemoryFault):
    """There is no such customer in the store.

    Args:
        key: The customer key asked for.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"no customer {key}. Known ones: voicectl memory list")


class OperationUnknown(MemoryFault):
    """A customer has no such line or operation.

    Args:
        customer: Customer key.
        what: The id or the words asked for.
    """

    def __init__(self, customer: str, what: str) -> None:
        self.customer, self.what = customer, what
        super().__init__(f"{customer} has no line or operation {what}. See: voicectl memory history {customer}")


class Refused(MemoryFault):
    """A change was understood and not made.

    Args:
        what: The change.
        why: The reason, with the value that decided it.
        remedy: What to do instead.
    """

    def __init__(self, what: str, why: str, remedy: str = "") -> None:
        self.what, self.why, self.remedy = what, why, remedy
        super().__init__(f"{what}: {why}.{' ' + remedy if remedy else ''}")


class AgentUnknown(MemoryFault):
    """Letta has no agent of that id or name that is not a customer's of ours.

    Args:
        wanted: What was asked for.
        near: Names that look like it, or some that there are.
    """

    def __init__(self, wanted: str, near: list[str]) -> None:
        self.wanted, self.near = wanted, near
        there = f"Did you mean: {', '.join(near)}?" if near else "It has no agents but those of our customers."
        super().__init__(f"Letta has no agent {wanted[:80]!r}. {there}")
