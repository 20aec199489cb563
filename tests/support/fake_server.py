"""LiveKit's server as far as rooms ask it, at the boundary of RoomAdmin: who is where, and what was asked."""

from __future__ import annotations

import json
from collections.abc import Callable

from livekit import api

from voicectl.voice.errors import ServerSilent
from voicectl.voice.events import Attribute, RoomMark
from voicectl.voice.rooms.admin import ON_BEHALF

Kind = api.ParticipantInfo.Kind


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def participant(identity: str, kind: str = "STANDARD", **attributes: str) -> api.ParticipantInfo:
    return api.ParticipantInfo(sid=f"PA_{identity}", identity=identity, kind=Kind.Value(kind), attributes=attributes)


def agent(identity: str, fence: int | str | None = None, on_behalf: str = "") -> api.ParticipantInfo:
    said = {} if fence is None else {str(Attribute.FENCE): str(fence)}
    return participant(identity, "AGENT", **said, **({ON_BEHALF: on_behalf} if on_behalf else {}))


class FakeServer:
    """Rooms with people.

    Attributes:
        people: Room → who is there.
        asked: What was asked for beside looking, in order: `remove call-1 agent-2`.
        silent: Whether it answers.
        mute: Requests that alone get no answer.
        unlisted: Rooms of which it does not say who is there.
        dispatched: Room and metadata of each dispatch.
        on_dispatch: Called with the room and the metadata; what a worker does with the offer.
    """

    def __init__(self) -> None:
        self.people: dict[str, list[api.ParticipantInfo]] = {}
        self.made: dict[str, api.Room] = {}
        self.asked: list[str] = []
        self.silent = False
        self.mute: set[str] = set()
        self.unlisted: set[str] = set()
        self.dispatched: list[tuple[str, dict[str, str]]] = []
        self.jobs: dict[str, list[api.AgentDispatch]] = {}
        self.on_dispatch: Callable[[str, dict[str, str]], None] = lambda room, metadata: None

    def make(self, name: str, *people: api.ParticipantInfo, **marks: str) -> None:
        """A room of ours."""
        metadata = json.dumps({str(RoomMark.DESK): "assistant", **{k.replace("_", "."): v for k, v in marks.items()}})
        self.made[name] = api.Room(name=name, sid=f"RM_{name}", metadata=metadata)
        self.people[name] = list(people)

    def marks(self, name: str) -> dict[str, str]:
        found: dict[str, str] = json.loads(self.made[name].metadata)
        return found

    def _answer(self, what: str) -> None:
        if self.silent or what.split()[0] in self.mute:
            raise ServerSilent("ws://nowhere", what, "silent")

    async def rooms(self) -> list[api.Room]:
        self._answer("rooms")
        return list(self.made.values())

    async def room(self, name: str) -> api.Room | None:
        self._answer("room")
        return self.made.get(name)

    async def set_mark(self, room: str, key: str, value: str | None) -> bool:
        self._answer("mark")
        if room not in self.made:
            return False
        marks = {k: v for k, v in self.marks(room).items() if k != key} | ({key: value} if value is not None else {})
        changed = marks != self.marks(room)
        self.made[room].metadata = json.dumps(marks)
        return changed

    async def participants(self, room: str) -> list[api.ParticipantInfo]:
        self._answer("participants")
        if room in self.unlisted:
            raise ServerSilent("ws://nowhere", "list participants", "unavailable: no response from servers")
        return list(self.people.get(room, []))

    async def remove(self, room: str, identity: str) -> None:
        self._answer("remove")
        self.asked.append(f"remove {room} {identity}")
        self.people[room] = [p for p in self.people.get(room, []) if p.identity != identity]

    async def dispatch(self, room: str, agent_name: str, metadata: dict[str, str]) -> str:
        self._answer("dispatch")
        self.asked.append(f"dispatch {room} {agent_name}")
        self.dispatched.append((room, metadata))
        self.jobs.setdefault(room, []).append(api.AgentDispatch(id=f"AD_{len(self.dispatched)}", room=room))
        self.on_dispatch(room, metadata)
        return f"AD_{len(self.dispatched)}"

    async def dispatches(self, room: str) -> list[api.AgentDispatch]:
        self._answer("dispatches")
        return list(self.jobs.get(room, []))

    async def delete_dispatch(self, room: str, dispatch_id: str) -> None:
        self._answer("delete_dispatch")
        self.asked.append(f"delete {dispatch_id}")
        self.jobs[room] = [d for d in self.jobs.get(room, []) if d.id != dispatch_id]

    async def delete_room(self, room: str) -> None:
        self._answer("delete_room")
        self.asked.append(f"delete {room}")
        self.made.pop(room, None)
        self.people.pop(room, None)
