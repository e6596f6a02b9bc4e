"""Runs the operator's passes over a simulated cluster, as the watch would."""

from __future__ import annotations

from dataclasses import replace

from rstar_operator.backend import TrainingBackend
from rstar_operator.cache import Cache
from rstar_operator.configuration import Configuration, RoundAutoscaling
from rstar_operator.reconcile import Reconciler

from rstar.cluster.api import ROUNDS, ConflictError, Json
from rstar.rounds.status import RoundStatus
from tests.support.operator.simulated import NAMESPACE, Controllers, KilledError, SimulatedCluster, round_body

CONFIGURATION = Configuration.model_validate(
    {"images": {"policy": "policy:1", "ppm": "ppm:1", "search": "search:1", "jobs": "jobs:1", "vllm": "vllm:1"}}
)
WITH_KEDA = CONFIGURATION.model_copy(
    update={"autoscaling": RoundAutoscaling(kind="keda", server_address="http://prometheus:9090")}
)
MOST_PASSES = 60


class Operator:
    """One operator, which may be killed and restarted at any time."""

    def __init__(self, cluster: SimulatedCluster, configuration: Configuration = CONFIGURATION) -> None:
        self.cluster = cluster
        self.configuration = configuration
        self.rights_in_namespace = False
        self.without_keda = False
        self.reconciler = self.fresh()

    def fresh(self) -> Reconciler:
        return Reconciler(self.cluster, self.configuration, self.cluster.backend, clock=lambda: self.cluster.now)  # type: ignore[arg-type]

    def one_pass(self, name: str = "r1", cache: Cache | None = None) -> int:
        """Make a pass, on an old view of the cluster if one is given; return the number of its writes."""
        snapshot = (cache or self.cluster.cache()).snapshot((NAMESPACE, name))
        if snapshot is None:
            return 0
        snapshot = replace(snapshot, rights_in_namespace=self.rights_in_namespace, without_keda=self.without_keda)
        try:
            return self.reconciler.reconcile(snapshot).written
        except ConflictError:
            return 1
        except KilledError:
            self.reconciler = self.fresh()
            return 1

    def settle(self, name: str = "r1") -> None:
        """Make passes until one writes nothing. Fails when none does."""
        for _ in range(MOST_PASSES):
            if not self.one_pass(name):
                return
        raise AssertionError(f"round {name} reaches no fixpoint: {self.status(name).message}")

    def status(self, name: str = "r1") -> RoundStatus:
        return RoundStatus.model_validate(self.body(name)["status"])

    def body(self, name: str = "r1") -> Json:
        return self.cluster.objects[ROUNDS, name]


def simulation(
    *rounds: Json,
    executor: bool = True,
    configuration: Configuration = CONFIGURATION,
    backend: TrainingBackend | None = None,
) -> tuple[SimulatedCluster, Controllers, Operator]:
    """Return a cluster with executors and these rounds, its controllers, and an operator."""
    cluster = SimulatedCluster(backend)
    controllers = Controllers(cluster)
    if executor:
        controllers.add_executor()
    for body in rounds:
        cluster.put(ROUNDS, body)
    return cluster, controllers, Operator(cluster, configuration)


def running_rollout(
    backend: TrainingBackend | None = None, **spec: object
) -> tuple[SimulatedCluster, Controllers, Operator]:
    """Return a round whose rollout runs, by PyTorchJobs unless a backend is given. ``spec`` as in ``round_body``."""
    cluster, controllers, operator = simulation(round_body(**spec), backend=backend)
    for _ in range(3):
        operator.settle()
        controllers.ready()
    operator.settle()
    controllers.start(controllers.live_jobs()[0])
    operator.settle()
    return cluster, controllers, operator


def run_to_end(operator: Operator, controllers: Controllers, name: str = "r1", turns: int = 40) -> None:
    """Let every pod and service succeed until the round has ended."""
    for _ in range(turns):
        operator.settle(name)
        if operator.status(name).phase in {"Succeeded", "Failed"}:
            return
        controllers.advance()
    raise AssertionError(f"round {name} does not end: {operator.status(name).message}")
