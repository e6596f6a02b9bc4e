"""The mutable and cluster parts of a spec are validated like the rest and change no result."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from rstar.local.journal import fingerprint
from rstar.rounds.observed import Stage
from rstar.rounds.spec import MUTABLE, EvolutionRound, EvolutionRoundSpec
from rstar.rounds.stage import stage_settings
from rstar.rounds.validation_errors import validation_messages

MINIMAL: dict[str, Any] = {"round": 1, "baseModel": "store:models/base", "problems": {"uri": "store:data/train.jsonl"}}
MANAGED: dict[str, Any] = {
    "suspend": True,
    "cancel": True,
    "lifecycle": {"pendingSeconds": 60, "ttlSeconds": 0},
    "services": {"policy": {"autoscaling": {"maxReplicas": 4}}},
    "cluster": {"queue": "team", "resources": {"trainPolicy": {"gpus": 8}}, "nodeSelector": {"example.com/pool": "a"}},
    "trackers": ["tensorboard", "wandb"],
}


def spec(**changes: Any) -> EvolutionRoundSpec:
    return EvolutionRoundSpec.model_validate(MINIMAL | changes)


def fault(**changes: Any) -> str:
    document = {
        "apiVersion": "rstar.dev/v1alpha1",
        "kind": "EvolutionRound",
        "metadata": {"name": "r1"},
        "spec": MINIMAL | changes,
    }
    with pytest.raises(ValidationError) as caught:
        EvolutionRound.model_validate(document)
    [message] = validation_messages(caught.value, EvolutionRound)
    return message


@pytest.mark.parametrize("stage", Stage)
def test_mutable_fields_change_the_settings_of_no_stage(stage: Stage) -> None:
    assert set(MANAGED) == MUTABLE
    assert stage_settings(spec(**MANAGED), stage) == stage_settings(spec(), stage)


def test_mutable_fields_change_no_fingerprint_of_an_attempt() -> None:
    assert fingerprint(spec(**MANAGED), ()) == fingerprint(spec(), ())
    assert fingerprint(spec(seed=1), ()) != fingerprint(spec(), ())


def test_a_service_has_one_replica_by_default() -> None:
    assert spec().services.policy.size == 1
    assert spec(services={"policy": {"replicas": 3}}).services.policy.size == 3
    assert spec(services={"policy": {"autoscaling": {"maxReplicas": 5}}}).services.policy.size == 1
    assert spec(services={"policy": {"autoscaling": {"minReplicas": 2, "maxReplicas": 5}}}).services.policy.size == 2


def test_replicas_beside_autoscaling_are_refused() -> None:
    found = fault(services={"ppm": {"replicas": 1, "autoscaling": {"maxReplicas": 5}}})
    assert found == "spec.services.ppm: replicas and autoscaling exclude each other: remove one of them"


def test_min_replicas_above_max_replicas_are_refused() -> None:
    found = fault(services={"ppm": {"autoscaling": {"minReplicas": 6, "maxReplicas": 5}}})
    assert found == "spec.services.ppm.autoscaling: minReplicas (6) must be at most maxReplicas (5)"


@pytest.mark.parametrize("cpu", ["1", "16", "500m", "0.5", "1.25", 2])
def test_cores_are_numbers_or_millicores(cpu: Any) -> None:
    assert spec(cluster={"resources": {"policy": {"cpu": cpu}}}).cluster.resources.policy.cpu == str(cpu)


@pytest.mark.parametrize(("cpu", "cores"), [("1", 1), ("500m", 1), ("1500m", 2), ("0.1", 1), ("2.25", 3), (16, 16)])
def test_cores_are_rounded_up(cpu: Any, cores: int) -> None:
    assert spec(cluster={"resources": {"policy": {"cpu": cpu}}}).cluster.resources.policy.cores == cores


@pytest.mark.parametrize(
    ("resources", "most", "cores"),
    [
        ({"cpu": 2}, "2", 2),
        ({"cpu": "500m", "cpuLimit": 4}, "4", 4),
        ({"cpu": 2, "cpuLimit": "none"}, None, 2),
        ({"cpu": "1500m", "cpuLimit": "1.5"}, "1.5", 2),
    ],
)
def test_threads_follow_the_limit_of_the_cpu_and_without_one_the_request(
    resources: dict[str, Any], most: str | None, cores: int
) -> None:
    found = spec(cluster={"resources": {"policy": resources}}).cluster.resources.policy
    assert (found.most_cpu, found.cores) == (most, cores)


@pytest.mark.parametrize(("limit", "words"), [("1500m", "must be at least cpu (2), or none"), ("all", "cpuLimit")])
def test_a_limit_of_the_cpu_below_the_request_or_of_another_form_is_refused(limit: str, words: str) -> None:
    assert words in fault(cluster={"resources": {"policy": {"cpu": 2, "cpuLimit": limit}}})


@pytest.mark.parametrize("cpu", ["0", "-1", "1Gi", "0.5m", "1.", "", "two", -1, 0, True])
def test_other_quantities_of_cores_are_refused(cpu: Any) -> None:
    assert fault(cluster={"resources": {"policy": {"cpu": cpu}}}).startswith("spec.cluster.resources.policy.cpu: ")


@pytest.mark.parametrize("memory", ["2Gi", "512Mi", "1.5Gi", "1000000000", "16G", 1_000_000_000])
def test_memory_is_a_quantity_of_bytes(memory: Any) -> None:
    assert spec(cluster={"cacheSize": memory}).cluster.cache_size == str(memory)


@pytest.mark.parametrize("memory", ["512m", "2GB", "2 Gi", "0Gi", "-1Gi", "Gi", ""])
def test_other_quantities_of_bytes_are_refused(memory: str) -> None:
    assert fault(cluster={"cacheSize": memory}).startswith(f"spec.cluster.cacheSize: {memory!r} does not have the form")


@pytest.mark.parametrize(
    ("cluster", "path"),
    [
        ({"storageSecret": "Upper"}, "storageSecret"),
        ({"queue": ""}, "queue"),
        ({"priorityClass": "a_b"}, "priorityClass"),
        ({"runtimeClass": "-a"}, "runtimeClass"),
        ({"nodeSelector": {"pool": "a b"}}, "nodeSelector.pool"),
        ({"nodeSelector": {"a b": "pool"}}, "nodeSelector.a b"),
        ({"deletionPolicy": "Delete"}, "deletionPolicy"),
        ({"resources": {"policy": {"gpuResource": "gpu"}}}, "resources.policy.gpuResource"),
        ({"resources": {"policy": {"gpus": -1}}}, "resources.policy.gpus"),
        ({"resources": {"train": {}}}, "resources.train: unknown key; did you mean trainP"),
    ],
)
def test_values_that_kubernetes_would_refuse_are_refused_at_once(cluster: dict[str, Any], path: str) -> None:
    assert fault(cluster=cluster).startswith(f"spec.cluster.{path}")


@pytest.mark.parametrize(
    ("toleration", "why"),
    [
        ({"value": "a"}, "a toleration without key needs operator: Exists"),
        (
            {"key": "a", "operator": "Exists", "value": "b"},
            "a toleration with operator Exists has no value: remove value",
        ),
        ({"key": "a", "tolerationSeconds": 5}, "tolerationSeconds needs effect: NoExecute"),
    ],
)
def test_a_toleration_follows_the_rules_of_kubernetes(toleration: dict[str, Any], why: str) -> None:
    assert fault(cluster={"tolerations": [toleration]}) == f"spec.cluster.tolerations[0]: {why}"


def test_a_name_leaves_room_for_the_longest_suffix_of_a_pod() -> None:
    longest = "r" * 34
    assert len(f"{longest}-train-policy-100-worker-1023") == 63
    assert spec(round=2, previousRound=longest).previous_round == longest
    assert fault(round=2, previousRound=longest + "r").startswith("spec.previousRound: ")
