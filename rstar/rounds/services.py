"""Which services a stage needs, and the actions that lead to exactly those. Pure, like ``plan``.

Only rollout and evaluate search; training gets the whole machine. No service starts before all services of another
stage are gone, so that the models of two stages are never in memory together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from rstar.hub_name import SCHEME
from rstar.rounds.observed import (
    BAD_INPUT,
    ManifestRef,
    ModelRef,
    ModelServing,
    Service,
    ServiceKind,
    ServiceRef,
    Stage,
    StartService,
    StopService,
)
from rstar.rounds.spec import EvolutionRoundSpec, LifecycleSpec

LONGEST_BACKOFF = timedelta(hours=6)


def stage_searches(spec: EvolutionRoundSpec, stage: Stage) -> bool:
    """Return whether ``stage`` searches, and so needs services."""
    evaluates = spec.evaluate.problems is not None and bool(spec.evaluate.methods)
    return stage is Stage.ROLLOUT or (stage is Stage.EVALUATE and evaluates)


def needed_services(
    spec: EvolutionRoundSpec, name: str, stage: Stage, inputs: Mapping[str, ManifestRef]
) -> tuple[ServiceRef, ...]:
    """Return the services of ``stage`` of round ``name``, each after those that it calls.

    ``inputs``: the stage's own (policy, ppm).
    """
    if not stage_searches(spec, stage):
        return ()
    sizes = spec.services
    refs = [_policy_service(spec, name, stage, inputs), executor_service(spec)]
    refs += _ppm_service(spec, name, stage, inputs)
    search = ServiceRef(
        ServiceKind.SEARCH,
        replicas=sizes.search.size,
        slots=sizes.search.slots,
        call_seconds=spec.lifecycle.model_call_seconds,
        upstream=tuple(refs),
    )
    return (*refs, search)


def _policy_service(spec: EvolutionRoundSpec, name: str, stage: Stage, inputs: Mapping[str, ManifestRef]) -> ServiceRef:
    """Return the policy of a searching stage: in the rollout ``rollout.policy`` where it is given."""
    size = spec.services.policy
    policy = ServiceRef(
        ServiceKind.POLICY,
        given_model(spec.base_model, name) if "policy" not in inputs else checkpoint(inputs["policy"]),
        spec.rollout_prompt if stage is Stage.ROLLOUT else "trained",
        spec.rollout.prompt_file if stage is Stage.ROLLOUT else None,
        replicas=size.size,
        slots=size.slots,
        serving=size.serving,
    )
    other = spec.rollout.policy if stage is Stage.ROLLOUT else None
    if other is None:
        return policy
    if other.model is not None:
        return replace(policy, model=given_model(other.model, name))
    endpoint = other.server
    if endpoint is not None and endpoint.tokenizer is not None:
        endpoint = replace(endpoint, round_name=given_model(endpoint.tokenizer, name).round_name)
    return replace(policy, model=None, serving=ModelServing(), endpoint=endpoint)


def _ppm_service(
    spec: EvolutionRoundSpec, name: str, stage: Stage, inputs: Mapping[str, ManifestRef]
) -> list[ServiceRef]:
    """Return the PPM of a searching stage: the given one where the stage is guided, or a round's; [] without any."""
    size, given = spec.services.ppm, spec.preference_model.model
    sized = ServiceRef(ServiceKind.PPM, replicas=size.size, slots=size.slots, serving=size.serving)
    if given is None:
        return [replace(sized, model=checkpoint(inputs["ppm"]))] if "ppm" in inputs else []
    if stage is Stage.EVALUATE and not spec.guided_methods:
        return []
    return [replace(sized, model=given_model(given.uri, name), convention=given.convention)]


def executor_service(spec: EvolutionRoundSpec) -> ServiceRef:
    """Return the executors that every searching stage of the round needs."""
    size = spec.services.executor
    return ServiceRef(ServiceKind.EXECUTOR, replicas=size.size, slots=size.slots)


def given_model(uri: str, round_name: str) -> ModelRef:
    """Return a model that no stage trained. The round fixes its commit if it is on the hub."""
    return ModelRef(uri, round_name=round_name if uri.startswith(SCHEME) else "")


def checkpoint(manifest: ManifestRef) -> ModelRef:
    """Return the model in the output of a training stage."""
    return ModelRef(f"store:{manifest.prefix}/checkpoint", manifest.digest)


def backoff(lifecycle: LifecycleSpec, failures: int) -> timedelta:
    """Return the wait after the ``failures``-th failure: it doubles each time, up to six hours."""
    doubled = lifecycle.backoff_seconds * 2.0 ** min(max(failures - 1, 0), 40)
    return min(timedelta(seconds=min(doubled, LONGEST_BACKOFF.total_seconds())), LONGEST_BACKOFF)


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The next actions on services. ``ready``: exactly the needed services are ready. ``failure``: why to give up.

    ``wait``: until the next restart or deadline.
    """

    actions: tuple[StartService | StopService, ...]
    ready: bool
    message: str = ""
    failure: str = ""
    wait: timedelta | None = None


def reconcile(
    needed: tuple[ServiceRef, ...], observed: tuple[Service, ...], lifecycle: LifecycleSpec, now: datetime
) -> Reconciliation:
    """Return the services to stop and to start now, or why the round fails."""
    others = [service for service in observed if service.ref not in needed and not service.shared]
    if others:
        stops = tuple(StopService(service.ref) for service in others if service.state != "stopping")
        return Reconciliation(stops, ready=False, message="services of another stage are being released")
    by_ref = {service.ref: service for service in observed}
    ready = {ref for ref, service in by_ref.items() if service.state == "ready"}
    starts: list[StartService] = []
    waits: list[timedelta] = []
    for ref in needed:
        service = by_ref.get(ref)
        if service is not None and (failure := _failure(service, lifecycle, now)):
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
    missing = [_missing(ref, by_ref.get(ref)) for ref in needed if ref not in ready]
    message = f"waiting for services: {', '.join(missing)}" if missing else ""
    return Reconciliation(tuple(starts), not missing, message, wait=min(waits, default=None))


def _missing(ref: ServiceRef, service: Service | None) -> str:
    return f"{ref.kind} ({service.reason})" if service is not None and service.reason else ref.kind.value


def _failure(service: Service, lifecycle: LifecycleSpec, now: datetime) -> str:
    """Return why a service will never be ready; '' while it may be."""
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
