"""What `/metrics` says: the state of the installation in Prometheus' text format.

Read from the store at each scrape, so every control plane says the same, and a restart of one loses nothing. A store
that does not answer is itself a figure, `voice_store_up 0`; what it would have said is left out, never guessed.
Not here: how old what a call knows is, which only its own process can tell (voice/knowledge.py logs it).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from voicectl.memory import room_log
from voicectl.memory.calls import rooms_of_open_calls
from voicectl.memory.errors import StoreUnavailable
from voicectl.memory.learning.figures import figures as step_figures
from voicectl.memory.own_calls import OWN_ROOMS
from voicectl.memory.store.engine import Store
from voicectl.memory.store.leases import Leases
from voicectl.memory.sync.figures import sync_figures
from voicectl.memory.sync.states import Outage
from voicectl.voice.rooms.registry import lease_name, live_calls, live_workers

log = logging.getLogger(__name__)


def figures(leases: Leases, store: Store, *, mirrored: bool, webhooks: Mapping[str, int] | None = None) -> str:
    """The figures now; asks the store, so not in an event loop.

    Args:
        leases: The leases.
        store: The store.
        mirrored: Whether its turns go to Letta.
        webhooks: How many LiveKit sent to this process, by what became of them.
    """
    registry = CollectorRegistry()
    registry.register(_Figures(leases, store, mirrored=mirrored, webhooks=webhooks or {}))
    return generate_latest(registry).decode()


class _Figures(Collector):
    """All of one scrape."""

    def __init__(self, leases: Leases, store: Store, *, mirrored: bool, webhooks: Mapping[str, int]) -> None:
        self._leases, self._store, self._webhooks = leases, store, webhooks
        self._parts: list[Callable[[], list[Metric]]] = [self._calls, self._rooms, self._steps]
        if mirrored:
            self._parts.append(self._mirroring)

    def describe(self) -> list[Metric]:
        """Nothing beforehand: without it the registry would ask the store once more to learn the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every figure that can be had."""
        up = True
        for part in self._parts:
            try:
                yield from part()
            except StoreUnavailable as e:
                up = False
                log.warning("figures are missing", extra={"which": part.__name__.strip("_"), "why": e.reason})
        yield _gauge("voice_store_up", "Whether the store of calls and the one of leases answer", up)
        yield _counter("voice_webhooks", "Webhooks of LiveKit to this control plane", "outcome", self._webhooks)

    def _calls(self) -> list[Metric]:
        workers, calls = live_workers(self._leases), live_calls(self._leases)
        capacity = sum(int(w["capacity"]) for w in workers)
        return [
            _gauge("voice_calls", "Calls with an agent or one on its way", len(calls)),
            _gauge("voice_workers", "Workers that are registered and alive", len(workers)),
            _gauge("voice_capacity", "Calls that all workers take at a time", capacity),
        ]

    def _rooms(self) -> list[Metric]:
        held = {r.name for r in self._leases.rows(taken=True) if r.live}
        rooms = [r for r in rooms_of_open_calls(self._store) if not r.startswith(OWN_ROOMS)]
        waiting = sum(lease_name(r) not in held for r in rooms)
        noted = {event.value.replace(" ", "_"): n for event, n in room_log.counts(self._store).items()}
        return [
            _gauge("voice_rooms_waiting", "Calls that have begun and have no live agent now", waiting),
            _counter("voice_room_events", "What happened to rooms, since the store was made", "event", noted),
        ]

    def _steps(self) -> list[Metric]:
        steps = step_figures(self._store)
        states = {"waiting": steps.waiting, "done": steps.done, "dead": steps.dead, "passed_over": steps.passed_over}
        changes = {"learnt": steps.learnt, "refused": steps.refused}
        return [
            _gauges("voice_memory_steps", "Memory steps of ended calls; dead: a person must look", "state", states),
            _gauges("voice_memory_changes", "Changes that models proposed in memory steps", "verdict", changes),
        ]

    def _mirroring(self) -> list[Metric]:
        sync = sync_figures(self._store)
        return [
            _gauge("voice_sync_lag_seconds", "Age of the oldest turn that is not in Letta yet", sync.lag_ms / 1000),
            _gauge("voice_sync_backlog", "Turns that are not in Letta yet", sync.backlog),
            _gauge("voice_sync_dead_letters", "Turns and calls that Letta does not take", sync.dead_letters),
            _gauge("voice_sync_failing", "Customers who cannot be mirrored now", len(sync.failing)),
            _gauge("voice_sync_up", "Whether a syncer is there and Letta answers it", sync.outage == Outage.UP),
        ]


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(name, about, value=float(value))


def _gauges(name: str, about: str, label: str, values: Mapping[str, float]) -> Metric:
    made = GaugeMetricFamily(name, about, labels=[label])
    for key, value in values.items():
        made.add_metric([key], float(value))
    return made


def _counter(name: str, about: str, label: str, values: Mapping[str, int]) -> Metric:
    """Counts that only grow; Prometheus' text calls it `name_total`."""
    made = CounterMetricFamily(name, about, labels=[label])
    for key, value in values.items():
        made.add_metric([key], float(value))
    return made
