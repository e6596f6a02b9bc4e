"""Judgements of a namespace's facts, as one user sees them. Pure.

None stands for what the user may not read; such a check is skipped, because it says nothing about the cluster.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from rstar.cluster.api import Json
from rstar.cluster.names import PART_OF
from rstar.doctor.finding import Finding
from rstar.doctor.quantities import Amounts, lacking
from rstar.doctor.schema import Schema, difference, schema_digest

Right = tuple[str, str, str]
"""Verb, API group, resource (with its subresource after a slash)."""

RIGHTS: Final[Mapping[Right, str]] = {
    ("list", "rstar.dev", "evolutionrounds"): "status",
    ("get", "rstar.dev", "evolutionrounds"): "status",
    ("list", "rstar.dev", "evolutions"): "status",
    ("create", "rstar.dev", "evolutionrounds"): "submit",
    ("patch", "rstar.dev", "evolutionrounds"): "submit, suspend, resume, cancel",
    ("create", "rstar.dev", "evolutions"): "submit",
    ("list", "", "pods"): "logs",
    ("get", "", "pods/log"): "logs",
    ("get", "", "secrets"): "submit of local files",
}
"""What the commands need, and which commands."""

OLDEST_MINOR: Final = 30
"""Kubernetes 1.30, as in the charts' ``kubeVersion``."""

_READ: Final = {right for right, command in RIGHTS.items() if command == "status"}


def judge_version(answer: Json | None) -> Finding:
    """``answer``: of ``/version``."""
    if answer is None:
        return Finding(
            "api server", "failed", "it does not serve /version", "check the server of the kubeconfig's context"
        )
    text = f"Kubernetes {answer.get('gitVersion', 'of unknown version')}"
    minor = re.match(r"\d+", str(answer.get("minor", "")))
    if minor is not None and int(minor[0]) < OLDEST_MINOR:
        remedy = f"use Kubernetes 1.{OLDEST_MINOR} or later: the CRD's validation rules need it"
        return Finding("api server", "failed", text, remedy)
    return Finding("api server", "ok", text)


def judge_namespace(name: str, found: Json | None) -> list[Finding]:
    """``found``: the Namespace object; {} when there is none. Its labels say which pods are admitted."""
    if found is None:
        return [Finding("namespace", "skipped", f"you may not read the namespace {name}")]
    if not found:
        remedy = "correct -n, or ask your admin for a tenant (charts/rstar-tenant)"
        return [Finding("namespace", "failed", f"there is no namespace {name}", remedy)]
    if found["metadata"].get("deletionTimestamp"):
        return [Finding("namespace", "failed", f"{name} is being deleted", "use another namespace")]
    level = (found["metadata"].get("labels") or {}).get("pod-security.kubernetes.io/enforce", "")
    existing = Finding("namespace", "ok", f"{name} exists")
    if level != "restricted":
        text = f"pods are admitted at the level {level or 'privileged (no label)'}"
        remedy = "set the label pod-security.kubernetes.io/enforce=restricted, as charts/rstar-tenant does"
        return [existing, Finding("pod security", "warning", text, remedy)]
    return [existing, Finding("pod security", "ok", "restricted pods only")]


@dataclass(frozen=True, slots=True)
class KindFacts:
    """A kind's schema by this code, and on the cluster: None where it is not installed or cannot be read.

    ``exact``: ``found`` is the CRD's own; else the published schema, which has no validation rules.
    """

    kind: str
    own: Schema
    found: Schema | None
    served: bool
    exact: bool = True


def judge_kinds(facts: Sequence[KindFacts]) -> list[Finding]:
    """Fail where a CRD is not the one of this code: the cluster would refuse, or drop, what this code submits."""
    findings = []
    for one in facts:
        name = f"crd {one.kind}"
        if not one.served:
            remedy = "ask your admin to install charts/rstar"
            findings.append(Finding(name, "failed", f"the cluster does not know {one.kind}", remedy))
        elif one.found is None:
            findings.append(Finding(name, "skipped", "it is installed, and its schema cannot be read by you"))
        elif differs := difference(one.own, one.found):
            digests = f" (schema {schema_digest(one.found)}, this code's {schema_digest(one.own)})" if one.exact else ""
            remedy = "install charts/rstar and this command line in the same version"
            findings.append(Finding(name, "failed", f"it is of another version: {differs}{digests}", remedy))
        else:
            digest = f"schema {schema_digest(one.own)}" if one.exact else "by the published schema"
            findings.append(Finding(name, "ok", f"installed in the version of this code ({digest})"))
    return findings


@dataclass(frozen=True, slots=True)
class OperatorFacts:
    """``deployments``: the operator's, None where they may not be read. ``rounds``, ``seen``: of the namespace's rounds, how many have a status."""

    deployments: Sequence[Json] | None
    rounds: int = 0
    seen: int = 0


def judge_operator(facts: OperatorFacts) -> Finding:
    """By its Deployment where it may be read, else by the statuses that it wrote."""
    if facts.deployments:
        parts = []
        ready = 0
        for item in facts.deployments:
            count = int((item.get("status") or {}).get("readyReplicas") or 0)
            ready += count
            parts.append(
                f"{item['metadata']['namespace']}/{item['metadata']['name']}: {count} of {item['spec'].get('replicas', 1)} ready"
            )
        text = ", ".join(parts)
        if not ready:
            return Finding("operator", "failed", text, "look at its pods: kubectl describe and kubectl logs")
        return Finding("operator", "ok", text)
    unseen = facts.rounds - facts.seen
    if unseen:
        text = f"{unseen} of {facts.rounds} rounds have no status: no operator has seen them"
        return Finding(
            "operator", "warning", text, "ask your admin whether the operator of charts/rstar serves this namespace"
        )
    if facts.deployments is None:
        if facts.seen:
            return Finding(
                "operator",
                "ok",
                f"it has written the status of all {facts.rounds} rounds (its pods are hidden from you)",
            )
        return Finding("operator", "skipped", "you may not see its Deployment, and there is no round to judge by")
    return Finding(
        "operator", "failed", "no Deployment of the operator exists", "ask your admin to install charts/rstar"
    )


def judge_rights(allowed: Mapping[Right, bool]) -> Finding:
    """Name what the user may not do. ``allowed``: the API server's answers for ``RIGHTS``."""
    refused = [right for right, yes in allowed.items() if not yes]
    if not refused:
        return Finding("rights", "ok", "you may do all that the commands need")
    shown = ", ".join(f"{verb} {resource} ({RIGHTS[verb, group, resource]})" for verb, group, resource in refused)
    remedy = "ask your admin for the role edit, or charts/rstar-tenant's rstar-rounds, in this namespace"
    if _READ & set(refused):
        return Finding("rights", "failed", f"you may not {shown}", remedy)
    return Finding("rights", "warning", f"you may not {shown}", remedy)


def judge_quota(name: str, quotas: Sequence[Json] | None, needs: Amounts) -> Finding:
    """Compare what the quotas leave with what round ``name`` requests at once ('' for a round with the defaults)."""
    if quotas is None:
        return Finding("quota", "skipped", "you may not read the namespace's quotas")
    if not quotas:
        return Finding("quota", "ok", "the namespace has no quota")
    what = f"round {name}" if name else "a round with the default resources"
    for item in quotas:
        status = item.get("status") or {}
        missing = lacking(status.get("hard") or item["spec"].get("hard") or {}, status.get("used") or {}, needs)
        if missing:
            text = ", ".join(
                f"{_amount(key, need)} of {key} ({_amount(key, left)} are left)"
                for key, (need, left) in missing.items()
            )
            remedy = "lower cluster.resources or the replicas, wait for other rounds, or ask your admin for more"
            return Finding("quota", "failed", f"{what} needs {text}; quota {item['metadata']['name']}", remedy)
    return Finding("quota", "ok", f"the quota leaves what {what} needs")


def _amount(key: str, value: Decimal) -> str:
    if "memory" in key or "storage" in key:
        return f"{value / 2**30:.1f} Gi"
    return f"{value.normalize():f}"


@dataclass(frozen=True, slots=True)
class BackendFacts:
    """``wanted``: the operator's training backend, '' where its configuration cannot be read; the kinds that are served."""

    wanted: str
    pytorchjob: bool
    trainjob: bool


def judge_backend(facts: BackendFacts) -> Finding:
    """Training needs the CRD of the operator's backend."""
    name = "training backend"
    served = [kind for kind, there in (("pytorchjob", facts.pytorchjob), ("trainjob", facts.trainjob)) if there]
    if not served:
        remedy = "ask your admin to install Kubeflow's training operator (PyTorchJob) or trainer (TrainJob)"
        return Finding(name, "failed", "the cluster knows neither PyTorchJobs nor TrainJobs", remedy)
    if facts.wanted and facts.wanted not in served:
        remedy = f"set operator.trainingBackend={served[0]} in charts/rstar, or install the other one"
        return Finding(
            name, "failed", f"the operator uses {facts.wanted}, and the cluster has {served[0]} only", remedy
        )
    return Finding(name, "ok", f"{facts.wanted or ' and '.join(served)} is served")


def judge_images(configuration: Mapping[str, Any] | None, version: str) -> Finding:
    """Name the images. ``configuration``: the operator's; None where it cannot be read. ``version``: of this code, '' where unknown."""
    if configuration is None:
        return Finding("images", "skipped", "the operator's configuration cannot be read by you")
    images: Mapping[str, str] = configuration.get("images") or {}
    if not images:
        return Finding("images", "failed", "the operator's configuration names no images", "set images in charts/rstar")
    tags = {image: _tag(image) for image in images.values() if "@" not in image}
    moving = [image for image, tag in tags.items() if tag in {"", "latest"}]
    other = sorted(
        {tag for tag in tags.values() if re.fullmatch(r"v?\d+\.\d+\.\d+", tag) and tag.lstrip("v") != version}
    )
    text = ", ".join(sorted(set(images.values())))
    if moving:
        return Finding(
            "images",
            "warning",
            f"without a fixed version: {', '.join(sorted(set(moving)))}",
            "name a tag or a digest (images in charts/rstar)",
        )
    if version and other:
        remedy = "use the same version of charts/rstar and of this command line"
        return Finding("images", "warning", f"images of {', '.join(other)}, and this is {version}: {text}", remedy)
    return Finding("images", "ok", text)


def _tag(image: str) -> str:
    """Return the tag of an image's name, '' without one; a colon before the last slash begins a port."""
    return image.rpartition("/")[2].partition(":")[2]


def judge_gpus(nodes: Sequence[Json] | None, wanted: Mapping[str, Decimal]) -> Finding:
    """``wanted``: GPUs that the rounds need at once, by resource name."""
    if nodes is None:
        return Finding("gpus", "skipped", "you may not list the nodes")
    there: dict[str, int] = {}
    for node in nodes:
        for key, value in ((node.get("status") or {}).get("allocatable") or {}).items():
            if key.endswith("/gpu") and str(value).isdigit():
                there[key] = there.get(key, 0) + int(value)
    shown = ", ".join(f"{count} {key}" for key, count in sorted(there.items())) or "no GPUs"
    text = f"{len(nodes)} nodes, {shown}"
    for key, count in wanted.items():
        if there.get(key, 0) < count:
            remedy = "lower the gpus or replicas of the rounds, correct gpuResource, or install the device plugin"
            return Finding("gpus", "failed", f"the rounds need {count} {key} at once, and there are {text}", remedy)
    return Finding("gpus", "ok", text)


def judge_policies(policies: Sequence[Json] | None) -> Finding:
    """Model servers and executors must not be open to other namespaces."""
    name = "network policies"
    if policies is None:
        return Finding(name, "skipped", "you may not read the namespace's network policies")
    for item in policies:
        if _denies(item["spec"]):
            text = f"{item['metadata']['name']} denies by default, beside {len(policies) - 1} others"
            return Finding(name, "ok", text)
    remedy = "install charts/rstar-tenant, or a policy that selects all pods and allows nothing"
    return Finding(name, "warning", f"none of {len(policies)} denies by default", remedy)


def _denies(spec: Mapping[str, Any]) -> bool:
    """Return whether a policy selects all pods, or all of this platform, and allows nothing."""
    selected = (spec.get("podSelector") or {}).get("matchLabels") or {}
    every = not spec.get("podSelector") or selected == {PART_OF: "rstar"}
    allows = spec.get("ingress") or spec.get("egress")
    return every and not allows and set(spec.get("policyTypes") or ()) >= {"Ingress", "Egress"}


def judge_metrics(answer: Json | None) -> Finding:
    """``answer``: of the resource metrics API; None where it is not served."""
    if answer is None:
        remedy = "install metrics-server, or set fixed replicas (executor.autoscaling.enabled=false)"
        return Finding("autoscaling", "warning", "no metrics API: executors are not scaled by their load", remedy)
    return Finding("autoscaling", "ok", "the metrics API is served")


def judge_executors(deployment: Json | None, shared: str) -> Finding:
    """``deployment``: the namespace's executors, None without; ``shared``: the operator's target for all tenants."""
    if deployment is None:
        if shared:
            return Finding("executors", "ok", f"shared by all tenants: {shared}")
        remedy = "install charts/rstar here with operator.enabled=false, or ask your admin for shared executors"
        return Finding("executors", "warning", "none in this namespace: a search waits for them", remedy)
    ready = int((deployment.get("status") or {}).get("readyReplicas") or 0)
    if not ready:
        return Finding(
            "executors", "failed", "no executor is ready", "look at their pods: kubectl describe and kubectl logs"
        )
    return Finding("executors", "ok", f"{ready} ready")
