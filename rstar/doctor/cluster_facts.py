"""Gathers the facts of a namespace with the rights of its user. What the user may not read is None."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from importlib import metadata
from typing import Any, Final, TypeVar

import yaml
from rstar_operator.crd.evolutions import evolution_crd
from rstar_operator.crd.rounds import round_crd

from rstar.cluster.api import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    EVOLUTIONS,
    PYTORCH_JOBS,
    ROUNDS,
    TRAIN_JOBS,
    Cluster,
    ClusterError,
    Json,
    Kind,
)
from rstar.cluster.inputs import namespace_store
from rstar.cluster.names import COMPONENT, EXECUTOR_SERVICE, OPERATOR, PART_OF
from rstar.distribution import DISTRIBUTION
from rstar.doctor.cluster import (
    RIGHTS,
    BackendFacts,
    KindFacts,
    OperatorFacts,
    Right,
    judge_backend,
    judge_executors,
    judge_gpus,
    judge_images,
    judge_kinds,
    judge_metrics,
    judge_namespace,
    judge_operator,
    judge_policies,
    judge_quota,
    judge_rights,
    judge_version,
)
from rstar.doctor.finding import SECONDS, Check, Finding, check
from rstar.doctor.quantities import needed
from rstar.doctor.running import run_checks
from rstar.doctor.store import STORE_SECONDS, StoreFacts, judge_store, probed_store
from rstar.rounds.spec import EvolutionRound, EvolutionRoundSpec
from rstar.store.store import StoreError

T = TypeVar("T")

NAMESPACES: Final = Kind("/api/v1", "namespaces")
NODES: Final = Kind("/api/v1", "nodes")
QUOTAS: Final = Kind("/api/v1", "resourcequotas")
POLICIES: Final = Kind("/apis/networking.k8s.io/v1", "networkpolicies")
REVIEWS: Final = Kind("/apis/authorization.k8s.io/v1", "selfsubjectaccessreviews")
CRDS: Final = Kind("/apis/apiextensions.k8s.io/v1", "customresourcedefinitions")

_OPERATORS: Final = f"{PART_OF}=rstar,{COMPONENT}=operator"
_REQUESTS_SECONDS: Final = 2 * SECONDS + 5
"""Two requests, each with its own time limit."""


def cluster_findings(cluster: Cluster, namespace: str, rounds: Sequence[EvolutionRound]) -> list[Finding]:
    """Return the findings of a namespace. ``rounds``: what their pods need is compared with what there is.

    Where the API server does not answer, it is asked nothing else.
    """
    try:
        version = judge_version(cluster.read("/version"))
    except ClusterError as error:
        remedy = "log in again, or correct --context and --kubeconfig" if error.code in {401, 403} else ""
        return [Finding("api server", "failed", str(error), remedy or "check the network, the VPN and the kubeconfig")]
    if version.result == "failed":
        return [version]
    return [version, *run_checks(namespace_checks(cluster, namespace, rounds))]


def namespace_checks(cluster: Cluster, namespace: str, rounds: Sequence[EvolutionRound]) -> list[Check]:
    """Return the checks of a namespace of a cluster that answers."""

    def checked(name: str, gather: Callable[[], T], judge: Callable[[T], Finding | list[Finding]]) -> Check:
        return check(name, gather, judge, _REQUESTS_SECONDS)

    specs = {item.name: item.spec for item in rounds} or {"": _default_spec()}
    needs = {name: needed(spec) for name, spec in specs.items()}
    # The rounds of a file run one after the other.
    gpus = {key: max(of.get(key, Decimal(0)) for of in needs.values()) for of in needs.values() for key in of}
    wanted = {key.removeprefix("requests."): count for key, count in gpus.items() if "/" in key and count}
    secrets = sorted({spec.cluster.storage_secret for spec in specs.values()})
    version = ""
    with suppress(metadata.PackageNotFoundError):
        version = metadata.version(DISTRIBUTION)
    return [
        checked("namespace", lambda: _namespace(cluster, namespace), lambda found: judge_namespace(namespace, found)),
        checked("crds", lambda: kind_facts(cluster), judge_kinds),
        checked("operator", lambda: _operator(cluster, namespace), judge_operator),
        checked("images", lambda: _configuration(cluster, namespace), lambda found: judge_images(found, version)),
        checked("rights", lambda: _rights(cluster, namespace), judge_rights),
        checked(
            "quota",
            lambda: _allowed(lambda: cluster.list(QUOTAS, namespace)),
            lambda found: [judge_quota(name, found, need) for name, need in needs.items()],
        ),
        checked("training backend", lambda: _backend(cluster, namespace), judge_backend),
        *(_storage_check(cluster, namespace, secret) for secret in secrets),
        checked("executors", lambda: _executors(cluster, namespace), lambda found: found),
        checked("gpus", lambda: _allowed(lambda: cluster.list(NODES, "")), lambda nodes: judge_gpus(nodes, wanted)),
        checked("network policies", lambda: _allowed(lambda: cluster.list(POLICIES, namespace)), judge_policies),
        checked("autoscaling", lambda: _served(cluster, "/apis/metrics.k8s.io/v1beta1"), judge_metrics),
    ]


def _default_spec() -> EvolutionRoundSpec:
    return EvolutionRoundSpec.model_validate(
        {"round": 1, "baseModel": "hf:org/name", "problems": {"uri": "hf:org/name"}}
    )


def _allowed(request: Callable[[], T]) -> T | None:
    """Return the answer; None when the user has no right to it."""
    try:
        return request()
    except ClusterError as error:
        if error.code == 403:
            return None
        raise


def _served(cluster: Cluster, path: str) -> Json | None:
    """Return what discovery says of an API; None where it is not installed, or its server does not answer."""
    try:
        return cluster.read(path)
    except ClusterError as error:
        if error.code == 503:
            return None
        raise


def _serves(cluster: Cluster, kind: Kind) -> bool:
    answer = _served(cluster, kind.api)
    return answer is not None and any(one["name"] == kind.plural for one in answer.get("resources") or ())


def _namespace(cluster: Cluster, namespace: str) -> Json | None:
    return _allowed(lambda: cluster.get(NAMESPACES, "", namespace) or {})


def kind_facts(cluster: Cluster) -> list[KindFacts]:
    """Return our kinds' schemas: the CRD's own where the user may read it, else the published one."""
    found = []
    published: Mapping[str, Any] | None = None
    for kind, crd in ((ROUNDS, round_crd()), (EVOLUTIONS, evolution_crd())):
        name, own = crd["spec"]["names"]["kind"], crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        if not _serves(cluster, kind):
            found.append(KindFacts(name, own, None, served=False))
            continue
        on_cluster = _allowed(lambda kind=kind: cluster.get(CRDS, "", kind.full_name))  # type: ignore[misc]
        if on_cluster is not None:
            versions = on_cluster["spec"]["versions"]
            schema = next(
                (one["schema"]["openAPIV3Schema"] for one in versions if one["name"] == kind.api.split("/")[-1]), None
            )
            found.append(KindFacts(name, own, schema, served=schema is not None))
            continue
        published = published or _allowed(lambda kind=kind: cluster.read(f"/openapi/v3{kind.api}")) or {}  # type: ignore[misc]
        schemas = (published.get("components") or {}).get("schemas") or {}
        ends = f".{kind.api.split('/')[-1]}.{name}"
        schema = next((one for key, one in schemas.items() if key.endswith(ends)), None)
        found.append(KindFacts(name, own, schema, served=True, exact=False))
    return found


def _operator(cluster: Cluster, namespace: str) -> OperatorFacts:
    rounds = _allowed(lambda: cluster.list(ROUNDS, namespace)) if _serves(cluster, ROUNDS) else []
    seen = sum(bool((item.get("status") or {}).get("conditions")) for item in rounds or ())
    return OperatorFacts(_operators(cluster, namespace), len(rounds or ()), seen)


def _operators(cluster: Cluster, namespace: str) -> list[Json] | None:
    """Return the operator's Deployments of all namespaces, or of this one if the user sees no other."""
    everywhere = _allowed(lambda: cluster.list(DEPLOYMENTS, "", _OPERATORS))
    if everywhere is not None:
        return everywhere
    return _allowed(lambda: cluster.list(DEPLOYMENTS, namespace, _OPERATORS)) or None


def _configuration(cluster: Cluster, namespace: str) -> Mapping[str, Any] | None:
    """Return the operator's configuration; None where the user may not read it, or no operator is seen."""
    for deployment in _operators(cluster, namespace) or ():
        where = deployment["metadata"]["namespace"]
        found = _allowed(lambda where=where: cluster.get(CONFIG_MAPS, where, OPERATOR))  # type: ignore[misc]
        if found is not None:
            content = yaml.safe_load(found["data"]["config.yaml"])
            return content if isinstance(content, dict) else {}
    return None


def _rights(cluster: Cluster, namespace: str) -> dict[Right, bool]:
    """Ask the API server what this user may do."""
    allowed = {}
    for verb, group, resource in RIGHTS:
        name, _, subresource = resource.partition("/")
        attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": name}
        attributes |= {"subresource": subresource} if subresource else {}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        allowed[verb, group, resource] = bool(cluster.create(REVIEWS, "", body)["status"]["allowed"])
    return allowed


def _backend(cluster: Cluster, namespace: str) -> BackendFacts:
    configuration = _configuration(cluster, namespace)
    wanted = "" if configuration is None else str(configuration.get("trainingBackend", "pytorchjob"))
    return BackendFacts(wanted, _serves(cluster, PYTORCH_JOBS), _serves(cluster, TRAIN_JOBS))


def _executors(cluster: Cluster, namespace: str) -> Finding:
    configuration = _configuration(cluster, namespace)
    shared = "" if configuration is None else str(configuration.get("executor") or "")
    try:
        deployment = cluster.get(DEPLOYMENTS, namespace, EXECUTOR_SERVICE)
    except ClusterError as error:
        if error.code != 403:
            raise
        return Finding("executors", "skipped", "you may not read the namespace's Deployments")
    return judge_executors(deployment, shared)


def _storage_check(cluster: Cluster, namespace: str, secret: str) -> Check:
    """Check the Secret that rounds name, and the store that it names, as seen from this machine."""

    def run() -> list[Finding]:
        try:
            store = namespace_store(cluster, namespace, secret, os.environ)
        except ClusterError as error:
            if error.code == 403:
                return [Finding("storage secret", "skipped", f"you may not read the Secret {secret}")]
            if error.code == 404:
                remedy = "ask your admin for it (charts/rstar-tenant), or correct cluster.storageSecret"
                return [Finding("storage secret", "failed", f"there is no Secret {secret} in {namespace}", remedy)]
            raise
        except ValueError as error:
            remedy = "write RSTAR_STORE, RSTAR_S3_ENDPOINT and the keys into it, as charts/rstar-tenant does"
            return [Finding("storage secret", "failed", str(error), remedy)]
        except StoreError as error:
            return [Finding("storage secret", "ok", f"{secret} names a store"), judge_unreachable(str(error))]
        return [Finding("storage secret", "ok", f"{secret} names {store.uri}"), *judge_store(probed_store(store))]

    return Check("storage secret", run, STORE_SECONDS + SECONDS)


def judge_unreachable(error: str) -> Finding:
    """Judge a store that cannot be opened here: its address may be known inside the cluster alone."""
    if error.startswith("cannot reach"):
        remedy = "set RSTAR_S3_ENDPOINT to its address outside the cluster (kubectl port-forward), and try again"
        return Finding("store", "skipped", f"from this machine: {error}", remedy)
    return judge_store(StoreFacts("", opened=error))[0]
