"""`voicectl memory`: what we remember, for operators.

Not here: single lines and their history (memory_lines.py), whole customers (memory_data.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

import typer

from voicectl.cli import out
from voicectl.cli.commands import memory_data, memory_lines

app = typer.Typer(help="What we remember of customers.", no_args_is_help=True)
_OTHERS: dict[str, Callable[..., None]] = {
    "history": memory_lines.history,
    "blame": memory_lines.blame,
    "undo": memory_lines.undo,
    "edit": memory_lines.edit,
    "set": memory_lines.set_,
    "search": memory_lines.search,
    "import": memory_data.import_,
    "export": memory_data.export,
    "forget": memory_data.forget,
}
for name, command in _OTHERS.items():
    app.command(name)(command)
Customer = Annotated[str, typer.Argument(help="Customer key: +8801700000001, user:42, or a demo name.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@app.command()
def show(customer: Customer, as_json: Json = False) -> None:
    """Show what is remembered of a customer, and what taught it. Example: voicectl memory show +8801700000001."""
    from voicectl.memory import admin
    from voicectl.memory.config import MemorySettings, load
    from voicectl.memory.store import open_store
    from voicectl.memory.sync.link import letta_link

    settings = load(MemorySettings)
    store = open_store(settings)
    seen = admin.show(store, customer)
    link = letta_link(store, settings, seen.customer)
    if as_json:
        out.document({**admin.as_json(seen), "letta": asdict(link) if link else None})
        return
    out.text(f"{seen.customer}: {seen.calls} call{'' if seen.calls == 1 else 's'}, {seen.turns} turns")
    rows: list[dict[str, Any]] = [
        {"id": line.op_id, "block": line.block, "line": line.text, "source": line.source, "because": line.because}
        for line in seen.lines
    ]
    out.table(rows, ("id", "block", "line", "source", "because"))
    if seen.passed_over:
        old = f"{seen.passed_over} call{'' if seen.passed_over == 1 else 's'}"
        out.text(
            f"{old} ended before memory steps were on, not learnt from; to do it: voicectl sync retry {seen.customer}"
        )
    for words in link.how if link else ["Letta: not in use (MEMORY_BACKEND=embedded, or no server yet)."]:
        out.text(words)


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the customers that are known. Example: voicectl memory list --json."""
    from voicectl.memory import admin
    from voicectl.memory.config import MemorySettings, load
    from voicectl.memory.store import open_store

    rows = admin.customers_known(open_store(load(MemorySettings)))
    out.table(rows, ("customer", "name", "calls", "last_call"), as_json=as_json, name="customers")


@app.command()
def rebuild(
    replace: Annotated[bool, typer.Option("--replace", help="Delete the agents that Letta has of us first.")] = False,
    wait: Annotated[bool, typer.Option(help="Stay until Letta has everything.")] = True,
) -> None:
    """Send everything into an empty Letta again, also with calls on. Example: voicectl memory rebuild."""
    from voicectl.memory.config import MemorySettings, load
    from voicectl.memory.store import open_store
    from voicectl.memory.store.leases import open_leases
    from voicectl.memory.sync import reach
    from voicectl.memory.sync import rebuild as building

    settings = load(MemorySettings)
    store, leases = open_store(settings), open_leases(settings)
    with reach.letta_of(settings) as backend:
        for one in building.rebuild(store, leases, backend, replace=replace):
            deleted = f", {one.deleted} agents deleted" if one.deleted else ""
            out.text(f"{one.customer}: {one.calls} calls go out again{deleted}")
    for words in building.progress(store) if wait else ():
        out.say(words)
