"""The operator that ``charts/rstar`` installs, run with the chart's configuration and rights, and the audit of its requests."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import yaml
from rstar_testbed.cluster import Testbed

from rstar.cluster.api import Json
from tests.support.cluster.established import await_crds
from tests.support.cluster.operators import operator_in_process
from tests.support.cluster.releases import new_name
from tests.support.paths import CHARTS

CHART = CHARTS / "rstar"


@contextlib.contextmanager
def chart_operator(bed: Testbed, *values: str) -> Iterator[str]:
    """Install the chart for the whole cluster, run its operator as the chart's ServiceAccount, and yield its user name.

    At the end no request of the operator may have been refused for a missing right.
    """
    namespace = new_name("operator")
    bed.kubectl("create", "namespace", namespace)
    options = ["--set=executor.enabled=false,networkPolicies.enabled=false", *values]
    # An uninstalled chart leaves its CRDs, so that an earlier test's may exist.
    bed.helm("install", "rstar", str(CHART), "-n", namespace, "--take-ownership", *options)
    await_crds(bed)
    settings = yaml.safe_load(
        bed.kubectl("get", "configmap", "rstar-operator", "-n", namespace, "-o", r"jsonpath={.data.config\.yaml}")
    )
    kubeconfig = bed.service_account_kubeconfig(namespace, "rstar-operator")
    user = f"system:serviceaccount:{namespace}:rstar-operator"
    try:
        with operator_in_process(kubeconfig, settings=settings):
            yield user
    finally:
        bed.helm("uninstall", "rstar", "-n", namespace)
        bed.kubectl("delete", "namespace", namespace, "--wait=false")
    assert forbidden_requests(bed, user) == []


def audit_entries(bed: Testbed, user: str) -> Iterator[Json]:
    """Yield the audit log's entries for a user's requests; a watch has one at its start and one at its end."""
    with (bed.folder / "logs/audit.jsonl").open() as lines:
        for line in lines:
            if f'"username":"{user}"' in line and line.endswith("\n"):
                yield json.loads(line)


def forbidden_requests(bed: Testbed, user: str) -> list[str]:
    """Return the requests that the user's roles did not allow; refusals by quotas and ending namespaces are not included."""
    decision = "authorization.k8s.io/decision"
    entries = [entry for entry in audit_entries(bed, user) if entry.get("annotations", {}).get(decision) == "forbid"]
    return [f"{entry['verb']} {entry['requestURI']}" for entry in entries]
