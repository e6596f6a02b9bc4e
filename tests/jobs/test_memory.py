"""Memory of the stages that handle all problems: it hardly grows with their number.

At the paper's size, 747,000 problems, everything that grows with a problem's texts or tokens would not fit in memory. Here
are a hundredth and half of a hundredth of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rstar.problem import Problem
from rstar.record import NodeRecord, SearchRecord
from rstar.rounds.observed import ManifestRef, Stage
from rstar.rounds.stage import StageRun, stage_settings
from rstar.store.tables import write_trees
from tests.support.jobs.stage_workspace import FAST, StageWorkspace, make_base

PROBLEMS = 7_470
SHARD = 64
STEP = "<code>\n# Step {0}: combine the parts and keep the remainder\nx{0} = (x + {0}) * {1} % 97\n<end_of_step>"

MEASURED = (
    "import sys; from pathlib import Path; from rstar_jobs import {0}; from rstar_jobs.program import run;"
    "from rstar.rounds.observed import Stage; code = run(Stage(sys.argv[1]), {0}.work, sys.argv[2:]);"
    "peak = [line for line in Path('/proc/self/status').read_text().splitlines() if line.startswith('VmHWM')];"
    "print(peak[0].split()[1]); sys.exit(code)"
)
"""Runs a stage and prints its peak of resident memory in KiB."""


def tree(number: int) -> SearchRecord:
    """Return a tree of three levels with 3, 2 and 2 children per node, where half of the 12 trajectories are right."""
    nodes = [NodeRecord(-1, visits=12)]
    level = [0]
    for depth in (1, 2):
        added = []
        for parent in level:
            for child in range(4 - depth):
                added.append(len(nodes))
                text = STEP.format(depth, number * 31 + 7 * child)
                nodes.append(NodeRecord(parent, text=text, visits=4, value=4.0 - 3 * child))
        level = added
    for parent in level:
        for child in range(2):
            text = f"<answer>\\boxed{{{child}}}<end_of_answer>"
            correct = child == 0
            value = 1.0 if correct else -1.0
            nodes.append(
                NodeRecord(parent, text=text, visits=1, value=value, terminal=True, answer=str(child), correct=correct)
            )
    return SearchRecord(f"p{number}", tuple(nodes))


def rolled_out(workspace: StageWorkspace, problems: int) -> ManifestRef:
    """Store a finished rollout."""
    stage = StageRun(workspace.store, "r1", Stage.ROLLOUT, 3, stage_settings(workspace.round.spec, Stage.ROLLOUT))
    outputs = []
    for start in range(0, problems, SHARD):
        numbers = range(start, min(start + SHARD, problems))
        rows = [(Problem(f"p{n}", f"What is the remainder of {n} after the steps?"), tree(n)) for n in numbers]
        write_trees(workspace.folder / "shard.parquet", rows)
        outputs.append(stage.upload(workspace.folder / "shard.parquet", f"trees/{start // SHARD:05d}.parquet"))
    return stage.finish(outputs, {})[0]


def peak_mib(workspace: StageWorkspace, stage: str, inputs: dict[str, ManifestRef]) -> float:
    """Run a stage in a process of its own and return its peak of resident memory in MiB."""
    command = [sys.executable, "-c", MEASURED.format(stage), stage.replace("_", "-"), *workspace.arguments(inputs)]
    done = subprocess.run(command, env={**os.environ, **FAST}, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1]) / 1024


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1_200)
def test_twice_as_many_problems_take_hardly_more_memory(tmp_path: Path) -> None:
    peaks: dict[str, list[float]] = {"select": [], "train_policy": [], "train_ppm": []}
    for problems in (PROBLEMS // 2, PROBLEMS):
        folder = tmp_path / str(problems)
        folder.mkdir()
        make_base(folder / "base", markers=True, hidden_size=8, intermediate_size=8, num_attention_heads=1)
        training = {"batchSize": 2, "maxTrainTokens": 100}
        workspace = StageWorkspace(folder, select={"heldOutFraction": 0.001}, trainPolicy=training, trainPpm=training)
        peaks["select"].append(peak_mib(workspace, "select", {"rollout": rolled_out(workspace, problems)}))
        metrics = workspace.outcome()["metrics"]
        assert (metrics["problems"], metrics["medium"]) == (problems, problems)
        assert metrics["pairs_train"] > 10 * problems
        inputs = {"select": workspace.ref()}
        peaks["train_policy"].append(peak_mib(workspace, "train_policy", inputs))
        assert workspace.outcome()["metrics"]["examples"] == metrics["sft_examples"]
        inputs["policy"] = workspace.ref()
        peaks["train_ppm"].append(peak_mib(workspace, "train_ppm", inputs))
        assert workspace.outcome()["metrics"]["examples"] == metrics["pairs_train"]
    growth = {stage: large - small for stage, (small, large) in peaks.items()}
    # Measured on an idle machine: -5, 2 and 14 MiB; the texts of the pairs that were added are about 20 MiB.
    assert all(extra < 20 for extra in growth.values()), peaks
