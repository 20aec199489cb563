"""Letta's start steps aside for calls, also for one that is placed the moment the system is ready."""

from __future__ import annotations

import threading

import pytest

from tests.support.waiting import wait_for
from voicectl.cli.system import letta_server
from voicectl.memory import own_calls
from voicectl.memory.calls import finish, open_call
from voicectl.memory.store.engine import Store

pytestmark = pytest.mark.unit


class Waiting:
    """The wait before a step, in a thread."""

    def __init__(self, store: Store, settle_s: float) -> None:
        self.said: list[str] = []
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._wait, args=(store, settle_s), daemon=True)
        self.thread.start()

    def _wait(self, store: Store, settle_s: float) -> None:
        letta_server._wait_for_quiet(store, self.stopping, self.said.append, settle_s=settle_s)

    def over(self) -> str:
        return "it still waits" if self.thread.is_alive() else ""


def test_a_call_placed_while_nobody_had_called_yet_is_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letta_server, "SETTLE_S", 0.0)
    waiting = Waiting(store, settle_s=3600.0)

    call = open_call(store, customer="user:1", room="room-1", desk="assistant", fence=1)
    wait_for(lambda: "" if waiting.said else "the call is not noticed")
    assert waiting.over() != ""
    finish(store, call, "customer left")

    wait_for(waiting.over)
    assert waiting.said == ["waiting until nobody is on a call"]


def test_between_two_calls_in_a_row_no_step_begins(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letta_server, "SETTLE_S", 3600.0)
    call = open_call(store, customer="user:1", room="room-1", desk="assistant", fence=1)
    waiting = Waiting(store, settle_s=0.0)
    wait_for(lambda: "" if waiting.said else "the call is not noticed")

    finish(store, call, "customer left")
    waiting.thread.join(1.2)

    assert waiting.over() != ""
    waiting.stopping.set()
    wait_for(waiting.over)


def test_with_nobody_on_a_call_a_later_step_begins_at_once(store: Store) -> None:
    wait_for(Waiting(store, settle_s=0.0).over)


def test_a_call_of_a_program_in_which_nobody_has_spoken_for_an_hour_is_not_waited_for(store: Store) -> None:
    open_call(store, customer="user:1", room=f"{own_calls.OWN_ROOMS}1", desk="", fence=1)
    with store.write() as connection:
        connection.exec_driver_sql("update calls set started_ms = 1")

    wait_for(Waiting(store, settle_s=0.0).over)
