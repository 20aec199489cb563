"""`voicectl sync`: how Letta is kept level with the store, and what to do where it is not."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from voicectl.cli import out

app = typer.Typer(help="How Letta is kept level with what was said.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Of = Annotated[str | None, typer.Argument(help="A customer key or a call id; nothing: all.", show_default=False)]
COLUMNS = ("customer", "call", "seq", "state", "since", "why")


@app.command()
def status(as_json: Json = False) -> None:
    """Show lag, backlog, dead letters and whether Letta answers. Example: voicectl sync status --json."""
    from dataclasses import asdict

    from voicectl.memory import desks
    from voicectl.memory.config import MemorySettings, load
    from voicectl.memory.learning import figures as steps_of
    from voicectl.memory.store import open_store
    from voicectl.memory.sync import figures

    settings = load(MemorySettings)
    store = open_store(settings)
    steps = steps_of.figures(store)
    learnt = f"memory steps: {steps.done} done, {steps.waiting} wait, {steps.dead} failed{_because(steps.why)}"
    if steps.passed_over:
        learnt += f"\n{steps.passed_over} calls ended before memory steps were on, not learnt from: sync retry CUSTOMER"
    if settings.backend == "embedded":
        words = f"memory is in the store alone (MEMORY_BACKEND=embedded); nothing is mirrored\n{learnt}"
        out.document({"backend": "embedded", "steps": asdict(steps)}) if as_json else out.text(words)
        return
    seen = figures.sync_figures(store)
    gone = [d for d in desks.letta_desks(store) if d.gone_ms is not None]
    if as_json:
        lost = {"desks_without_agent": [d.name for d in gone]}
        out.document({"backend": "letta", **figures.as_json(seen), **lost, "steps": asdict(steps)})
        return
    state = seen.outage.value if seen.outage else "unknown"
    out.text(f"Letta {state}{f', since {_when(seen.since_ms)}' if seen.since_ms else ''}{_because(seen.why)}")
    out.text(f"backlog {seen.backlog} turns, the oldest {seen.lag_ms / 1000:.1f} s old; {seen.dead_letters} dead")
    for customer, why in seen.failing.items():
        out.text(f"waits: {customer}{_because(why)}")
    for desk in gone:
        out.text(
            f"desk {desk.name}: its agent {desk.agent_id} is not in Letta any more, since {_when(desk.gone_ms or 0)}"
        )
    out.text(learnt)


@app.command("list")
def list_(of: Of = None, as_json: Json = False) -> None:
    """List what Letta does not take and calls not learnt from, and why. Example: voicectl sync list user:42."""
    from voicectl.memory.config import MemorySettings, load
    from voicectl.memory.learning import figures as steps_of
    from voicectl.memory.store import open_store
    from voicectl.memory.sync import letters

    store = open_store(load(MemorySettings))
    name = letters.find(store, of) if of else None
    found = [_row(x) for x in letters.letters(store, name)] + [_step_row(x) for x in steps_of.dead(store, name)]
    out.table(found, COLUMNS, as_json=as_json, name="dead_letters")
    if not found:
        out.say("nothing: Letta took all that was sent, and no memory step failed for good")


@app.command()
def retry(of: Of = None, every: Annotated[bool, typer.Option("--all", help="All there are.")] = False) -> None:
    """Give a dead call, or its memory step, another go. Example: voicectl sync retry --all.

    Of a customer or a call that is named, what ended before memory steps were on is learnt from as well.
    """
    from voicectl.cli.errors import Usage
    from voicectl.memory.config import MemorySettings, load
    from voicectl.memory.learning import figures as steps_of
    from voicectl.memory.store import open_store
    from voicectl.memory.sync import letters

    if (of is None) != every:
        raise Usage("name a customer or a call, or say --all.", "See: voicectl sync list")
    store = open_store(load(MemorySettings))
    name = letters.find(store, of) if of else None
    found = letters.retry(store, name)
    for call in sorted({x.call for x in found}):
        out.text(f"{call} goes out again")
    for call in steps_of.retry(store, name):
        out.text(f"{call} is to be learnt from")
    out.say(f"{len(found)} dead letters less; see how it goes: voicectl sync status")


@app.command()
def drop(
    of: Of = None,
    every: Annotated[bool, typer.Option("--all", help="All there are.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Say that dead letters stay out of Letta; the store keeps them. Example: voicectl sync drop user:42 --yes."""
    import sys

    from voicectl.cli.errors import Refused, Usage
    from voicectl.memory.config import MemorySettings, load
    from voicectl.memory.store import open_store
    from voicectl.memory.sync import letters

    if (of is None) != every:
        raise Usage("name a customer or a call, or say --all.", "See: voicectl sync list")
    store = open_store(load(MemorySettings))
    name = letters.find(store, of) if of else None
    found = [x for x in letters.letters(store, name) if x.state == "dead"]
    if not found:
        out.say("there is nothing to drop")
        return
    if not yes:
        if not sys.stdin.isatty():
            raise Refused(f"{len(found)} turns or calls would stay out of Letta; nobody confirmed it.", "Add --yes")
        if not typer.confirm(f"Leave {len(found)} turns or calls out of Letta? The store keeps them.", err=True):
            raise Refused("nothing was dropped.")
    out.text(f"{letters.drop(store, name)} dropped; they are in the store, and listed: voicectl sync list")


@app.command()
def verify(
    customer: Annotated[str | None, typer.Argument(help="Customer key; nothing: all.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Compare Letta with the store row by row; exit 1 if they differ. Example: voicectl sync verify user:42."""
    from dataclasses import asdict

    from voicectl.memory import admin
    from voicectl.memory.config import MemorySettings, load
    from voicectl.memory.store import open_store
    from voicectl.memory.sync import reach
    from voicectl.memory.sync import verify as compare

    settings = load(MemorySettings)
    store = open_store(settings)
    key = admin.show(store, customer).customer if customer else None
    with reach.letta_of(settings) as backend:
        seen = compare.verify(store, backend, key)
    rows = [asdict(d) for d in seen.differences]
    if as_json:
        counts = {"customers": seen.customers, "calls": seen.calls, "rows": seen.rows}
        out.document({"equal": not rows, **counts, "differences": rows})
    elif rows:
        out.table(rows, ("customer", "call", "row", "kind", "detail"))
    if not as_json:
        words = f"{len(rows)} differences" if rows else "equal"
        out.text(f"{words}: {seen.customers} customers, {seen.calls} calls, {seen.rows} rows in Letta")
    if rows:
        raise typer.Exit(1)


def _row(letter: Any) -> dict[str, Any]:
    return {
        "customer": letter.customer,
        "call": letter.call,
        "seq": letter.seq or "all",
        "state": letter.state.value,
        "since": _when(letter.at_ms),
        "why": letter.why,
    }


def _step_row(step: Any) -> dict[str, Any]:
    row = {"customer": step.customer, "call": step.call, "seq": "memory step", "state": step.state.value}
    return {**row, "since": _when(step.at_ms), "why": step.why}


def _when(at_ms: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")


def _because(why: str) -> str:
    return f": {why}" if why else ""
