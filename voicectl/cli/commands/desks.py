"""`voicectl desks`: what a customer can choose to talk to, and what the team says of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from voicectl.cli import out

app = typer.Typer(help="The desks a customer can call.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="The desk's name; see `voicectl desks list`.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
STALE_MS = 60_000  # the syncer reads an agent every 10 s
MOST_BYTES = 65_536  # of a policy's file: more than any that fits, so that an endless pipe ends
COLUMNS = ("name", "title", "agent", "policy", "state")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the desks, and how each is. Example: voicectl desks list."""
    from voicectl.memory import policies
    from voicectl.memory.desks import letta_desks
    from voicectl.voice.desk_list import DESKS

    store = _store()
    said = {name: policies.present(store, name) for name in policies.desks_with_one(store)}

    def row(name: str, title: str, about: dict[str, Any]) -> dict[str, Any]:
        policy = said.get(name)
        return {"name": name, "title": title, **about, "policy": f"{len(policy.text)} characters" if policy else ""}

    rows = [
        row(d.name, d.title, {"kind": "ours", "agent": "", "state": "ready", "description": d.description})
        for d in DESKS
    ]
    rows += [
        row(
            d.name,
            d.title,
            {
                "kind": "letta",
                "agent": d.agent_id,
                "state": _state(d),
                "agent_name": d.agent_name,
                "read_ms": d.read_ms,
            },
        )
        for d in letta_desks(store)
    ]
    out.table(rows, COLUMNS, as_json=as_json, name="desks")


@app.command()
def add(
    letta: Annotated[str, typer.Option("--letta", metavar="AGENT", help="Id or name of an agent of the Letta server.")],
    name: Annotated[str, typer.Option(help="The desk's name; the agent's when not given.")] = "",
    title: Annotated[str, typer.Option(help="What customers see; the agent's name when not given.")] = "",
) -> None:
    """Give an agent that you keep in Letta a voice. Example: voicectl desks add --letta Agent_66.

    Its system prompt and its blocks become the prompt, each call a conversation of it; what you edit in ADE is used
    from the next turn a few seconds later. Nothing is restarted.
    """
    import re

    from voicectl.cli.errors import Refused, Usage
    from voicectl.memory import desks, others
    from voicectl.memory.config import MemorySettings, load
    from voicectl.memory.sync.reach import letta_of
    from voicectl.voice.desk_list import DESKS

    if name and not desks.NAME.fullmatch(name):
        raise Usage(f"a desk cannot be called {name!r}.", "Up to 40 letters a-z, digits, - and _, a letter first.")
    with letta_of(load(MemorySettings)) as backend:
        agent = others.find(backend, letta)
    given = name or re.sub(r"[^A-Za-z0-9_-]+", "-", agent.name).strip("-_")[:40]
    if not desks.NAME.fullmatch(given):
        raise Usage(f"the agent's name {agent.name!r} makes no name for a desk.", "Give one: --name NAME")
    if any(d.name == given.lower() for d in DESKS):
        raise Refused(f"there is a desk {given.lower()} of our own.", "Give it another: --name NAME")
    made = desks.add(_store(), given, title or agent.name or given, agent)
    blocks = ", ".join(label for label, _ in agent.blocks) or "none"
    out.text(f"{made.name} speaks for {agent.name} ({agent.id}); blocks: {blocks}")
    if agent.no_calls:
        out.say(f"its calls go to the customers' own agents: {agent.no_calls}")
    out.say(f'call it: voicectl call "Who are you?" --desk {made.name}')


@app.command()
def remove(name: Name) -> None:
    """Remove a desk; its agent in Letta stays, with all calls. Example: voicectl desks remove Agent_66."""
    from voicectl.cli.errors import Refused
    from voicectl.memory import desks
    from voicectl.voice.desk_list import all_desks, desk_info, is_ours

    store = _store()
    if is_ours(name):
        raise Refused(f"{name} is a desk of our own.", "It is declared in voicectl/voice/agents/desks.py.")
    if not desks.remove(store, name):
        desk_info(name, all_desks(store))
    out.text(f"{name} is removed; its agent and the calls in it stay in Letta")


@app.command()
def policy(
    name: Name,
    text: Annotated[
        str | None, typer.Option("--set", metavar="TEXT", help='What to say of it; "" takes it back.')
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", help="A file with it; - for standard input.")] = None,
    as_json: Json = False,
) -> None:
    """Show or set the rules of every call of a desk. Example: voicectl desks policy assistant --set TEXT.

    They are the block `desk_policy` in Letta, in the agents of those who called; an edit there is used as well. Used in
    turns that begin a second later, after an edit in ADE four.
    """
    from dataclasses import asdict

    from voicectl.cli.errors import Usage
    from voicectl.memory import policies
    from voicectl.voice.desk_list import all_desks, desk_info

    if text is not None and file is not None:
        raise Usage("--set and --file are two texts.", "Give one.")
    store = _store()
    desk = desk_info(name, all_desks(store)).name
    if file is not None:
        text = _text_of(file)
    if text is not None:
        policies.write(store, desk, text, policies.Source.OPERATOR)
    now, row = policies.present(store, desk), policies.block(store, desk)
    if as_json:
        versions = [asdict(v) for v in policies.versions(store, desk)]
        said = now.text if now else ""
        out.document({"desk": desk, "text": said, "refused": row.refused if row else "", "versions": versions})
        return
    out.text(now.text if now and now.text else f"nothing is said of {desk}")
    if row is not None and row.refused:
        out.say(f"an edit in Letta was not taken: {row.refused}")


def _text_of(file: Path) -> str:
    """The text of a file, a pipe, or `-` for standard input; what is far too long is not read to its end."""
    from voicectl.cli.errors import NotFound, Refused, Usage
    from voicectl.memory.lines import BLOCK_LIMIT

    try:
        if str(file) == "-":
            if sys.stdin is None:  # `<&-`
                raise Usage("standard input is closed.", "Give a file with the text.")
            found = sys.stdin.buffer.read(MOST_BYTES + 1)
        else:
            with file.open("rb") as handle:
                found = handle.read(MOST_BYTES + 1)
    except FileNotFoundError as e:
        raise NotFound(f"there is no file {file}.") from e
    except OSError as e:
        raise Usage(
            f"{file} cannot be read: {e.strerror}.", "Give a file with the text, or - for standard input."
        ) from e
    if len(found) > MOST_BYTES:
        raise Refused(f"{file} has more than {MOST_BYTES} bytes, {BLOCK_LIMIT} characters fit.", "Say it shorter.")
    try:
        return found.decode()
    except UnicodeDecodeError as e:
        raise Usage(f"{file} is not a text in UTF-8.") from e


def _store() -> Any:
    from voicectl.memory.config import MemorySettings, load
    from voicectl.memory.store import open_store

    return open_store(load(MemorySettings))


def _state(desk: Any) -> str:
    from datetime import UTC, datetime

    from voicectl.memory.calls import now_ms

    def when(at_ms: int) -> str:
        return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")

    if desk.gone_ms is not None:
        return f"its agent is not in Letta any more, since {when(desk.gone_ms)}; calls use what was last read"
    if now_ms() - desk.read_ms > STALE_MS:
        return f"last read from Letta {when(desk.read_ms)}; see: voicectl sync status"
    if desk.no_calls:
        return f"ready; calls go to the customers' own agents: {desk.no_calls}"
    return "ready"
