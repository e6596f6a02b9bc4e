"""The object of an evolution that is submitted: files of this machine become inputs, and only differences are sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rstar.cluster.api import EVOLUTIONS
from rstar.cluster.evolutions import evolution_inputs, evolution_submission, rounds_without
from rstar.rounds.evolution_spec import Evolution, rounds_of


def evolution(**spec: Any) -> Evolution:
    template = {"baseModel": "hf:a/b", "problems": {"uri": "store:p"}}
    head = {"apiVersion": "rstar.dev/v1alpha1", "kind": "Evolution", "metadata": {"name": "sums"}}
    return Evolution.model_validate({**head, "spec": {"rounds": 2, "template": template, **spec}})


def test_files_of_this_machine_become_inputs_wherever_they_are_named(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    for name in ("one", "two", "hard"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"question": name, "answer": "1"}))
    files = [{"uri": str(tmp_path / f"{name}.jsonl")} for name in ("one", "two")]
    hard = {"problems": {"uri": str(tmp_path / "hard.jsonl")}, "rollout": {"search": None}}
    template = {"baseModel": str(tmp_path / "base"), "problems": files, "rollout": {"search": {"rollouts": 3}}}
    given = evolution(template=template, perRound=[{"round": 2, "spec": hard}])
    moved, inputs = evolution_inputs(given, {})
    keys = {item.path.name: f"store:{item.key}" for item in inputs}
    assert set(keys) == {"base", "one.jsonl", "two.jsonl", "hard.jsonl"}
    template = moved.spec.template
    assert [changes.round for changes in moved.spec.per_round] == [2]
    assert template["baseModel"] == keys["base"]
    assert [one["uri"] for one in template["problems"]["sets"]] == [keys["one.jsonl"], keys["two.jsonl"]]
    assert [one["name"] for one in template["problems"]["sets"]] == ["one", "two"]  # the ids stay
    first, second = rounds_of(moved)
    assert (first.spec.search.rollouts, second.spec.search.rollouts) == (3, 16)  # the paper's
    assert [source.uri for source in second.spec.problems.sources()] == [keys["hard.jsonl"]]


def test_a_template_that_is_no_spec_by_itself_is_one_sentence() -> None:
    methods = [{"name": "best", "method": "best_of_n", "guidance": "ppm"}]
    template = {"baseModel": "hf:a/b", "problems": {"uri": "store:p"}, "preferenceModel": {"use": "never"}}
    changes = [{"round": number, "spec": {"preferenceModel": None}} for number in (1, 2)]
    given = evolution(template={**template, "evaluate": {"methods": methods}}, perRound=changes)
    with pytest.raises(ValueError, match="evolution sums: the template by itself is no spec of a round: spec"):
        evolution_inputs(given, {})


def test_an_evolution_is_created_and_afterwards_changed_where_its_meaning_differs() -> None:
    created = evolution_submission(evolution(), None, "lab")
    assert (created.verb, created.kind, created.body["metadata"]) == (
        "created",
        EVOLUTIONS,
        {"name": "sums", "namespace": "lab"},
    )
    existing = {"metadata": {"name": "sums"}, "spec": {**created.body["spec"], "suspend": True}}
    assert evolution_submission(evolution(), existing, "lab").verb == "unchanged"  # a suspension by hand stays
    changed = evolution_submission(evolution(rounds=4), existing, "lab")
    assert (changed.verb, changed.body) == ("configured", {"spec": {"rounds": 4}})
    assert evolution_submission(evolution(suspend=False), existing, "lab").body == {"spec": {"suspend": False}}


def test_the_rounds_of_an_evolution_are_left_to_it() -> None:
    given = evolution()
    assert rounds_without([given], rounds_of(given)) == []
    assert [item.name for item in rounds_without([], rounds_of(given))] == ["sums-r1", "sums-r2"]
