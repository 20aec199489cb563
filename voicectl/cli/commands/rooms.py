"""`voicectl rooms`: who is in which room, as observed; and what a person may do about it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from voicectl.cli import out

if TYPE_CHECKING:
    from voicectl.voice.rooms.survey import RoomView, Sources

app = typer.Typer(help="The rooms of the LiveKit server, as observed.", no_args_is_help=True)
Room = Annotated[str, typer.Argument(help="The room's name or sid; see `voicectl rooms list`.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
COLUMNS = ("room", "sid", "state", "desk", "customers", "agent", "fence", "lease", "call")
AGENT_COLUMNS = ("identity", "holder", "fence", "audible", "build", "pid", "on_behalf")
EVENT_COLUMNS = ("at", "event", "ours", "our_fence", "theirs", "their_fence", "why")
CLEAN_COLUMNS = ("room", "sid", "what", "why")
EVENTS = 20
T = TypeVar("T")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the rooms, and how each is. Example: voicectl rooms list --json.

    States: requested (a customer, no agent), accepted (an agent is on its way), joined (it is in the room), audible (it
    has published sound), busy (the customer waits for a line), ending, empty, foreign (not ours).
    """
    from dataclasses import asdict

    from voicectl.voice.rooms.survey import survey

    found = _with_sources(survey)
    if as_json:
        out.document({"rooms": [asdict(r) for r in found]})
        return
    out.table([_row(r) for r in found], COLUMNS)
    if not found:
        out.say("the server has no room")


@app.command()
def show(room: Room, as_json: Json = False) -> None:
    """Show a room: who is in it, its lease, its call, what happened lately. Example: voicectl rooms show call-1f0a."""
    from dataclasses import asdict

    from voicectl.memory import room_log
    from voicectl.voice.rooms.survey import look

    async def ask(site: Sources) -> tuple[RoomView, list[room_log.Noted]]:
        seen = await look(site, room)
        return seen, room_log.recent(site.store, EVENTS, seen.name)

    seen, noted = _with_sources(ask)
    events = [{**asdict(n), "at": _when(n.at_ms)} for n in noted]
    if as_json:
        out.document({"room": asdict(seen), "events": events})
        return
    lease, call = seen.lease, seen.call
    out.text(f"room name  {seen.name}\nroom sid   {seen.sid}\nstate      {seen.state}\ndesk       {seen.desk}")
    out.text(f"customers  {', '.join(seen.customers) or 'none'}")
    for other in seen.others:
        out.text(f"{other.kind:<10} {other.identity}")
    if seen.busy_since_s is not None:
        out.text(f"busy       since {_when(int(seen.busy_since_s * 1000))}")
    out.text(f"lease      {_lease(seen) if lease else 'never had one'}")
    out.text(f"call       {f'{call.id}, {call.state}, desk {call.desk}' if call else 'none that has not ended'}")
    agents = [{**asdict(a), "holder": _yes(a.is_holder), "audible": _yes(a.audible)} for a in seen.agents]
    if agents:
        out.text("")
        out.table(agents, AGENT_COLUMNS)
    if events:
        out.text("")
        out.table(events, EVENT_COLUMNS)


@app.command()
def evict(
    room: Room,
    identity: Annotated[str, typer.Argument(help="The agent's; see `voicectl rooms show`.")],
    holder: Annotated[
        bool, typer.Option("--holder", help="Also the agent that has the room, or where nobody is known to have it.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove an agent that does not hold the room. Example: voicectl rooms evict call-1f0a agent-AJ_9 --yes.

    Customers, recordings and avatars are never removed. The agent that has the room is replaced when it is: another one
    goes on with the call.
    """
    from voicectl.voice.rooms import operate

    seen, agent = _with_sources(
        lambda site: operate.evict(site, room, identity, holder=holder, confirm=_confirming(yes))
    )
    fence = "none" if agent.fence is None else agent.fence
    out.text(f"{agent.identity} (fence {fence}) is out of {seen.name} ({seen.sid})")
    if agent.is_holder:
        out.say(f"it had the room; a reconciler gives the customer another one: voicectl rooms show {seen.name}")


@app.command()
def dispatch(
    room: Room,
    wait_s: Annotated[float, typer.Option("--wait-s", min=0, help="How long to watch, in seconds.")] = 10.0,
    as_json: Json = False,
) -> None:
    """Ask for an agent where a customer has none, and watch it come. Example: voicectl rooms dispatch call-1f0a.

    Where an agent has the room nothing is dispatched. Exit 0 means that an agent is there and has published sound.
    """
    from dataclasses import asdict

    from voicectl.memory.config import load
    from voicectl.voice.config import VoiceSettings
    from voicectl.voice.rooms import operate

    settings = load(VoiceSettings)
    seen = _with_sources(lambda site: operate.dispatch(site, settings, room, wait_s=wait_s, said=out.say))
    if as_json:
        out.document({"room": asdict(seen)})
        return
    out.text(f"{seen.name} ({seen.sid}) is {seen.state}: {_agent(seen)}")


@app.command()
def clean(
    yes: Annotated[bool, typer.Option("--yes", help="Delete them; else they are only shown.")] = False,
    as_json: Json = False,
) -> None:
    """Show leftovers of ours that nobody is in, or delete them. Example: voicectl rooms clean --yes.

    Deleted is only what has no customer, no live lease and no open call, in two looks two seconds apart.
    """
    from voicectl.voice.rooms import leftovers

    words = {(True, True): "deleted", (False, True): "leftover", (False, False): "left alone"}
    verdicts = _with_sources(lambda site: leftovers.clean(site, delete=yes))
    rows: list[dict[str, Any]] = [
        {"room": v.room, "sid": v.sid, "deleted": v.deleted, "leftover": not v.stays, "why": v.stays} for v in verdicts
    ]
    if as_json:
        out.document({"dry_run": not yes, "rooms": rows})
        return
    out.table([{**r, "what": words[r["deleted"], r["leftover"]]} for r in rows], CLEAN_COLUMNS)
    left = sum(r["leftover"] for r in rows)
    if yes or not left:
        out.say(f"{sum(r['deleted'] for r in rows)} of {len(rows)} rooms deleted")
    else:
        out.say(f"{left} of {len(rows)} rooms are leftovers; to delete them: voicectl rooms clean --yes")


def _with_sources(ask: Callable[[Sources], Awaitable[T]]) -> T:
    """What a question to the installation's server, store and leases gives."""
    import asyncio

    from voicectl.cli.errors import NotRunning
    from voicectl.memory.config import load
    from voicectl.voice.config import VoiceSettings
    from voicectl.voice.rooms.survey import sources

    settings = load(VoiceSettings)
    if settings.livekit_api_key is None:
        raise NotRunning(f"nothing was ever started in {settings.home}.", "Start it: voicectl up")

    async def asked() -> T:
        async with sources(settings) as site:
            return await ask(site)

    return asyncio.run(asked())


def _confirming(yes: bool) -> Callable[[str], None]:
    import sys

    from voicectl.cli.errors import Refused

    def confirm(question: str) -> None:
        if yes:
            return
        if not sys.stdin.isatty():
            raise Refused(f"{question} Nobody confirmed it.", "Add --yes")
        if not typer.confirm(question, err=True):
            raise Refused("nothing was removed.")

    return confirm


def _row(room: RoomView) -> dict[str, Any]:
    return {
        "room": room.name,
        "sid": room.sid,
        "state": room.state,
        "desk": room.desk,
        "customers": " ".join(room.customers),
        "agent": _agent(room),
        "fence": room.lease.fence if room.lease else None,
        "lease": room.lease.state if room.lease else None,
        "call": room.call.id if room.call else None,
    }


def _agent(room: RoomView) -> str:
    """The holder first; who else is there as an agent is marked."""
    others = [f"{a.identity} (no holder)" for a in room.agents if not a.is_holder]
    return " ".join([*([room.holder.identity] if room.holder else []), *others])


def _lease(room: RoomView) -> str:
    if room.lease is None:
        return ""
    left = room.lease.remaining_s
    lasts = (
        f"{left:g} s left" if room.lease.live else "given back" if room.lease.state == "free" else f"over {-left:g} s"
    )
    return f"{room.lease.state} by {room.lease.owner}, fence {room.lease.fence}, {lasts}"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _when(at_ms: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")
