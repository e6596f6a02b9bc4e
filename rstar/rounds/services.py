"""Which services a stage needs, and what must be done to have exactly those.

Only rollout and evaluate search; training gets the whole machine. Nothing new starts until what is
no longer wanted is gone, so that two models never share the memory of one. Pure, like ``plan``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from rstar.rounds.observed import (
    BAD_INPUT,
    ManifestRef,
    ModelRef,
    Service,
    ServiceKind,
    ServiceRef,
    Stage,
    StartService,
    StopService,
)
from rstar.rounds.spec import EvolutionRoundSpec, LifecycleSpec

LONGEST_BACKOFF = timedelta(hours=6)


def needs_services(spec: EvolutionRoundSpec, stage: Stage) -> bool:
    """Say whether ``stage`` searches."""
    evaluates = spec.evaluate.problems is not None and bool(spec.evaluate.methods)
    return stage is Stage.ROLLOUT or (stage is Stage.EVALUATE and evaluates)


def wanted_services(
    spec: EvolutionRoundSpec, stage: Stage, inputs: Mapping[str, ManifestRef]
) -> tuple[ServiceRef, ...]:
    """Return the services of ``stage``, each after those it calls. ``inputs`` are the stage's own (policy, ppm)."""
    if not needs_services(spec, stage):
        return ()
    sizes = spec.services
    policy = ModelRef(spec.base_model) if "policy" not in inputs else checkpoint(inputs["policy"])
    prompt = spec.rollout.prompt or ("bootstrap" if spec.round == 1 else "trained")
    refs = [
        ServiceRef(
            ServiceKind.POLICY,
            policy,
            prompt if stage is Stage.ROLLOUT else "trained",
            replicas=sizes.policy.size,
            slots=sizes.policy.slots,
        ),
        executor_service(spec),
    ]
    if "ppm" in inputs:
        size = sizes.ppm
        refs.append(ServiceRef(ServiceKind.PPM, checkpoint(inputs["ppm"]), replicas=size.size, slots=size.slots))
    search = ServiceRef(ServiceKind.SEARCH, replicas=sizes.search.size, slots=sizes.search.slots, upstream=tuple(refs))
    return (*refs, search)


def executor_service(spec: EvolutionRoundSpec) -> ServiceRef:
    """Return the executors that every searching stage of the round needs."""
    size = spec.services.executor
    return ServiceRef(ServiceKind.EXECUTOR, replicas=size.size, slots=size.slots)


def checkpoint(manifest: ManifestRef) -> ModelRef:
    """Return the model that a training stage left behind."""
    return ModelRef(f"store:{manifest.prefix}/checkpoint", manifest.digest)


def backoff(lifecycle: LifecycleSpec, failures: int) -> timedelta:
    """Return the wait after the ``failures``-th failure: doubling, at most six hours."""
    doubled = lifecycle.backoff_seconds * 2.0 ** min(max(failures - 1, 0), 40)
    return min(timedelta(seconds=min(doubled, LONGEST_BACKOFF.total_seconds())), LONGEST_BACKOFF)


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """How far the services are from what is wanted. ``ready``: exactly the wanted ones run and serve."""

    actions: tuple[StartService | StopService, ...]
    ready: bool
    message: str = ""
    failure: str = ""
    wait: timedelta | None = None


def reconcile(
    wanted: tuple[ServiceRef, ...], seen: tuple[Service, ...], lifecycle: LifecycleSpec, now: datetime
) -> Reconciliation:
    """Return what to stop and start now, and whether to give up on one that will not run (``failure``)."""
    unwanted = [service for service in seen if service.ref not in wanted and not service.shared]
    if unwanted:
        stops = tuple(StopService(service.ref) for service in unwanted if service.state != "stopping")
        return Reconciliation(stops, ready=False, message="services of another stage are being released")
    by_ref = {service.ref: service for service in seen}
    ready = {ref for ref, service in by_ref.items() if service.state == "ready"}
    starts: list[StartService] = []
    waits: list[timedelta] = []
    for ref in wanted:
        service = by_ref.get(ref)
        if service is not None and (failure := _hopeless(service, lifecycle, now)):
            return Reconciliation((), ready=False, failure=failure)
        if not set(ref.upstream) <= ready or (service is not None and service.shared):
            continue
        if service is None:
            starts.append(StartService(ref))
        elif service.state == "failed":
            wait = service.since + backoff(lifecycle, service.failures) - now
            if wait > timedelta():
                waits.append(wait)
            else:
                starts.append(StartService(ref))
        elif service.state == "starting":
            waits.append(service.since + timedelta(seconds=lifecycle.deadline_seconds) - now)
    missing = [_missing(ref, by_ref.get(ref)) for ref in wanted if ref not in ready]
    message = f"waiting for services: {', '.join(missing)}" if missing else ""
    return Reconciliation(tuple(starts), not missing, message, wait=min(waits, default=None))


def _missing(ref: ServiceRef, service: Service | None) -> str:
    return f"{ref.kind} ({service.reason})" if service is not None and service.reason else ref.kind.value


def _hopeless(service: Service, lifecycle: LifecycleSpec, now: datetime) -> str:
    if service.shared:
        return ""
    kind = service.ref.kind.value
    if service.state == "failed" and service.exit_code == BAD_INPUT:
        return f"the {kind} service refuses its settings: {service.reason}"
    if service.state == "failed" and service.failures >= lifecycle.max_attempts:
        return f"the {kind} service failed {service.failures} times: {service.reason}"
    if service.state == "starting" and now - service.since >= timedelta(seconds=lifecycle.deadline_seconds):
        return f"the {kind} service was not ready within {lifecycle.deadline_seconds} s"
    return ""
