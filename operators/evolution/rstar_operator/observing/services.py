"""The services of a round: each is a Deployment, a Service and perhaps a scaler, told by the annotation on all of them.

A service of which a part is missing counts as failed just now, so that it is made whole or cleared away. Executors
belong to the installation: they are shared, and only waited for. The module refuses to decide which should run.
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
from rstar_operator.observing.pods import cut, disrupted, last_crash, waiting_for
from rstar_operator.snapshot import World, deleting, name_of, parse_time

_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Parts:
    """The objects of one service that are there."""

    ref: ServiceRef
    deployment: Json | None
    service: Json | None
    autoscaler: Json | None

    def bodies(self) -> tuple[Json, ...]:
        """Return those that are there."""
        return tuple(b for b in (self.deployment, self.service, self.autoscaler) if b is not None)


def parts(world: World) -> tuple[Parts, ...]:
    """Return the services of which at least one part is there, by name."""
    kinds = (world.deployments, world.services, world.autoscalers)
    refs = {
        name_of(b): decode_service(b["metadata"]["annotations"][SERVICE_REF])
        for kind in kinds
        for b in kind
        if _named(b)
    }
    return tuple(Parts(ref, *(_of(kind, name) for kind in kinds)) for name, ref in sorted(refs.items()))


def services(world: World) -> tuple[Service, ...]:
    """Return the round's own services as the planner sees them."""
    return tuple(_service(found, world) for found in parts(world))


def shared_executor(spec: EvolutionRoundSpec, world: World, target: str, now: datetime) -> Service:
    """Return the executors that the round uses but does not keep. Those of another namespace are taken on trust."""
    ref = executor_service(spec)
    if target:
        return Service(ref, "ready", now, shared=True)
    if world.executor is None:
        return Service(ref, "starting", now, reason="none is installed in this namespace", shared=True)
    if _ready(world.executor):
        return Service(ref, "ready", now, shared=True)
    return Service(ref, "starting", now, reason="none of the namespace's executors is ready", shared=True)


def _service(found: Parts, world: World) -> Service:
    if any(deleting(body) for body in found.bodies()):
        return Service(found.ref, "stopping", _LONG_AGO)
    if found.deployment is None or found.service is None:
        return Service(found.ref, "failed", _LONG_AGO, reason="a part of it is missing")
    since = parse_time(found.deployment["metadata"]["creationTimestamp"])
    if _ready(found.deployment):
        return Service(found.ref, "ready", since)
    name = name_of(found.deployment)
    mine = [pod for pod in world.pods if pod["metadata"].get("labels", {}).get(NAME_LABEL) == name]
    # One that is told to end, as by a drain, does not crash when it does.
    pods = [pod for pod in mine if not (deleting(pod) or disrupted(pod))]
    crash = last_crash(pods)
    if crash is None:
        why = waiting_for(pods) or _replica_failure(found.deployment)
        return Service(found.ref, "starting", since, reason=why)
    # The cluster restarts it; to start it again, as the planner asks, changes nothing.
    times, end = crash
    return Service(found.ref, "failed", since, times, end.exit_code, end.sentence())


def _ready(deployment: Json) -> bool:
    # One pod can serve; the others join as nodes become free for them.
    return int(deployment.get("status", {}).get("readyReplicas", 0)) > 0


def _replica_failure(deployment: Json) -> str:
    conditions = deployment.get("status", {}).get("conditions", [])
    told = [c["message"] for c in conditions if c["type"] == "ReplicaFailure" and c["status"] == "True"]
    return cut(told[0]) if told else ""


def _named(body: Json) -> bool:
    """Say whether the name is the one of the service that the annotation tells: an edited one proves nothing."""
    try:
        ref = decode_service(body["metadata"].get("annotations", {}).get(SERVICE_REF, ""))
    except ValueError:
        return False
    round_name = body["metadata"]["ownerReferences"][0]["name"]
    return name_of(body) == service_name(round_name, ref)


def _of(bodies: Iterable[Json], name: str) -> Json | None:
    return next((body for body in bodies if name_of(body) == name), None)
