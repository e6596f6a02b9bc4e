"""The pods of one attempt: the stage's program, its inputs, and where it reports progress.

The program reads the round from an annotation of its pod that is mounted as a file. A second object could be missing or
have another version. Which API runs the pods is the business of ``backend``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from rstar.cluster.api import Json
from rstar.cluster.names import ATTEMPT, PROGRESS_KEY, PYTORCH_CONTAINER, STAGE, attempt_labels, attempt_name
from rstar.rounds.cluster_spec import PodResources
from rstar.rounds.observed import Stage, StartStage
from rstar.rounds.programs import StagePlace, stage_arguments, training_settings
from rstar.rounds.spec import EvolutionRound, EvolutionRoundSpec
from rstar.rpc.spans import round_trace
from rstar.rpc.tracing import TRACEPARENT
from rstar_operator.children.deployment import upstream_target
from rstar_operator.children.identity import Owner, metadata, reference
from rstar_operator.children.pod import CACHE, ContainerSpec, pod_metadata, pod_spec
from rstar_operator.configuration import Configuration

ROUND_ANNOTATION: Final = "rstar.dev/evolution-round"
ROUND_FOLDER: Final = "/etc/rstar"
GRACE_SECONDS: Final = 180
"""After SIGTERM a stage finishes its shards (20 s) or saves a training checkpoint."""


@dataclass(frozen=True, slots=True)
class AttemptPods:
    """The pods of an attempt. ``processes``: per node, under torchrun; None: one process without torchrun."""

    name: str
    labels: dict[str, str]
    nodes: int
    processes: int | None
    template: Json


def attempt_pods(owner: Owner, configuration: Configuration, start: StartStage) -> AttemptPods:
    """Return the pods of the attempt."""
    training = training_settings(owner.round.spec, start.stage)
    nodes = training.nodes if training else 1
    processes = training.processes_per_node if training else None
    name = attempt_name(owner.name, start.stage, start.attempt)
    own = attempt_labels(owner.name, start.stage, start.attempt)
    search = (upstream_target(owner, configuration, start.search),) if start.search is not None else ()
    place = StagePlace(
        round=f"{ROUND_FOLDER}/round.yaml",
        store="$(RSTAR_STORE)",
        result="/dev/termination-log",
        progress=f"configmap:{name}",
        cache=CACHE,
        search=search,
    )
    container = ContainerSpec(
        name=PYTORCH_CONTAINER,
        image=configuration.images.jobs,
        command=["python", *stage_arguments(start, place, processes=processes, nodes=nodes)],
        resources=_resources(owner.round.spec, start.stage),
        grace=GRACE_SECONDS,
        storage=True,
        extra={},
        processes=processes or 1,
        environment=_trace(owner) if configuration.traces else (),
        certificate=start.search is not None,
        shared_memory=training is not None,
    )
    spec = pod_spec(owner, configuration, container)
    spec["serviceAccountName"] = configuration.stage_service_account
    # With its token the stage may only report its progress to a ConfigMap.
    spec["automountServiceAccountToken"] = True
    spec["containers"][0]["volumeMounts"].append({"name": "round", "mountPath": ROUND_FOLDER, "readOnly": True})
    spec["volumes"].append(_round_volume())
    annotations = {ROUND_ANNOTATION: round_text(owner.round)}
    return AttemptPods(
        name=name,
        labels=own,
        nodes=nodes,
        processes=processes,
        template={"metadata": pod_metadata(configuration, own, annotations), "spec": spec},
    )


def progress_map(owner: Owner, job: Json) -> Json:
    """Return the ConfigMap that an attempt reports its progress to. It is deleted with the job of the attempt."""
    head = job["metadata"]
    key = (owner.name, Stage(head["labels"][STAGE]), int(head["labels"][ATTEMPT]))
    found = metadata(owner, attempt_name(*key), attempt_labels(*key))
    found["ownerReferences"] = [reference(job["apiVersion"], job["kind"], head["name"], head["uid"], blocking=False)]
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": found, "data": {PROGRESS_KEY: "{}"}}


def round_text(item: EvolutionRound) -> str:
    """Return the round as JSON for the stage program."""
    plain = item.model_dump(mode="json", by_alias=True, exclude_none=True)
    plain["metadata"] = {"name": item.name}
    return json.dumps(plain, sort_keys=True, separators=(",", ":"))


def _resources(spec: EvolutionRoundSpec, stage: Stage) -> PodResources:
    """Return the resources of a stage's pods. A train-ppm that trains no PPM only writes a manifest: it asks for no GPU."""
    if stage is Stage.TRAIN_PPM and not spec.trains_ppm:
        stage = Stage.SELECT
    return getattr(spec.cluster.resources, stage.replace("-", "_"))  # type: ignore[no-any-return]


def _trace(owner: Owner) -> list[Json]:
    """Return the variable that makes the stage part of its round's trace."""
    return [{"name": TRACEPARENT, "value": round_trace(owner.uid).traceparent}]


def _round_volume() -> dict[str, Any]:
    path = f"metadata.annotations['{ROUND_ANNOTATION}']"
    item = {"path": "round.yaml", "fieldRef": {"fieldPath": path}}
    return {"name": "round", "downwardAPI": {"items": [item]}}
