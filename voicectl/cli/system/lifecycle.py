"""Starting, stopping and restarting the processes of the table, each ready by probe before the next needs it.

Promise: `stop_all` ends everything of this installation whatever happened to its supervisor; `start_all` returns only
when every part that is not optional is ready, and fails early, with the words of the log, when one cannot be.
Not here: what must be chosen and installed first (converge.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from voicectl.cli.errors import Failed, NotRunning
from voicectl.cli.system.home import Home
from voicectl.cli.system.log_files import tail
from voicectl.cli.system.processes import Part, in_order
from voicectl.cli.system.progress import Progress
from voicectl.cli.system.strays import Found, belonging, end
from voicectl.cli.system.supervisor import State, Supervisor

POLL_S = 0.1
STARTS_UNTIL_GIVEN_UP = 3  # a process that dies after its first second is restarted for ever otherwise


def start_all(
    supervisor: Supervisor,
    parts: Sequence[Part],
    environments: Mapping[str, Mapping[str, str]],
    *,
    build: str,
    cwd: Path,
    progress: Progress,
) -> None:
    """Start what does not run, in the order of needs, and wait until it is ready. Optional parts are started last.

    Args:
        supervisor: The installation's; started here when it is not running.
        parts: The table.
        environments: Environment of each part.
        build: Id of the code they run.
        cwd: Folder they run in.
        progress: Told what we wait for.

    Raises:
        Failed: A part does not become ready; the others are left running so that they can be looked at.
    """
    ordered = in_order(parts)
    supervisor.begin(ordered)
    waiting: dict[str, _Wait] = {}
    ready: set[str] = set()
    to_start = list(ordered)
    while to_start or waiting:
        states = supervisor.states()
        for part in list(to_start):
            if not set(part.needs) <= ready or (part.optional and (waiting or any(not p.optional for p in to_start))):
                continue
            to_start.remove(part)
            if not states[part.name].up:
                supervisor.prepare(part, environments[part.name], build, cwd)
                supervisor.start(part.name)
            if not part.optional:
                waiting[part.name] = _Wait(part, supervisor.home)
        for name, wait in list(waiting.items()):
            lack = wait.missing(states[name])
            if lack:
                progress.step(name, doing=f"waiting: {lack[:60]}")
            else:
                ready.add(name)
                del waiting[name]
                progress.done(name)
        if waiting:
            time.sleep(POLL_S)


class _Wait:
    """One part on its way to ready."""

    def __init__(self, part: Part, home: Home) -> None:
        self.part, self.home = part, home
        self.begun = time.monotonic()
        self.pids: set[int] = set()

    def missing(self, state: State) -> str:
        """What it lacks; "" when ready.

        Raises:
            Failed: It is given up, or its time is over.
        """
        waited = time.monotonic() - self.begun
        if state.pid:
            self.pids.add(state.pid)
        # The first second belongs to supervisord: the state we see may still be the one before our start.
        if waited > 1 and (state.given_up or len(self.pids) > STARTS_UNTIL_GIVEN_UP):
            raise self._failed(f"stops as soon as it is started (exit status {state.exit_status})")
        if not state.pid:
            return state.state.lower()
        lack = self.part.missing()
        if lack and waited > self.part.ready_s:
            raise self._failed(f"was not ready after {self.part.ready_s:.0f} s, it lacks: {lack}")
        return lack

    def _failed(self, what: str) -> Failed:
        words = "\n".join(f"    {line}" for line in tail(self.home.log(self.part.name), 12))
        return Failed(
            f"{self.part.name} {what}. Its log ends with:\n{words or '    (nothing)'}\n",
            f"See: voicectl logs {self.part.name}; voicectl doctor",
        )


def stop(supervisor: Supervisor, names: Collection[str], progress: Progress | None = None) -> None:
    """Stop parts, those that need others first, and sweep away what they leave behind.

    Each has its own time to drain (processes.py); supervisord kills it after that.
    """
    left = {n for n in names if n in supervisor.states()}
    while left:
        needed = {other for n in left for other in supervisor.prepared(n).get("needs", ())}
        wave = (left - needed) or left
        for name in wave:
            supervisor.ask_to_stop(name)
        limit = max(float(supervisor.prepared(n).get("drain_s", 10)) for n in wave) + 10
        deadline = time.monotonic() + limit
        while running := [n for n, s in supervisor.states().items() if n in wave and s.pid]:
            if time.monotonic() > deadline:
                raise Failed(f"{', '.join(running)} did not stop within {limit:.0f} s.", "Force it: voicectl down")
            if progress is not None:
                progress.step("stopping", doing=", ".join(sorted(running)))
            time.sleep(0.05)
        left -= wave
    end([f for f in belonging(supervisor.home) if f.part in names])


def stop_all(home: Home, say: Callable[[str], None]) -> list[str]:
    """End everything of the installation. Returns the names of the parts that were running.

    Works without a supervisor too: what it left behind is found by record and by environment.

    Raises:
        Failed: Something could not be ended.
    """
    supervisor = Supervisor(home)
    before = belonging(home)
    try:
        stop(supervisor, list(supervisor.states()))
        supervisor.shutdown()
        _wait_gone(home, "supervisord")
    except (NotRunning, Failed) as e:
        if before:
            say(f"the supervisor does not help ({e.text.splitlines()[0]}); ending {len(before)} processes directly")
    left = end(_supervisor_first(belonging(home)))
    left += end(belonging(home))
    if left:
        names = ", ".join(f"{f.part} (pid {f.process.pid})" for f in left)
        raise Failed(f"still running: {names}.", "Look at them: ps -o pid,stat,args -p <pid>")
    _tidy(home)
    return sorted({f.part for f in before})


def _supervisor_first(found: list[Found]) -> list[Found]:
    """A live supervisord would start again what we end, so it goes first; its children are ended in the same sweep."""
    for one in found:
        if one.part == "supervisord":
            end([one], patience_s=0.5)
    return [f for f in found if f.part != "supervisord"]


def _wait_gone(home: Home, part: str, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while any(f.part == part for f in belonging(home)) and time.monotonic() < deadline:
        time.sleep(0.05)


def _tidy(home: Home) -> None:
    """Remove what only running processes need: launch files may hold provider keys."""
    for pattern in ("*.launch.json", "*.pid.json", "supervisord.conf", "supervisord.pid"):
        for file in home.run.glob(pattern):
            file.unlink(missing_ok=True)
    home.socket.unlink(missing_ok=True)
    if home.socket_folder != home.run and home.socket_folder.exists():
        home.socket_folder.rmdir()
