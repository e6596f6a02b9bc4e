"""The serialised PyTorchJob equals a manifest that was checked by eye, because kubeflow-training's models rename keys.

With an incompatible ``kubernetes`` package they silently serialise to snake_case with nulls. After an intended change,
``python -m tests.operator.test_golden_pytorchjob`` writes the files again.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from rstar_operator.backend import PyTorchJobBackend
from rstar_operator.children.attempt import attempt_pods, round_text
from rstar_operator.children.identity import Owner

from rstar.cluster.api import Json
from rstar.rounds.load import parse_rounds
from rstar.rounds.observed import ManifestRef, Stage, StartStage
from rstar.rounds.spec import EvolutionRound
from tests.support.operator.driving import CONFIGURATION

GOLDEN = Path(__file__).parent / "data"
SELECTED = ManifestRef("rounds/r1/select/9f2c/manifest.json", "5" * 64)
CLUSTER = {
    "priorityClass": "batch",
    "nodeSelector": {"pool": "gpu"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "resources": {"trainPolicy": {"cpu": 8, "memory": "64Gi", "gpus": 4}},
}


def a_round(nodes: int) -> EvolutionRound:
    """Return a round whose SFT uses four GPUs of each of ``nodes`` nodes."""
    body = {
        "apiVersion": "rstar.dev/v1alpha1",
        "kind": "EvolutionRound",
        "metadata": {"name": "r1"},
        "spec": {
            "round": 1,
            "baseModel": "store:models/base",
            "problems": {"uri": "store:data/train.jsonl"},
            "trainPolicy": {"nodes": nodes, "processesPerNode": 4},
            "cluster": CLUSTER | ({"queue": "lab"} if nodes > 1 else {}),
        },
    }
    return EvolutionRound.model_validate(body)


def job(nodes: int) -> Json:
    """Return the job of the second SFT attempt."""
    owner = Owner(a_round(nodes), "lab-a", "5b4e3f0a-6f0e-4a53-9d3b-0d8a1b6f2c11")
    start = StartStage(Stage.TRAIN_POLICY, 2, (("select", SELECTED),))
    return PyTorchJobBackend().manifest(owner, attempt_pods(owner, CONFIGURATION, start))


@pytest.mark.parametrize("nodes", [1, 3])
def test_the_job_of_a_training_stage_equals_the_golden_file(nodes: int) -> None:
    assert job(nodes) == yaml.safe_load(golden(nodes).read_text())


def test_the_round_in_the_job_is_one_that_its_stage_program_reads(tmp_path: Path) -> None:
    (tmp_path / "round.yaml").write_text(round_text(a_round(3)))
    assert parse_rounds(tmp_path / "round.yaml") == [EvolutionRound.model_validate_json(round_text(a_round(3)))]


def golden(nodes: int) -> Path:
    return GOLDEN / f"pytorchjob-{nodes}-nodes.yaml"


if __name__ == "__main__":
    for count in (1, 3):
        golden(count).write_text(yaml.safe_dump(job(count), sort_keys=False, width=120))
