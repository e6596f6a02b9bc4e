"""The charts' manifests, and Kubernetes' own schemas to check them, made strict.

The schemas of Kubernetes accept unknown fields. Here they are refused, as by an API server with strict field validation.
"""

from __future__ import annotations

import json
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml
from jsonschema import Draft4Validator
from rstar_testbed.binaries import Binaries
from rstar_testbed.modules import OPENAPI_VERSIONS, openapi

from tests.support.paths import CHARTS

Data = dict[str, Any]

COMBINATIONS: Final = sorted(CHARTS.glob("*/ci/*-values.yaml"))
FOREIGN_KINDS: Final = {
    "cert-manager.io/v1/Certificate",
    "cert-manager.io/v1/Issuer",
    "monitoring.coreos.com/v1/PrometheusRule",
    "monitoring.coreos.com/v1/ServiceMonitor",
    "keda.sh/v1alpha1/ScaledObject",
    "gateway.networking.k8s.io/v1/HTTPRoute",
}
"""Kinds of other operators, whose CRDs are not installed."""

_BINARIES: Final = Binaries()


def chart_of(values: Path) -> Path:
    """Return the chart of a file of documented values."""
    return values.parents[1]


def run(program: str, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run one of Helm's programs without a cluster."""
    command = [str(_BINARIES[program]), *map(str, arguments)]
    environment = {**os.environ, "KUBECONFIG": "/dev/null"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@cache
def rendered(values: Path, namespace: str = "lab", version: str = OPENAPI_VERSIONS[-1]) -> tuple[Data, ...]:
    """Return the objects of a chart for a file of values."""
    done = run("helm", "template", "r", chart_of(values), "-n", namespace, "-f", values, "--kube-version", version)
    return tuple(document for document in yaml.safe_load_all(done.stdout) if document)


def kind_of(document: Data) -> str:
    """Return ``apps/v1/Deployment``, or ``v1/Pod``."""
    return f"{document['apiVersion']}/{document['kind']}"


@cache
def validator(version: str, kind: str) -> Draft4Validator:
    """Return the validator of a kind. Raises ``KeyError`` for a kind that this version does not have."""
    definitions = _definitions(version)
    return Draft4Validator({"$ref": f"#/definitions/{_kinds(version)[kind]}", "definitions": definitions})


@cache
def namespaced(version: str) -> frozenset[str]:
    """Return the namespaced kinds."""
    found = set[str]()
    for path, operations in json.loads(openapi(version).read_text())["paths"].items():
        for operation in operations.values():
            if "/namespaces/{namespace}/" in path and isinstance(operation, dict):
                found |= {_group_version_kind(operation.get("x-kubernetes-group-version-kind"))}
    return frozenset(found)


@cache
def _definitions(version: str) -> Data:
    definitions: Data = json.loads(openapi(version).read_text())["definitions"]
    for name, definition in definitions.items():
        if "properties" in definition:
            definition.setdefault("additionalProperties", False)
        if definition.get("format") == "int-or-string" or name.endswith(".Quantity"):
            definition["type"] = ["string", "integer", "number"]
    return definitions


@cache
def _kinds(version: str) -> dict[str, str]:
    return {
        _group_version_kind(kind): name
        for name, definition in _definitions(version).items()
        for kind in definition.get("x-kubernetes-group-version-kind", [])
    }


def _group_version_kind(kind: Data | None) -> str:
    return "/".join(part for part in (kind["group"], kind["version"], kind["kind"]) if part) if kind else ""
