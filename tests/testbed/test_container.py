"""Commands and environments of containers are those that Kubernetes makes."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from rstar_testbed.kubelet.container import command_of, environment_of, expand, field, referenced
from rstar_testbed.kubelet.workload import CannotStartError

POD: dict[str, Any] = {
    "metadata": {
        "name": "p",
        "namespace": "lab",
        "uid": "1",
        "labels": {"app": "x"},
        "annotations": {"rstar.dev/round": "{}"},
    },
    "spec": {"serviceAccountName": "stage", "containers": []},
}
SECRET = {("Secret", "s"): {"data": {"KEY": base64.b64encode(b"value").decode()}}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)/$(B)", "1/2"),
        ("$(C) $A ${A}", "$(C) $A ${A}"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(A", "$(A"),
        ("a$", "a$"),
    ],
)
def test_references_are_expanded_and_unknown_ones_stay(text: str, expected: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == expected


def test_a_variable_may_refer_to_earlier_ones_only() -> None:
    env = [{"name": "A", "value": "$(KEY) $(B)"}, {"name": "B", "value": "$(A)!"}]
    container = {"name": "c", "envFrom": [{"prefix": "P_", "secretRef": {"name": "s"}}], "env": env}
    found = environment_of(POD, container, SECRET, "198.18.0.1")
    assert found == {"P_KEY": "value", "A": "$(KEY) $(B)", "B": "$(KEY) $(B)!"}


def test_a_missing_secret_is_an_error_unless_it_is_optional() -> None:
    missing = {"name": "c", "envFrom": [{"secretRef": {"name": "none"}}]}
    with pytest.raises(CannotStartError, match='secret "none" not found'):
        environment_of(POD, missing, {}, "")
    optional = {"name": "c", "envFrom": [{"secretRef": {"name": "none", "optional": True}}]}
    assert environment_of(POD, optional, {}, "") == {}
    key = {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "none"}}}
    with pytest.raises(CannotStartError, match="couldn't find key none"):
        environment_of(POD, {"name": "c", "env": [key]}, SECRET, "")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "p"),
        ("metadata.labels['app']", "x"),
        ("metadata.annotations['rstar.dev/round']", "{}"),
        ("metadata.annotations['none']", ""),
        ("metadata.labels", 'app="x"'),
        ("status.podIP", "198.18.0.1"),
        ("spec.serviceAccountName", "stage"),
    ],
)
def test_the_downward_api_gives_a_pod_its_own_fields(path: str, value: str) -> None:
    assert field(POD, path, "198.18.0.1") == value


def test_a_container_without_a_command_is_refused_because_there_are_no_images() -> None:
    with pytest.raises(CannotStartError, match="no command"):
        command_of({"name": "c", "args": ["x"]}, {})


def test_every_object_that_a_pod_refers_to_is_fetched() -> None:
    reference = {"valueFrom": {"configMapKeyRef": {"name": "b", "key": "k"}}}
    container = {"name": "c", "envFrom": [{"secretRef": {"name": "a"}}], "env": [{"name": "X", **reference}]}
    projected = {"sources": [{"configMap": {"name": "c"}}, {"serviceAccountToken": {"path": "token"}}]}
    volumes = [{"name": "v", "secret": {"secretName": "d"}}, {"name": "w", "projected": projected}]
    pod = {"spec": {"containers": [container], "volumes": volumes}}
    assert referenced(pod) == {("Secret", "a"), ("ConfigMap", "b"), ("ConfigMap", "c"), ("Secret", "d")}
