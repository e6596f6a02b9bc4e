"""Autoscalers of a round's services: one per Deployment, of the installation's kind, gone when the service is gone."""

from __future__ import annotations

import re
from typing import Any

import pytest
from rstar_operator.configuration import Configuration, ConfigurationError, RoundAutoscaling, load_configuration

from rstar.cluster.api import AUTOSCALERS, DEPLOYMENTS, SCALED_OBJECTS, Json, Kind
from tests.support.operator.driving import CONFIGURATION, WITH_KEDA, Operator, run_to_end, simulation
from tests.support.operator.simulated import NAMESPACE, SimulatedCluster, round_body

TOKENS = {"minReplicas": 2, "maxReplicas": 6, "queuedTokensPerReplica": 20_000}
BY_TOKENS = {"policy": {"autoscaling": TOKENS}}
BY_CPU = {"policy": {"autoscaling": {"minReplicas": 2, "maxReplicas": 6}}}


def with_kind(kind: str) -> Configuration:
    address = "http://prometheus:9090" if kind == "keda" else ""
    return CONFIGURATION.model_copy(
        update={"autoscaling": RoundAutoscaling.model_validate({"kind": kind, "serverAddress": address})}
    )


def objects(cluster: SimulatedCluster, kind: Kind) -> list[Json]:
    return [body for (k, name), body in cluster.objects.items() if k == kind and name.startswith("r1-")]


def policy(cluster: SimulatedCluster) -> Json:
    return next(body for body in objects(cluster, DEPLOYMENTS) if "policy" in body["metadata"]["name"])


def test_keda_scales_by_the_sum_of_the_tokens_that_wait_in_the_pods_of_the_deployment() -> None:
    cluster, _, operator = simulation(round_body(services=BY_TOKENS), configuration=WITH_KEDA)
    operator.settle()
    (scaler,) = objects(cluster, SCALED_OBJECTS)
    name = policy(cluster)["metadata"]["name"]
    assert scaler["metadata"]["name"] == scaler["spec"]["scaleTargetRef"]["name"] == name
    assert scaler["metadata"]["ownerReferences"] == policy(cluster)["metadata"]["ownerReferences"]
    assert (scaler["spec"]["minReplicaCount"], scaler["spec"]["maxReplicaCount"]) == (2, 6)
    (trigger,) = scaler["spec"]["triggers"]
    assert trigger["metricType"] == "AverageValue"
    pods = f'{{namespace="{NAMESPACE}",pod=~"{name}-[a-z0-9]+(-[a-z0-9]+)?"}}'
    assert trigger["metadata"] == {
        "serverAddress": "http://prometheus:9090",
        "query": f"sum(rstar_policy_queued_tokens{pods})",
        "threshold": "20000",
    }
    assert not objects(cluster, AUTOSCALERS)


@pytest.mark.parametrize(
    ("kind", "metric"),
    [
        ("pods", lambda _: ("pods", {"name": "rstar_policy_queued_tokens"})),
        (
            "external",
            lambda name: (
                "external",
                {"name": "rstar_policy_queued_tokens", "selector": {"matchLabels": {"service": name}}},
            ),
        ),
    ],
)
def test_an_adapter_gives_the_tokens_to_a_horizontal_pod_autoscaler(kind: str, metric: Any) -> None:
    cluster, _, operator = simulation(round_body(services=BY_TOKENS), configuration=with_kind(kind))
    operator.settle()
    (scaler,) = objects(cluster, AUTOSCALERS)
    key, expected = metric(policy(cluster)["metadata"]["name"])
    (found,) = scaler["spec"]["metrics"]
    assert found[key] == {"metric": expected, "target": {"type": "AverageValue", "averageValue": "20k"}}
    assert scaler["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 300
    assert not objects(cluster, SCALED_OBJECTS)


@pytest.mark.parametrize(
    ("kind", "without_keda", "reason", "remedy"),
    [("none", False, "NoMechanism", "rounds.autoscaling.kind"), ("keda", True, "NoKeda", "install KEDA")],
)
def test_without_a_mechanism_the_round_says_so_and_runs_with_the_fewest_replicas(
    kind: str, without_keda: bool, reason: str, remedy: str
) -> None:
    cluster, controllers, operator = simulation(round_body(services=BY_TOKENS), configuration=with_kind(kind))
    operator.without_keda = without_keda
    operator.settle()
    condition = operator.status().condition("AutoscalingUnavailable")
    assert condition is not None
    assert (condition.status, condition.reason) == ("True", reason)
    assert remedy in condition.message
    assert policy(cluster)["spec"]["replicas"] == 2
    assert not objects(cluster, AUTOSCALERS) + objects(cluster, SCALED_OBJECTS)
    run_to_end(operator, controllers)
    assert operator.status().phase == "Succeeded"


def test_a_keda_that_is_installed_later_is_used() -> None:
    cluster, _, operator = simulation(round_body(services=BY_TOKENS), configuration=WITH_KEDA)
    operator.without_keda = True
    operator.settle()
    operator.without_keda = False
    operator.settle()
    assert objects(cluster, SCALED_OBJECTS)
    condition = operator.status().condition("AutoscalingUnavailable")
    assert condition is not None
    assert (condition.status, condition.reason) == ("False", "Cleared")


def test_autoscaling_by_cpu_needs_no_mechanism() -> None:
    cluster, _, operator = simulation(round_body(services=BY_CPU), configuration=with_kind("none"))
    operator.settle()
    assert objects(cluster, AUTOSCALERS)
    assert operator.status().condition("AutoscalingUnavailable") is None


def test_a_deployment_never_has_two_autoscalers() -> None:
    cluster, controllers, operator = simulation(round_body(services=BY_CPU), configuration=WITH_KEDA)
    controllers.ready()
    operator.settle()
    for services in (BY_TOKENS, BY_CPU, BY_TOKENS):
        cluster.edit("r1", services=services)
        while operator.one_pass():
            assert len(objects(cluster, AUTOSCALERS) + objects(cluster, SCALED_OBJECTS)) <= 1
        kind = SCALED_OBJECTS if services is BY_TOKENS else AUTOSCALERS
        assert len(objects(cluster, kind)) == 1


def test_changes_of_the_target_and_of_the_range_reach_the_autoscaler_and_no_replicas_are_set() -> None:
    cluster, _, operator = simulation(round_body(services=BY_TOKENS), configuration=WITH_KEDA)
    operator.settle()
    policy(cluster)["spec"]["replicas"] = 5
    cluster.edit("r1", services={"policy": {"autoscaling": {"maxReplicas": 9, "queuedTokensPerReplica": 500}}})
    operator.settle()
    (scaler,) = objects(cluster, SCALED_OBJECTS)
    assert (scaler["spec"]["minReplicaCount"], scaler["spec"]["maxReplicaCount"]) == (1, 9)
    assert scaler["spec"]["triggers"][0]["metadata"]["threshold"] == "500"
    assert policy(cluster)["spec"]["replicas"] == 5


def test_an_autoscaler_that_keda_never_releases_holds_up_no_stage() -> None:
    cluster, controllers, operator = simulation(round_body(services=BY_TOKENS), configuration=WITH_KEDA)
    operator.settle()
    (scaler,) = objects(cluster, SCALED_OBJECTS)
    scaler["metadata"]["finalizers"] = ["finalizer.keda.sh"]
    cluster.touch(SCALED_OBJECTS, scaler["metadata"]["name"])
    run_to_end(operator, controllers)
    assert operator.status().phase == "Succeeded"
    assert all("deletionTimestamp" in body["metadata"] for body in objects(cluster, SCALED_OBJECTS))


def test_killed_after_every_write_a_scaled_round_ends_without_autoscalers() -> None:
    services = {"policy": {"autoscaling": TOKENS}, "ppm": {"autoscaling": TOKENS}}
    cluster, controllers, operator = simulation(round_body(services=services), configuration=WITH_KEDA)
    for _ in range(400):
        cluster.killed_after = cluster.writes + 1
        if not operator.one_pass():
            if operator.status().phase == "Succeeded":
                break
            controllers.advance()
    cluster.settle()
    Operator(cluster, WITH_KEDA).settle()
    assert operator.status().phase == "Succeeded"
    assert not objects(cluster, SCALED_OBJECTS) + objects(cluster, DEPLOYMENTS)


@pytest.mark.parametrize(
    ("pod", "own"),
    [
        ("{name}-7d9c6b5f4c-x2x9z", True),
        # 58 characters and a suffix: the API server shortens longer names.
        ("{name}-7d9c6x2x9z", True),
        # Of a round that has the name of the Deployment.
        ("{name}-policy-0123456789-7d9c6b5f4c-x2x9z", False),
        ("other-{name}-7d9c6b5f4c-x2x9z", False),
    ],
)
def test_the_query_of_keda_finds_the_pods_of_the_deployment_alone(pod: str, own: bool) -> None:
    cluster, _, operator = simulation(round_body(services=BY_TOKENS), configuration=WITH_KEDA)
    operator.settle()
    (scaler,) = objects(cluster, SCALED_OBJECTS)
    found = re.search('pod=~"([^"]+)"', scaler["spec"]["triggers"][0]["metadata"]["query"])
    assert found is not None
    name = scaler["metadata"]["name"]
    assert (re.fullmatch(found[1], pod.format(name=name)) is not None) is own


def test_keda_needs_the_address_of_prometheus(tmp_path: Any) -> None:
    path = tmp_path / "config.yaml"
    images = {name: f"{name}:1" for name in ("policy", "ppm", "search", "jobs", "vllm")}
    path.write_text(f"images: {images}\nautoscaling: {{kind: keda}}\n")
    with pytest.raises(ConfigurationError, match="keda needs serverAddress"):
        load_configuration(path)
