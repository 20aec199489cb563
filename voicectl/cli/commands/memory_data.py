"""`voicectl memory import|export|forget`: all of a customer at once, or many customers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voicectl.cli import out

if TYPE_CHECKING:
    from voicectl.memory.forget import Receipt

Customer = Annotated[str, typer.Argument(help="Customer key: +8801700000001, user:42, or a demo name.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
SHOWN = 200  # bad rows on the terminal; --json lists all


def import_(
    file: Annotated[Path, typer.Argument(help="CSV with the header customer,line[,block], or JSON Lines of the same.")],
    apply: Annotated[bool, typer.Option("--apply", help="Do it; else only say what would happen.")] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Import the good rows although others are bad.")] = False,
    as_json: Json = False,
) -> None:
    """Take facts over from a file; without --apply nothing is changed. Example: voicectl memory import crm.csv."""
    from dataclasses import asdict

    from voicectl.cli.errors import NotFound, Refused
    from voicectl.memory import importing
    from voicectl.memory.config import MemorySettings, load
    from voicectl.memory.store import open_store

    if not file.exists():
        raise NotFound(f"there is no file {file}.")
    store = open_store(load(MemorySettings))
    plan = importing.read_file(file)
    outcome = importing.check(store, plan)
    bad = outcome.bad
    refused = bool(bad) and not skip_bad
    if apply and not refused:
        outcome = importing.apply(store, plan, outcome)
        bad = sorted([*bad, *outcome.bad], key=lambda b: b.number)
    applied = apply and not refused
    if as_json:
        out.document({**asdict(outcome), "applied": applied, "bad": [asdict(b) for b in bad]})
    else:
        for row in bad[:SHOWN]:
            out.text(f"{file.name}:{row.number}: {row.why}")
        if len(bad) > SHOWN:
            out.text(f"… and {len(bad) - SHOWN} more bad rows; all of them: --json")
        counts = f"{outcome.added} added, {outcome.replaced} replaced, {outcome.unchanged} there already"
        words = "" if applied else "would be: "
        out.text(f"{words}{counts}, of {outcome.customers} customers; {len(bad)} bad rows")
    if refused and apply:
        raise Refused(f"{len(bad)} rows are bad; nothing was imported.", "Correct them, or leave them out: --skip-bad")
    if not apply:
        out.say("nothing was changed; do it with --apply")


def export(customer: Customer) -> None:
    """Print everything known of a customer as one JSON document. Example: voicectl memory export user:42 > 42.json.

    Its fields are described in docs/export.md.
    """
    from voicectl.memory import export as exporting
    from voicectl.memory.config import MemorySettings, load
    from voicectl.memory.store import open_store
    from voicectl.memory.sync.reach import letta_if_any

    settings = load(MemorySettings)
    with letta_if_any(settings) as backend:
        out.document(exporting.export(open_store(settings), customer, home=settings.home, backend=backend))


def forget(
    customer: Customer,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    end_calls: Annotated[bool, typer.Option("--end-calls", help="End a call that is on; else it is refused.")] = False,
    as_json: Json = False,
) -> None:
    """Erase a customer everywhere and print a receipt. Example: voicectl memory forget user:42.

    What a crash or a server that is away leaves undone is done by the same command again, or by the syncer.
    """
    from voicectl.cli.system import forgetting
    from voicectl.memory import forget as forgets
    from voicectl.memory.config import load
    from voicectl.memory.store import open_store
    from voicectl.voice.config import VoiceSettings

    settings = load(VoiceSettings)
    store = open_store(settings)
    found = forgets.about(store, customer)
    if not yes:
        _confirm(found)
    receipt = forgetting.forget(settings, store, customer, end_calls=end_calls)
    if as_json:
        out.document(forgetting.as_json(receipt))
    else:
        _print(receipt)
    if receipt.left:
        raise typer.Exit(1)


def _confirm(found: str) -> None:
    import sys

    from voicectl.cli.errors import Refused

    if not sys.stdin.isatty():
        raise Refused(f"nobody is at this terminal to confirm forgetting {found}.", "Say --yes.")
    if not typer.confirm(f"Forget {found}? This cannot be taken back.", err=True):
        raise Refused("nothing was forgotten.")


def _print(receipt: Receipt) -> None:
    out.text(f"forgotten: {receipt.customer}")
    for table, number in receipt.rows.items():
        out.text(f"  {number} rows of {table}")
    for room in receipt.calls_ended:
        out.text(f"  the call in {room} was ended")
    out.text(f"  {receipt.files} files")
    out.text(f"  {receipt.agents} agents in Letta; Letta is {receipt.letta}")
    if receipt.conversations:
        out.text(f"  {receipt.conversations} conversations in the agents of desks; those agents stay")
    for words in receipt.left:
        out.text(f"not done: {words}")
    for words in receipt.kept:
        out.text(f"stays: {words}")
