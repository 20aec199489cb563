"""`voicectl memory history|blame|undo|edit|set|search`: single lines, for operators."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from voicectl.cli import out

Customer = Annotated[str, typer.Argument(help="Customer key: +8801700000001, user:42, or a demo name.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def history(customer: Customer, as_json: Json = False) -> None:
    """List every change of what we know of a customer. Example: voicectl memory history user:42."""
    from voicectl.memory import history as log

    seen = log.history(_store(), customer)
    rows = [asdict(v) for v in seen]
    if as_json:
        out.document({"customer": customer, "versions": rows})
        return
    marked = [
        {**row, "when": _when(row["at_ms"]), "mark": _mark(row), "change": _change(row)} for row in map(_by, rows)
    ]
    out.table(marked, ("id", "when", "block", "change", "source", "call_id", "because", "mark"))


def blame(
    customer: Customer,
    line: Annotated[
        str | None, typer.Argument(help="Its id in `memory show`, or words of it; nothing: all.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Show which call and which sentence taught each line. Example: voicectl memory blame user:42 teal."""
    from voicectl.memory import history as log

    rows = [asdict(b) for b in log.blame(_store(), customer, line)]
    shown = rows if as_json else [{**row, "when": _when(row["at_ms"])} for row in map(_by, rows)]
    columns = ("id", "block", "line", "source", "when", "call_id", "sentence", "restored_by")
    out.table(shown, columns, as_json=as_json, name="lines")


def undo(customer: Customer, op: Annotated[int, typer.Argument(help="Its id in `memory history`.")]) -> None:
    """Take one change back; its line is not learnt again from that call. Example: voicectl memory undo user:42 17."""
    from voicectl.memory import history as log

    out.text(log.undo(_store(), customer, op))


def edit(customer: Customer) -> None:
    """Edit what we know of a customer in $EDITOR. Example: EDITOR=nano voicectl memory edit user:42."""
    import secrets

    from voicectl.cli.errors import Refused
    from voicectl.cli.system.editor import edited
    from voicectl.memory import edit as editing
    from voicectl.memory import traces
    from voicectl.memory.config import MemorySettings, load
    from voicectl.memory.errors import MemoryFault

    store = _store()
    opened = editing.open_text(store, customer)
    path = traces.of_edit(load(MemorySettings).home, opened.customer, secrets.token_hex(4))
    text = edited(path, opened.text)
    try:
        changed = editing.save(store, opened, text)
    except MemoryFault as e:
        raise Refused(f"{e}", f"Nothing was changed; your text is kept in {path}") from e
    path.unlink()
    out.text(f"{changed} line{'' if changed == 1 else 's'} changed")


def set_(
    customer: Customer,
    line: Annotated[str, typer.Argument(help='The fact, e.g. "name: Rahim" or "likes teal".')],
    block: Annotated[str, typer.Option(help="profile, last_call or operator_notes.")] = "profile",
) -> None:
    """Add a line, or replace the one about the same thing. Example: voicectl memory set user:42 "name: Rahim"."""
    from voicectl.cli.errors import Usage
    from voicectl.memory import admin, profile

    if block not in set(profile.Block):
        raise Usage(f"there is no block {block}.", f"There are: {', '.join(b.value for b in profile.Block)}")
    store = _store()
    with store.read() as connection:
        key = admin.key_of(connection, customer)
    made = profile.put(store, key, line, profile.Origin(profile.Source.OPERATOR), profile.Block(block))
    out.text(f"{made}: {line}")


def search(
    words: Annotated[list[str], typer.Argument(help="All must occur, in any order.")],
    customer: Annotated[str | None, typer.Option(help="Only of this customer.")] = None,
    as_json: Json = False,
) -> None:
    """Search lines and past turns. Example: voicectl memory search parcel late --customer user:42."""
    from voicectl.memory import admin

    rows = [asdict(f) for f in admin.search(_store(), " ".join(words), customer)]
    shown = rows if as_json else [{**row, "when": _when(row["at_ms"])} for row in rows]
    out.table(shown, ("customer", "where", "who", "text", "when", "call_id"), as_json=as_json, name="found")
    if not rows:
        out.say("nothing found")


def _store() -> Any:
    from voicectl.memory.config import MemorySettings, load
    from voicectl.memory.store import open_store

    return open_store(load(MemorySettings))


def _by(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose source names the model, where one said it: `memory_step by the local model`."""
    return {**row, "source": f"{row['source']} by {row['model']}"} if row["model"] else row


def _change(row: dict[str, Any]) -> str:
    if row["op"] == "replace":
        return f"{row['old_line']} → {row['line']}"
    return f"{'+' if row['op'] == 'add' else '-'} {row['line']}"


def _mark(row: dict[str, Any]) -> str:
    marks = {"overruled_by": "overruled by", "undoes": "undoes", "undone_by": "undone by"}
    return ", ".join(f"{words} {row[name]}" for name, words in marks.items() if row[name] is not None)


def _when(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")
