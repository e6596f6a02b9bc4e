"""One attempt of a stage as the pods it needs: the stage's program, its inputs, and where it reports.

What the program reads of the round travels with the pod, as an annotation that is mounted as a file: no second
object that could be missing or another version. The module refuses to know which API runs the pods (see ``backend``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from rstar.cluster.api import Json
from rstar.cluster.names import ATTEMPT, PROGRESS_KEY, STAGE, attempt_labels, attempt_name, manifest_argument
from rstar.rounds.observed import Stage, StartStage
from rstar.rounds.spec import EvolutionRound, TrainingSpec
from rstar_operator.children.deployment import upstream_target
from rstar_operator.children.identity import Owner, metadata, reference
from rstar_operator.children.pod import CACHE, Program, pod_spec
from rstar_operator.configuration import Configuration

ROUND_ANNOTATION: Final = "rstar.dev/evolution-round"
ROUND_FOLDER: Final = "/etc/rstar"
CONTAINER: Final = "pytorch"
"""The training operator finds the container of a PyTorchJob by this name."""

GRACE_SECONDS: Final = 180
"""After SIGTERM a stage finishes its shards (20 s) or saves a training checkpoint."""


@dataclass(frozen=True, slots=True)
class AttemptPods:
    """The pods of an attempt. ``processes``: per node, under torchrun; None: a plain program."""

    name: str
    labels: dict[str, str]
    nodes: int
    processes: int | None
    template: Json


def attempt_pods(owner: Owner, configuration: Configuration, start: StartStage) -> AttemptPods:
    """Return what runs the attempt."""
    training = _training(owner.round, start.stage)
    nodes = training.nodes if training else 1
    name = attempt_name(owner.name, start.stage, start.attempt)
    own = attempt_labels(owner.name, start.stage, start.attempt)
    program = Program(
        container=CONTAINER,
        image=configuration.images.jobs,
        command=[*_launcher(training), _module(start.stage), *_options(owner, configuration, start, name)],
        resources=getattr(owner.round.spec.cluster.resources, start.stage.replace("-", "_")),
        grace=GRACE_SECONDS,
        storage=True,
        extra={},
        processes=training.processes_per_node if training else 1,
    )
    spec = pod_spec(owner, configuration, program)
    spec["serviceAccountName"] = configuration.stage_service_account
    # The stage reports its progress to a ConfigMap: the one thing it may do with its token.
    spec["automountServiceAccountToken"] = True
    spec["containers"][0]["volumeMounts"].append({"name": "round", "mountPath": ROUND_FOLDER, "readOnly": True})
    spec["volumes"].append(_round_volume())
    if training is not None:
        # Processes of one node exchange gradients here; a container engine gives it 64 MiB, whatever the model.
        spec["containers"][0]["volumeMounts"].append({"name": "shm", "mountPath": "/dev/shm"})
        spec["volumes"].append({"name": "shm", "emptyDir": {"medium": "Memory"}})
    annotations = {ROUND_ANNOTATION: round_text(owner.round)}
    return AttemptPods(
        name=name,
        labels=own,
        nodes=nodes,
        processes=training.processes_per_node if training else None,
        template={"metadata": {"labels": own, "annotations": annotations}, "spec": spec},
    )


def progress_map(owner: Owner, job: Json) -> Json:
    """Return the ConfigMap that an attempt reports its progress to. It goes when the job of the attempt goes."""
    head = job["metadata"]
    own = attempt_labels(owner.name, Stage(head["labels"][STAGE]), int(head["labels"][ATTEMPT]))
    found = metadata(owner, head["name"], own)
    found["ownerReferences"] = [reference(job["apiVersion"], job["kind"], head["name"], head["uid"], blocking=False)]
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": found, "data": {PROGRESS_KEY: "{}"}}


def round_text(item: EvolutionRound) -> str:
    """Return the round as the stage program reads it: what the result depends on, and how it is run."""
    plain = item.model_dump(mode="json", by_alias=True, exclude_none=True)
    plain["metadata"] = {"name": item.name}
    return json.dumps(plain, sort_keys=True, separators=(",", ":"))


def _module(stage: Stage) -> str:
    return f"rstar_jobs.{stage.replace('-', '_')}"


def _launcher(training: TrainingSpec | None) -> list[str]:
    if training is None:
        return ["python", "-m"]
    torchrun = ["python", "-m", "torch.distributed.run"]
    if training.nodes == 1:
        return [*torchrun, "--standalone", "--nproc-per-node", str(training.processes_per_node), "-m"]
    # The training operator's environment (PET_*) says how the nodes find each other.
    return [*torchrun, "-m"]


def _options(owner: Owner, configuration: Configuration, start: StartStage, name: str) -> list[str]:
    options = ["--round", f"{ROUND_FOLDER}/round.yaml", "--store", "$(RSTAR_STORE)", "--cache", CACHE]
    for input_name, ref in start.inputs:
        options += ["--input", manifest_argument(input_name, ref)]
    options += ["--result", "/dev/termination-log", "--progress", f"configmap:{name}"]
    if start.search is not None:
        options += ["--search", upstream_target(owner, configuration, start.search)]
    return options


def _round_volume() -> dict[str, Any]:
    path = f"metadata.annotations['{ROUND_ANNOTATION}']"
    item = {"path": "round.yaml", "fieldRef": {"fieldPath": path}}
    return {"name": "round", "downwardAPI": {"items": [item]}}


def _training(item: EvolutionRound, stage: Stage) -> TrainingSpec | None:
    return {Stage.TRAIN_POLICY: item.spec.train_policy, Stage.TRAIN_PPM: item.spec.train_ppm}.get(stage)
