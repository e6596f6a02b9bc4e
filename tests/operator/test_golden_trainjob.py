"""The TrainingRuntime and the TrainJob of an attempt equal manifests that were checked by eye.

After an intended change, ``python -m tests.operator.test_golden_trainjob`` writes the files again.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from rstar_operator.children.attempt import attempt_pods
from rstar_operator.children.identity import Owner
from rstar_operator.trainjob import TrainJobBackend

from rstar.cluster.api import Json
from rstar.rounds.observed import Stage, StartStage
from tests.operator.test_golden_pytorchjob import GOLDEN, SELECTED, a_round
from tests.support.operator.driving import CONFIGURATION


def objects(nodes: int) -> list[Json]:
    """Return what is created for the second SFT attempt."""
    owner = Owner(a_round(nodes), "lab-a", "5b4e3f0a-6f0e-4a53-9d3b-0d8a1b6f2c11")
    start = StartStage(Stage.TRAIN_POLICY, 2, (("select", SELECTED),))
    return [create.body for create in TrainJobBackend().creates(owner, attempt_pods(owner, CONFIGURATION, start))]


@pytest.mark.parametrize("nodes", [1, 3])
def test_the_objects_of_a_training_stage_equal_the_golden_file(nodes: int) -> None:
    assert objects(nodes) == list(yaml.safe_load_all(golden(nodes).read_text()))


def golden(nodes: int) -> Path:
    return GOLDEN / f"trainjob-{nodes}-nodes.yaml"


if __name__ == "__main__":
    for count in (1, 3):
        golden(count).write_text(yaml.safe_dump_all(objects(count), sort_keys=False, width=120))
