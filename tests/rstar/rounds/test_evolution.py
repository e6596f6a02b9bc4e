"""Evolutions: the rounds of a template, faults at their lines, and the rules to stop."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstar.rounds.evolution import Rung, has_ended, not_made, reason_to_stop, rung
from rstar.rounds.evolution_spec import LABEL, StopWhen, apply_patch
from rstar.rounds.load import SpecError, parse_rounds
from rstar.rounds.status import RoundStatus, StageStatus

EVOLUTION = """\
apiVersion: rstar.dev/v1alpha1
kind: Evolution
metadata: {name: sums, labels: {team: maths}}
spec:
  rounds: 3
  template:
    baseModel: store:base
    problems: {uri: store:train.jsonl}
    rollout: {concurrency: 8, search: {rollouts: 4, candidates: 2}}
  perRound:
    - round: 2
      spec: {rollout: {search: {rollouts: 16}}}
    - round: 3
      spec:
        rollout: {search: null}
"""


def parsed(folder: Path, text: str) -> list[str]:
    """Return the faults of a file."""
    (folder / "rounds.yaml").write_text(text)
    with pytest.raises(SpecError) as caught:
        parse_rounds(folder / "rounds.yaml")
    return [fault.removeprefix(f"{folder}/") for fault in caught.value.faults]


def test_the_rounds_of_an_evolution_follow_each_other_and_differ_where_they_say_so(tmp_path: Path) -> None:
    (tmp_path / "rounds.yaml").write_text(EVOLUTION)
    first, second, third = parse_rounds(tmp_path / "rounds.yaml")
    assert [item.name for item in (first, second, third)] == ["sums-r1", "sums-r2", "sums-r3"]
    assert [item.spec.previous_round for item in (first, second, third)] == [None, "sums-r1", "sums-r2"]
    assert [item.spec.rollout.concurrency for item in (first, second, third)] == [8, 8, 8]
    assert (first.spec.search.rollouts, second.spec.search.rollouts, second.spec.search.candidates) == (4, 16, 2)
    assert (third.spec.rollout.search, third.spec.search.extra_rollouts) == (None, (16,))  # the paper's
    assert first.metadata.labels == {"team": "maths", LABEL: "sums"}


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            "concurrency: 8",
            "concurrency: 0",
            "rounds.yaml:9: evolution sums: spec.rollout.concurrency: must be at least 1",
        ),
        ("store:base", "7", "rounds.yaml:7: evolution sums: spec.baseModel"),
        (
            "rollouts: 16",
            "rolouts: 16",
            "rounds.yaml:12: evolution sums, round 2: spec.rollout.search.rolouts: unknown key",
        ),
        ("rounds: 3", "rounds: 2", "perRound: there is no round 3; rounds is 2"),
        ("round: 3", "round: 2", "perRound: each round may be given once"),
        (
            "baseModel: store:base",
            "baseModel: b\n    round: 1",
            "template: remove round: an evolution numbers its rounds",
        ),
        ("baseModel: store:base", "seed: 1", "rounds.yaml:4: evolution sums: spec: template.baseModel: missing"),
        ("rollout: {search: null}", "suspend: true", "remove suspend: suspend belongs to the evolution's own spec"),
        ("name: sums", "name: a-name-of-more-than-thirty-characters", "at most 30"),
        ("rounds: 3", "rouns: 3", "rounds.yaml:5: evolution sums: spec.rouns: unknown key; did you mean rounds?"),
    ],
)
def test_a_fault_is_given_once_with_its_line(tmp_path: Path, old: str, new: str, fault: str) -> None:
    faults = parsed(tmp_path, EVOLUTION.replace(old, new, 1))
    assert len(faults) == 1
    assert fault in faults[0]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=2), json_values, max_size=3)


@given(json_values, json_values)
def test_a_patch_is_merged_once_for_all(value: object, patch: object) -> None:
    once = apply_patch(value, patch)
    assert apply_patch(once, patch) == once
    assert apply_patch(value, {}) == (value if isinstance(value, dict) else {})


@given(objects, objects)
def test_a_key_of_the_patch_replaces_merges_or_removes(value: dict[str, object], patch: dict[str, object]) -> None:
    merged = apply_patch(value, patch)
    for key in value.keys() | patch.keys():
        if key not in patch:
            assert merged[key] == value[key]
        elif patch[key] is None:
            assert key not in merged
        elif not isinstance(patch[key], dict):
            assert merged[key] == patch[key]


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        (StopWhen(), ""),
        (StopWhen(coverage_gain_below=0.05), ""),
        (StopWhen(coverage_gain_below=0.2), "the coverage rose by 0.1000, and stopWhen.coverageGainBelow is 0.2"),
        (StopWhen(accuracy_gain_below=0.01), "the accuracy of mcts rose by 0.0000"),
        (StopWhen(accuracy_gain_below=0.01, method="greedy"), ""),
        (StopWhen(accuracy_gain_below=0.01, method="none"), ""),
    ],
)
def test_an_evolution_stops_when_a_round_brings_too_little(rules: StopWhen, reason: str) -> None:
    ladder = [Rung(0.4, {"greedy": 0.1, "mcts": 0.5}), Rung(0.5, {"greedy": 0.2, "mcts": 0.5})]
    assert reason_to_stop(rules, ladder[:1]) == ""
    assert reason_to_stop(rules, ladder).startswith(reason)
    assert bool(reason_to_stop(rules, ladder)) == bool(reason)


def test_the_figures_of_a_round_are_those_of_its_stages() -> None:
    methods = [{"name": "greedy", "accuracy": 0.25}]
    stages = (
        StageStatus(name="rollout", state="done", metrics={"coverage": 0.5}),
        StageStatus(name="evaluate", state="done", metrics={"methods": methods}),
    )
    assert rung(RoundStatus(phase="Succeeded", stages=stages)) == Rung(0.5, {"greedy": 0.25})
    assert rung(RoundStatus(phase="Succeeded")) == Rung(None, {})


def test_a_round_that_is_not_made_has_ended_and_one_that_waits_has_not() -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    assert has_ended(not_made("the coverage rose by 0", now))
    assert not has_ended(RoundStatus(phase="Waiting"))
    assert [has_ended(RoundStatus(phase=phase)) for phase in ("Running", "Failed", "Succeeded")] == [False, True, True]
