"""The Prometheus metrics of the operator: what it serves, how long its passes take, and what the API server refuses."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from prometheus_client import REGISTRY, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from rstar.cluster.api import EVOLUTIONS, ROUNDS, Json, Kind

PASS_SECONDS: Final = Histogram(
    "rstar_operator_pass_seconds",
    "Time of one pass, by kind and by how it ended: ok, conflict (read again), failed.",
    ["kind", "outcome"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
API_ERRORS: Final = Counter(
    "rstar_operator_api_errors",
    "Passes that the API server ended with an error, by HTTP status (0: no answer).",
    ["code"],
)


class Bodies(Protocol):
    """The objects of each kind, as the cache has them."""

    def bodies(self, kind: Kind) -> Iterable[Json]:
        """Return the bodies of all objects of a kind."""
        ...


class StateCollector(Collector):
    """Counts rounds and evolutions by namespace, phase and reason, from the cache, at each read."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies

    def collect(self) -> Iterator[Metric]:
        """Yield the two gauges."""
        rounds, evolutions = self._bodies.bodies(ROUNDS), self._bodies.bodies(EVOLUTIONS)
        yield _states("rstar_operator_rounds", "Rounds by phase and reason of Ready.", rounds)
        yield _states("rstar_operator_evolutions", "Evolutions by phase and reason of Ready.", evolutions)


def register(bodies: Bodies, registry: CollectorRegistry = REGISTRY) -> None:
    """Add the states of what ``bodies`` gives to the exported metrics."""
    registry.register(StateCollector(bodies))


def _states(name: str, text: str, bodies: Iterable[Json]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=["namespace", "phase", "reason"])
    counts = Tally((body["metadata"]["namespace"], *_state(body.get("status") or {})) for body in bodies)
    for labels, count in sorted(counts.items()):
        family.add_metric(list(labels), count)
    return family


def _state(status: Json) -> tuple[str, str]:
    """Return phase and reason; an object that no pass has seen is Waiting."""
    conditions: Iterable[Json] = status.get("conditions", ())
    ready = next((condition for condition in conditions if condition["type"] == "Ready"), None)
    return str(status.get("phase", "Waiting")), str(ready["reason"]) if ready is not None else "NotSeen"
