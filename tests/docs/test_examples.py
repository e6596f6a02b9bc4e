"""The examples that no test runs: their rounds are accepted, and an estimate of them is possible."""

from __future__ import annotations

from pathlib import Path

import pytest

from rstar.rounds.estimate.assumptions import Assumptions
from rstar.rounds.estimate.model_size import KNOWN
from rstar.rounds.estimate.planned import PlannedRound
from rstar.rounds.estimate.round_estimate import estimate_round
from rstar.rounds.load import parse_rounds
from tests.support.paths import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*/*.yaml"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_rounds_of_an_example_are_a_chain_that_can_be_estimated(file: Path) -> None:
    rounds = parse_rounds(file)
    assert [item.spec.round for item in rounds] == list(range(1, len(rounds) + 1))
    assert [item.spec.previous_round for item in rounds] == [None, *(item.name for item in rounds[:-1])]
    for item in rounds:
        planned = PlannedRound(item.name, item.spec, KNOWN["Qwen2.5-1.5B"], Assumptions(), 1_000, 100)
        assert estimate_round(planned).storage["trees"] > 0


@pytest.mark.parametrize("folder", sorted({path.parent for path in EXAMPLES}), ids=lambda path: path.name)
def test_the_commands_of_an_example_name_its_files(folder: Path) -> None:
    page = folder / "README.md"
    texts = [path.read_text() for path in (page, *folder.glob("*.yaml")) if path.exists()]
    named = {word for text in texts for word in text.split() if word.startswith(f"examples/{folder.name}/")}
    assert named
    assert all((ROOT / word.rstrip(".,;)`")).exists() for word in named)
