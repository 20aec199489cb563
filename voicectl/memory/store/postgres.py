"""Connections to PostgreSQL that give up when nothing is answered.

A server that stands still keeps its connections open and says nothing, and libpq would wait for ever. Here the wait has
an end: the connection is closed and the statement fails like any other lost connection. Imported only when DATABASE_URL
names PostgreSQL; the one import of psycopg. Not here: what is written (schema.py).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, ClassVar, TypeVar

import psycopg
from psycopg import waiting
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL

CONNECT_S = 2  # the least that psycopg takes
LOOK_S = 0.05
IDLE_S = 30  # a client that stands still inside a transaction must not keep its locks longer

RV = TypeVar("RV")


class PatientConnection(psycopg.Connection[Any]):
    """A connection whose waits end."""

    answer_s: ClassVar[float | None] = None

    def wait(self, gen: Generator[Any, Any, RV], *args: Any, **given: Any) -> RV:
        """As psycopg's, for `answer_s` seconds at most; who names a time (LISTEN) waits as long as that.

        Raises:
            OperationalError: There was no answer; the connection is closed.
        """
        if self.answer_s is None or args or given:
            return super().wait(gen, *args, **given)
        return waiting.wait(self._ending(gen, self.answer_s), self.pgconn.socket, interval=LOOK_S)

    def _ending(self, gen: Generator[Any, Any, RV], answer_s: float) -> Generator[Any, Any, RV]:
        left = answer_s
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                # Nothing is ready: LOOK_S have passed. Counted so, because a wait that is answered costs no clock.
                left = answer_s if ready else left - LOOK_S
                if left <= 0:
                    self.close()
                    raise psycopg.OperationalError(f"no answer in {answer_s:g} s")
                wanted = gen.send(ready)
        except StopIteration as done:
            answer: RV = done.value
            return answer


def engine(url: URL, busy_ms: int, answer_s: float | None) -> Engine:
    """An engine of such connections.

    Args:
        url: The database.
        busy_ms: How long a statement waits for another writer's lock, in milliseconds.
        answer_s: How long it waits for an answer, in seconds; None for ever.
    """

    class Connection(PatientConnection):
        pass

    Connection.answer_s = answer_s
    options = {
        "lock_timeout": busy_ms,
        "statement_timeout": 0 if answer_s is None else int(answer_s * 1000),
        "idle_in_transaction_session_timeout": 0 if answer_s is None else IDLE_S * 1000,
    }
    made = create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_pre_ping=True,
        pool_size=4,
        pool_timeout=5,
        connect_args={
            "connect_timeout": CONNECT_S,
            "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
        },
    )

    @event.listens_for(made, "do_connect")
    def _connect(_dialect: Any, _record: Any, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
        return Connection.connect(*args, **given)

    return made
