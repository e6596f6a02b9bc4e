"""The services of a round. Each is a Deployment, a Service and perhaps an autoscaler, with the same annotation.

A service with a missing object counts as failed, so that the planner starts it again, which creates the object, or
stops it. Executors belong to the installation: they are shared, and the round only waits for them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from rstar.cluster.api import Json
from rstar.cluster.names import SERVICE_REF, decode_service, service_name
from rstar.rounds.observed import Service, ServiceRef
from rstar.rounds.services import executor_service
from rstar.rounds.spec import EvolutionRoundSpec
from rstar_operator.children.deployment import NAME_LABEL
from rstar_operator.observing.pods import cut, disrupted, last_crash, waiting_reason
from rstar_operator.snapshot import RoundSnapshot, deleting, name_of, parse_time

_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ServiceObjects:
    """The existing objects of one service."""

    ref: ServiceRef
    deployment: Json | None
    service: Json | None
    autoscaler: Json | None
    scaled_object: Json | None

    def bodies(self) -> tuple[Json, ...]:
        """Return the objects that exist."""
        found = (self.deployment, self.service, self.autoscaler, self.scaled_object)
        return tuple(b for b in found if b is not None)

    @property
    def ended(self) -> bool:
        """Whether nothing is left but autoscalers that are being deleted: a stopped KEDA keeps its own for ever."""
        return self.deployment is None and self.service is None and all(map(deleting, self.bodies()))


def service_objects(snapshot: RoundSnapshot) -> tuple[ServiceObjects, ...]:
    """Return the services of which at least one object exists, by name."""
    kinds = (snapshot.deployments, snapshot.services, snapshot.autoscalers, snapshot.scaled_objects)
    refs = {
        name_of(b): decode_service(b["metadata"]["annotations"][SERVICE_REF])
        for kind in kinds
        for b in kind
        if _has_own_name(b)
    }
    return tuple(ServiceObjects(ref, *(_of(kind, name) for kind in kinds)) for name, ref in sorted(refs.items()))


def services(snapshot: RoundSnapshot) -> tuple[Service, ...]:
    """Return the round's own services as the planner sees them."""
    return tuple(_service(found, snapshot) for found in service_objects(snapshot) if not found.ended)


def shared_executor(spec: EvolutionRoundSpec, snapshot: RoundSnapshot, target: str, now: datetime) -> Service:
    """Return the executors that the round uses. Those at ``target``, in another namespace, are assumed to be ready."""
    ref = executor_service(spec)
    if target:
        return Service(ref, "ready", now, shared=True)
    if snapshot.executor is None:
        return Service(ref, "starting", now, reason="none is installed in this namespace", shared=True)
    if _available(snapshot.executor):
        return Service(ref, "ready", now, shared=True)
    return Service(ref, "starting", now, reason="none of the namespace's executors is ready", shared=True)


def _service(found: ServiceObjects, snapshot: RoundSnapshot) -> Service:
    if any(body is not None and deleting(body) for body in (found.deployment, found.service)):
        return Service(found.ref, "stopping", _LONG_AGO)
    if found.deployment is None or found.service is None:
        return Service(found.ref, "failed", _LONG_AGO, reason="one of its objects is missing")
    since = parse_time(found.deployment["metadata"]["creationTimestamp"])
    if _available(found.deployment):
        return Service(found.ref, "ready", since)
    name = name_of(found.deployment)
    mine = [pod for pod in snapshot.pods if pod["metadata"].get("labels", {}).get(NAME_LABEL) == name]
    # A pod that ends because it is deleted or drained has not crashed.
    pods = [pod for pod in mine if not (deleting(pod) or disrupted(pod))]
    crash = last_crash(pods)
    if crash is None:
        why = waiting_reason(pods) or _replica_failure(found.deployment)
        return Service(found.ref, "starting", since, reason=why)
    # The cluster restarts the pod. The planner's StartService then changes nothing, because the objects exist.
    times, end = crash
    return Service(found.ref, "failed", since, times, end.exit_code, end.sentence())


def _available(deployment: Json) -> bool:
    # One pod can serve; the others join as nodes become free for them. Available, not ready: see MIN_READY_SECONDS.
    return int(deployment.get("status", {}).get("availableReplicas", 0)) > 0


def _replica_failure(deployment: Json) -> str:
    conditions = deployment.get("status", {}).get("conditions", [])
    messages = [c["message"] for c in conditions if c["type"] == "ReplicaFailure" and c["status"] == "True"]
    return cut(messages[0]) if messages else ""


def _has_own_name(body: Json) -> bool:
    """Return whether the object has the name of the service in its annotation. A user may have edited the annotation."""
    try:
        ref = decode_service(body["metadata"].get("annotations", {}).get(SERVICE_REF, ""))
    except ValueError:
        return False
    round_name = body["metadata"]["ownerReferences"][0]["name"]
    return name_of(body) == service_name(round_name, ref)


def _of(bodies: Iterable[Json], name: str) -> Json | None:
    return next((body for body in bodies if name_of(body) == name), None)
