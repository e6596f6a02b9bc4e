"""Autoscalers of a round's model servers on a real API server, with the CRD of KEDA; neither KEDA nor metrics run."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from rstar_operator.children.deployment import NAME_LABEL
from rstar_testbed.cluster import Testbed
from rstar_testbed.kubelet import Run
from rstar_testbed.modules import keda_crd

from rstar.cluster.api import AUTOSCALERS, DEPLOYMENTS, PODS, ROUNDS, SCALED_OBJECTS, Kind
from rstar.rounds.observed import Stage
from tests.support.cluster.chart_operator import audit_entries, chart_operator
from tests.support.cluster.established import await_established
from tests.support.cluster.metrics_adapter import metrics_adapter
from tests.support.cluster.operators import SETTINGS, operator_in_process
from tests.support.cluster.rendering import rendered
from tests.support.cluster.round_namespace import RoundNamespace, new_round_namespace
from tests.support.cluster.rounds import install_crds
from tests.support.paths import CHARTS

FOREVER = Run()
PROMETHEUS = "http://prometheus.monitoring:9090"
SERVICES = {"policy": {"autoscaling": {"minReplicas": 2, "maxReplicas": 6, "queuedTokensPerReplica": 20_000}}}


@contextlib.contextmanager
def keda_kinds(bed: Testbed) -> Iterator[None]:
    """KEDA's CRD of ScaledObjects, for the time of a test."""
    bed.kubectl("apply", "--server-side", f"--filename={keda_crd()}")
    try:
        await_established(bed, "scaledobjects.keda.sh")
        yield
    finally:
        bed.kubectl("delete", f"--filename={keda_crd()}", "--wait=true", "--timeout=60s")


def scaled_deployment(rounds: RoundNamespace, kind: Kind) -> str:
    """Return the name of the policy's Deployment once an autoscaler of this kind has its name."""
    rounds.wait_for_running("r1", "rollout")
    name = next(name for name in rounds.names(DEPLOYMENTS, "r1") if "policy" in name)
    rounds.wait_for_object(kind, name)
    return name


@pytest.mark.parametrize("mechanism", ["keda", "pods", "external"])
def test_a_model_server_gets_its_autoscaler_keeps_its_replicas_and_leaves_nothing(
    testbed: Testbed, mechanism: str
) -> None:
    kind = SCALED_OBJECTS if mechanism == "keda" else AUTOSCALERS
    values = f"--set=rounds.autoscaling.kind={mechanism},rounds.autoscaling.keda.serverAddress={PROMETHEUS}"
    with keda_kinds(testbed), chart_operator(testbed, values) as user, new_round_namespace(testbed) as rounds:
        rounds.script.set(FOREVER, stage=Stage.ROLLOUT)
        rounds.submit("r1", services=SERVICES)
        name = scaled_deployment(rounds, kind)
        scaler = rounds.wait_for_object(kind, name)
        assert scaler["spec"]["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
        assert rounds.wait_for_object(DEPLOYMENTS, name)["spec"]["replicas"] == 2
        # As the autoscaler does under load. The edit after it makes the operator look at every object of the round.
        rounds.kubectl("scale", "deployment", name, "--replicas=5")
        rounds.edit("r1", services={"policy": {"autoscaling": {"maxReplicas": 7}}})
        most = "maxReplicaCount" if mechanism == "keda" else "maxReplicas"
        rounds.wait_until(lambda: rounds.wait_for_object(kind, name)["spec"][most] == 7, "a changed autoscaler")
        rounds.edit("r1", lifecycle={"maxAttempts": 2})
        rounds.wait_until(
            lambda: (
                rounds.wait_for_object(ROUNDS, "r1")["status"].get("observedGeneration")
                == rounds.wait_for_object(ROUNDS, "r1")["metadata"]["generation"]
            ),
            "a pass over the edited round",
        )
        path = kind.path(rounds.namespace, name)
        changes = [e for e in audit_entries(testbed, user) if e["verb"] == "patch" and path in e["requestURI"]]
        assert len(changes) == 1, "an equal autoscaler is left alone"
        assert rounds.wait_for_object(DEPLOYMENTS, name)["spec"]["replicas"] == 5
        rounds.edit("r1", suspend=True)
        rounds.wait_for_reason("r1", "Suspended")
        rounds.wait_until(lambda: not rounds.names(DEPLOYMENTS, "r1"), "no Deployment")
        assert rounds.names(kind, "r1") == []
        rounds.edit("r1", suspend=False)
        rounds.wait_for_object(kind, name, other_than=scaler["metadata"]["uid"])
        rounds.kubectl("delete", "er", "r1", "--cascade=foreground", "--timeout=180s")
        assert rounds.names(kind, "r1") == rounds.names(DEPLOYMENTS, "r1") == []


@pytest.mark.parametrize("mechanism", ["pods", "external"])
def test_the_autoscaler_of_kubernetes_adds_servers_while_tokens_wait(
    testbed: Testbed, mechanism: str, tmp_path: Path
) -> None:
    with (
        chart_operator(testbed, f"--set=rounds.autoscaling.kind={mechanism}"),
        new_round_namespace(testbed) as rounds,
        metrics_adapter(testbed, rounds.api, tmp_path) as adapter,
    ):
        # More than two servers may have, per pod or in all.
        adapter.tokens = 90_000
        rounds.script.set(FOREVER, stage=Stage.ROLLOUT)
        rounds.submit("r1", services=SERVICES)
        name = scaled_deployment(rounds, AUTOSCALERS)
        rounds.wait_until(lambda: rounds.wait_for_object(DEPLOYMENTS, name)["spec"]["replicas"] > 2, "more servers")
        rounds.wait_until(lambda: len(rounds.list_objects(PODS, "r1", component="policy")) > 2, "their pods")
        (selector,) = adapter.selectors[mechanism]
        assert selector == (f"service={name}" if mechanism == "external" else f"{NAME_LABEL}={name}")


def test_without_keda_a_round_says_so_and_runs_until_keda_is_installed(testbed: Testbed) -> None:
    install_crds(testbed)
    settings = {**SETTINGS, "autoscaling": {"kind": "keda", "serverAddress": PROMETHEUS}}
    with (
        operator_in_process(testbed.kubeconfig, settings=settings, resync_seconds=2),
        new_round_namespace(testbed) as rounds,
    ):
        rounds.script.set(FOREVER, stage=Stage.ROLLOUT)
        rounds.submit("r1", services=SERVICES)
        status = rounds.wait_for_running("r1", "rollout")
        condition = status.condition("AutoscalingUnavailable")
        assert condition is not None
        assert (condition.status, condition.reason) == ("True", "NoKeda")
        assert "install KEDA" in condition.message
        name = next(name for name in rounds.names(DEPLOYMENTS, "r1") if "policy" in name)
        assert rounds.wait_for_object(DEPLOYMENTS, name)["spec"]["replicas"] == 2
        with keda_kinds(testbed):
            rounds.wait_for_object(SCALED_OBJECTS, name)
            rounds.kubectl("delete", "er", "r1", "--cascade=foreground", "--timeout=180s")
            assert rounds.names(SCALED_OBJECTS, "r1") == []


def test_the_executors_scaled_object_fits_the_crd_of_keda(testbed: Testbed) -> None:
    (document,) = (d for d in rendered(CHARTS / "rstar/ci/keda-values.yaml") if d["kind"] == "ScaledObject")
    with keda_kinds(testbed):
        create = ("create", "-n", "default", "--dry-run=server", "--validate=strict", "-f", "-")
        head = {**document["metadata"], "namespace": "default"}
        assert "created" in testbed.kubectl(*create, input=json.dumps({**document, "metadata": head}))
        wrong = {**document, "metadata": head, "spec": {**document["spec"], "minReplicas": 1}}
        assert "minReplicas" in testbed.kubectl(*create, input=yaml.safe_dump(wrong), check=False)
