"""What bench/rooms.py measures: shipped workers and control planes on one real LiveKit server, with scripted engines.

One machine keeps its leases in SQLite; several share a PostgreSQL. A call is placed as a page would: a token of the
control plane, then the room. Not here: what is done to them (room_injections.py, room_kills.py, room_load.py).
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Container, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import jwt
import psutil

from bench.room_cut import Wire
from bench.room_line import Line
from bench.room_speech import ASK, Engines
from bench.room_watch import Watch
from tests.support.installation import Installation
from tests.support.postgres import Cluster
from voicectl.memory import room_log
from voicectl.memory.room_log import RoomEvent
from voicectl.memory.store.leases import Leases, open_leases
from voicectl.voice.events import Attribute
from voicectl.voice.rooms.admin import RoomAdmin

GREETING_S = 15.0
ANSWER_S = 6.0
CROWD = 5  # how many humans a relaxed room takes


@dataclass(frozen=True)
class Ticket:
    """A customer's way in: server, token, and the room that is in it."""

    url: str
    token: str
    room: str


@dataclass
class House:
    """Running machines with one LiveKit server.

    Args:
        machines: Workers with their control planes; LiveKit runs on the first.
        engines: Their engines.
        leases: The lease table, for who looks on.
        wire: What the workers' connections to LiveKit go through.
    """

    machines: list[Installation]
    engines: Engines
    leases: Leases
    wire: Wire

    @property
    def first(self) -> Installation:
        """The machine LiveKit runs on."""
        return self.machines[0]

    @property
    def keys(self) -> tuple[str, str]:
        """LiveKit's key and secret."""
        return self.first.settings.key_secret()

    def ticket(self, *, machine: int = 0, relaxed: bool = False, identity: str = "") -> Ticket:
        """A new customer's token from one machine's control plane.

        Args:
            machine: Whose.
            relaxed: With room for more humans than the one a real token lets in.
            identity: Their participant's, where the control plane's choice is not wanted.
        """
        url, token = self.machines[machine].token(f"user:{secrets.token_hex(5)}")
        claims = jwt.decode(token, options={"verify_signature": False})
        if relaxed or identity:
            claims["roomConfig"]["maxParticipants"] = CROWD
            claims["sub"] = identity or claims["sub"]
            token = jwt.encode(claims, self.keys[1], algorithm="HS256")
        return Ticket(url, token, claims["video"]["room"])

    def machine_of(self, pid: int) -> Installation:
        """Whose worker a job's process belongs to."""
        parents = {p.pid for p in psutil.Process(pid).parents()}
        return next(m for m in self.machines if m.processes["worker"].pid in parents)

    def noted(self) -> dict[RoomEvent, int]:
        """How often each event of rooms has been noted in the store so far."""
        store = self.first.store()
        try:
            return room_log.counts(store)
        finally:
            store.close()

    def log_lines(self, *words: str) -> list[str]:
        """What the machines' workers and control planes have said with all of these words in it."""
        text = "\n".join(m.log(part) for m in self.machines for part in ("worker", "web"))
        return [line for line in text.splitlines() if all(w in line for w in words)]


@contextmanager
def house(*, machines: int = 1, settings: dict[str, str] | None = None, root: Path | None = None) -> Iterator[House]:
    """Start machines, and end all of it.

    Args:
        machines: How many; more than one share a PostgreSQL.
        settings: Further settings of all processes.
        root: A folder for all of it; a new one where not given.
    """
    root = root or Path(tempfile.mkdtemp(prefix="rooms-"))
    with ExitStack() as stack:
        engines, wire = stack.enter_context(Engines()), stack.enter_context(Wire())
        told = {**engines.settings, **(settings or {})}
        if machines > 1:
            cluster = stack.enter_context(Cluster(root / "postgres"))
            told["DATABASE_URL"] = cluster.create("rooms")
        up: list[Installation] = []
        for number in range(machines):
            beside = up[0] if up else None
            through = {"LIVEKIT_URL": wire.url}
            one = Installation(root / f"machine{number}", engines.llm.url, told, beside=beside, worker=through)
            wire.target = one.livekit_url
            up.append(stack.enter_context(one))
        leases = open_leases(up[0].settings)
        stack.callback(leases.close)
        yield House(up, engines, leases, wire)


@dataclass
class Call:
    """A call that is on: the customer's end, and the room as the server sees it."""

    line: Line
    watch: Watch
    ticket: Ticket
    agent: str = ""

    async def greeted(self) -> str:
        """Wait for the first words and their end; whose they were."""
        self.agent, _ = await self.line.heard(self.line.joined_at, GREETING_S)
        await self.line.quiet(0.3)
        return self.agent

    async def answer(self, timeout_s: float = ANSWER_S, *, but: Container[str] = ()) -> str:
        """Ask something; who answers, apart from those who speak all the time."""
        asked = await self.line.type(ASK)
        who, _ = await self.line.heard(asked, timeout_s, but=but)
        return who

    async def pid(self) -> int:
        """The process of the agent that speaks."""
        admin = self.watch.admin
        people = await admin.participants(self.ticket.room)
        return next(int(p.attributes[Attribute.PID]) for p in people if p.identity == self.agent)


@asynccontextmanager
async def call(house: House, admin: RoomAdmin, ticket: Ticket | None = None) -> AsyncIterator[Call]:
    """Place a call; its room is gone afterwards, whoever was left in it."""
    ticket = ticket or house.ticket()
    async with Watch(ticket.room, admin, house.leases) as watch:
        try:
            async with Line(ticket.url, ticket.token) as line:
                yield Call(line, watch, ticket)
        finally:
            await admin.delete_room(ticket.room)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def signal_job(pid: int, number: int) -> None:
    """Signal a process that may be gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
