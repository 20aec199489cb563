"""LiveKit's server API, as far as rooms need it. A failure is an exception, never an empty list.

Never goes through a proxy: aiohttp reads none from the environment unless told to.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp
from livekit import api

from voicectl.voice.config import VoiceSettings
from voicectl.voice.errors import ServerSilent
from voicectl.voice.events import Attribute

# By the API's own names: its numbers are not those of the rtc client (a connector is 7 here and 5 there).
_KINDS_OF_HUMANS = (
    api.ParticipantInfo.Kind.STANDARD,
    api.ParticipantInfo.Kind.SIP,
    api.ParticipantInfo.Kind.CONNECTOR,
)
ON_BEHALF = "lk.publish_on_behalf"  # attribute of an avatar: for which agent it speaks
TIMEOUT_S = 3.0

T = TypeVar("T")


class RoomAdmin:
    """Asks one LiveKit server.

    Args:
        url: The server's address.
        client: LiveKit's API client.
    """

    def __init__(self, url: str, client: api.LiveKitAPI) -> None:
        self._url = url
        self._api = client

    async def rooms(self) -> list[api.Room]:
        """All rooms of the server.

        Raises:
            ServerSilent: The server did not answer.
        """
        answer = await self._ask("list rooms", self._api.room.list_rooms(api.ListRoomsRequest()))
        return list(answer.rooms) if answer is not None else []

    async def room(self, name: str) -> api.Room | None:
        """A room; None when there is none of that name.

        Raises:
            ServerSilent: The server did not answer.
        """
        answer = await self._ask("list a room", self._api.room.list_rooms(api.ListRoomsRequest(names=[name])))
        return next((r for r in answer.rooms if r.name == name), None) if answer is not None else None

    async def set_mark(self, room: str, key: str, value: str | None) -> bool:
        """Change one key of a room's metadata, a JSON object; the others stay as they are just now.

        Args:
            room: The room's name.
            key: Which.
            value: None: without it.

        Returns:
            Whether anything changed. Metadata that is not a JSON object is somebody else's and left alone.

        Raises:
            ServerSilent: The server did not answer.
        """
        found = await self.room(room)
        marks = room_marks(found.metadata) if found is not None else None
        if marks is None or marks.get(key) == value:
            return False
        new = {k: v for k, v in marks.items() if k != key} | ({key: value} if value is not None else {})
        request = api.UpdateRoomMetadataRequest(room=room, metadata=json.dumps(new))
        return await self._ask("mark a room", self._api.room.update_room_metadata(request)) is not None

    async def participants(self, room: str) -> list[api.ParticipantInfo]:
        """Everybody in a room; empty when there is no such room.

        Raises:
            ServerSilent: The server did not answer.
        """
        answer = await self._ask(
            "list participants", self._api.room.list_participants(api.ListParticipantsRequest(room=room))
        )
        return list(answer.participants) if answer is not None else []

    async def remove(self, room: str, identity: str) -> None:
        """Take one participant out; gone already: nothing happens.

        Raises:
            ServerSilent: The server did not answer.
        """
        request = api.RoomParticipantIdentity(room=room, identity=identity)
        await self._ask("remove a participant", self._api.room.remove_participant(request))

    async def dispatch(self, room: str, agent_name: str, metadata: dict[str, str]) -> str:
        """Ask for an agent in a room; returns the dispatch's id.

        Raises:
            ServerSilent: The server did not answer, or gave no id.
        """
        request = api.CreateAgentDispatchRequest(room=room, agent_name=agent_name, metadata=json.dumps(metadata))
        answer = await self._ask("dispatch an agent", self._api.agent_dispatch.create_dispatch(request))
        if answer is None or not answer.id:
            raise ServerSilent(self._url, "dispatch an agent", "no dispatch id")
        return str(answer.id)

    async def dispatches(self, room: str) -> list[api.AgentDispatch]:
        """What was asked for in a room, with its jobs; they cannot tell a lost dispatch from a running one.

        Raises:
            ServerSilent: The server did not answer.
        """
        return await self._ask("list dispatches", self._api.agent_dispatch.list_dispatch(room)) or []

    async def delete_dispatch(self, room: str, dispatch_id: str) -> None:
        """Withdraw a dispatch; a job that runs by it is ended. Gone already: nothing happens.

        Raises:
            ServerSilent: The server did not answer.
        """
        await self._ask("delete a dispatch", self._api.agent_dispatch.delete_dispatch(dispatch_id, room))

    async def delete_room(self, room: str) -> None:
        """End a room for everybody; gone already: nothing happens.

        Raises:
            ServerSilent: The server did not answer.
        """
        await self._ask("delete a room", self._api.room.delete_room(api.DeleteRoomRequest(room=room)))

    async def _ask(self, what: str, answer: Awaitable[T]) -> T | None:
        try:
            return await answer
        except api.TwirpError as e:
            if e.code == api.TwirpErrorCode.NOT_FOUND:
                return None
            raise ServerSilent(self._url, what, f"{e.code}: {e.message}") from e
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            raise ServerSilent(self._url, what, str(e) or type(e).__name__) from e


def room_marks(metadata: str) -> dict[str, Any] | None:
    """What a room's metadata says; None: not a JSON object, so nothing of ours."""
    try:
        found = json.loads(metadata or "{}")
    except (ValueError, RecursionError):  # also brackets in brackets in brackets
        return None
    return found if isinstance(found, dict) else None


def is_agent(participant: api.ParticipantInfo) -> bool:
    """Whether a participant is an agent, or an avatar of one, by its kind; names say nothing."""
    return participant.kind == api.ParticipantInfo.Kind.AGENT


def fence_of(attributes: Mapping[str, str]) -> int:
    """What an agent says its fence is; 0: nothing that is a number."""
    text = attributes.get(Attribute.FENCE, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else 0


def is_human(participant: api.ParticipantInfo) -> bool:
    """Whether a participant is a customer, by its kind; names say nothing."""
    return participant.kind in _KINDS_OF_HUMANS


@asynccontextmanager
async def room_admin(settings: VoiceSettings) -> AsyncIterator[RoomAdmin]:
    """An open client for the server of these settings."""
    key, secret = settings.key_secret()
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with api.LiveKitAPI(settings.livekit_url, key, secret, timeout=timeout) as client:
        yield RoomAdmin(settings.livekit_url, client)
