"""The Prometheus metrics of the operator: what it serves, how long its passes take, and what the API server refuses."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Protocol

from prometheus_client import REGISTRY, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from rstar.cluster.api import EVOLUTIONS, ROUNDS, Json, Kind
from rstar.rounds.observed import Stage

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
    """Reads the states and the results of rounds and evolutions from the cache, at each read of the metrics."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges."""
        rounds, evolutions = list(self._bodies.bodies(ROUNDS)), self._bodies.bodies(EVOLUTIONS)
        yield _states("rstar_operator_rounds", "Rounds by phase and reason of Ready.", rounds)
        yield _states("rstar_operator_evolutions", "Evolutions by phase and reason of Ready.", evolutions)
        yield _figures(
            "rstar_operator_round_progress", "Share of the running stage that is done.", "stage", rounds, _progress
        )
        yield _figures(
            "rstar_operator_round_coverage", "Share of the training problems that are solved.", None, rounds, _coverage
        )
        yield _figures(
            "rstar_operator_round_accuracy", "Accuracy on the held-out problems.", "method", rounds, _accuracy
        )


def register(bodies: Bodies, registry: CollectorRegistry = REGISTRY) -> None:
    """Add the states of what ``bodies`` gives to the exported metrics."""
    registry.register(StateCollector(bodies))


def _states(name: str, text: str, bodies: Iterable[Json]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=["namespace", "phase", "reason"])
    counts = Tally((body["metadata"]["namespace"], *_state(body.get("status") or {})) for body in bodies)
    for labels, count in sorted(counts.items()):
        family.add_metric(list(labels), count)
    return family


def _figures(
    name: str, text: str, label: str | None, rounds: Iterable[Json], read: Callable[[Json], Iterable[tuple[str, float]]]
) -> GaugeMetricFamily:
    """Return one series per round and value of ``label``, as ``read`` finds them in a status."""
    labels = ["namespace", "round", *([label] if label else [])]
    family = GaugeMetricFamily(name, text, labels=labels)
    for body in rounds:
        head = body["metadata"]
        for value, figure in read(body.get("status") or {}):
            family.add_metric([head["namespace"], head["name"], *([value] if label else [])], figure)
    return family


def _progress(status: Json) -> Iterator[tuple[str, float]]:
    progress = status.get("progress") or {}
    done, total = progress.get("done"), progress.get("total")
    if status.get("phase") == "Running" and isinstance(done, int | float) and isinstance(total, int | float) and total:
        yield str(status.get("stage")), done / total


def _coverage(status: Json) -> Iterator[tuple[str, float]]:
    coverage = _metrics(status, Stage.ROLLOUT).get("coverage")
    if isinstance(coverage, int | float):
        yield "", coverage


def _accuracy(status: Json) -> Iterator[tuple[str, float]]:
    for method in _metrics(status, Stage.EVALUATE).get("methods") or ():
        if isinstance(method, Mapping) and isinstance(method.get("accuracy"), int | float):
            yield str(method.get("name")), method["accuracy"]


def _metrics(status: Json, name: Stage) -> Json:
    """Return the metrics of a stage that is done; {} before."""
    stages: Iterable[Json] = status.get("stages") or ()
    return next((stage.get("metrics") or {} for stage in stages if stage.get("name") == name), {})


def _state(status: Json) -> tuple[str, str]:
    """Return phase and reason; an object that no pass has seen is Waiting."""
    conditions: Iterable[Json] = status.get("conditions", ())
    ready = next((condition for condition in conditions if condition["type"] == "Ready"), None)
    return str(status.get("phase", "Waiting")), str(ready["reason"]) if ready is not None else "NotSeen"
