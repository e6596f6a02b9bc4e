"""A file of rounds that cannot be run is refused, with one sentence for each fault."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from rstar.rounds.load import SpecError, load_rounds
from rstar.store.folder_store import FolderStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    (tmp_path / "train.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n')
    return tmp_path


def document(folder: Path, number: int = 1, **spec: Any) -> dict[str, Any]:
    content = {
        "round": number,
        "baseModel": str(folder / "base"),
        "problems": {"uri": str(folder / "train.jsonl")},
        **spec,
    }
    if number > 1:
        content.setdefault("previousRound", f"r{number - 1}")
    return {
        "apiVersion": "rstar.dev/v1alpha1",
        "kind": "EvolutionRound",
        "metadata": {"name": f"r{number}"},
        "spec": content,
    }


def faults(folder: Path, *documents: Any, **options: Any) -> list[str]:
    file = folder / "rounds.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    with pytest.raises(SpecError) as caught:
        load_rounds(file, **options)
    return [re.sub(r"^:?\d*: ", "", fault.removeprefix(str(file))) for fault in caught.value.faults]


def test_rounds_are_returned_in_the_order_of_their_numbers(folder: Path) -> None:
    file = folder / "rounds.yaml"
    file.write_text(yaml.safe_dump_all([document(folder, 2), document(folder, 1)]))
    assert [item.name for item in load_rounds(file)] == ["r1", "r2"]


def test_an_unknown_key_is_reported_with_the_nearest_known_key(folder: Path) -> None:
    assert faults(folder, document(folder, rolout={})) == ["round r1: spec.rolout: unknown key; did you mean rollout?"]


def test_an_unknown_key_in_a_list_is_reported_with_its_index(folder: Path) -> None:
    evaluate = {"problems": {"uri": "x"}, "methods": [{"name": "greedy", "rollout": 3}]}
    found = faults(folder, document(folder, evaluate=evaluate))
    assert found == ["round r1: spec.evaluate.methods[0].rollout: unknown key; did you mean rollouts?"]


def test_all_faults_of_all_rounds_are_reported_at_once(folder: Path) -> None:
    first = document(folder, rollout={"shardSize": 0, "concurrency": "many"}, verifier="math_verify")
    second = document(folder, 2, trainPpm={"precision": "int8"})
    found = faults(folder, first, second)
    assert any("spec.rollout.shardSize: must be at least 1, not 0" in fault for fault in found)
    assert any("spec.rollout.concurrency" in fault and "'many'" in fault for fault in found)
    assert any("round r2: spec.trainPpm.precision: must be float32 or bfloat16, not 'int8'" in fault for fault in found)


def test_a_missing_key_is_reported_with_its_description(folder: Path) -> None:
    broken = document(folder)
    del broken["spec"]["baseModel"]
    (found,) = faults(folder, broken)
    assert found.startswith("round r1: spec.baseModel: missing; The model every round's SFT restarts from")


def test_an_unknown_verifier_is_reported_with_the_nearest_known_one(folder: Path) -> None:
    (found,) = faults(folder, document(folder, verifier="math_verify"))
    assert found == "round r1: spec.verifier: unknown verifier 'math_verify'; did you mean math-verify?"


def test_a_previous_round_must_be_in_the_file_or_the_store(folder: Path) -> None:
    (found,) = faults(folder, document(folder, 2))
    assert "there is no round 'r1' in this file or the store" in found
    file = folder / "rounds.yaml"
    assert load_rounds(file, number_of=lambda name: 1 if name == "r1" else None)


def test_a_previous_round_must_have_the_number_before(folder: Path) -> None:
    (found,) = faults(folder, document(folder, 1), document(folder, 3, previousRound="r1"))
    assert found == "round r3: spec.previousRound: r1 is round 1, but round 3 follows round 2"


def test_a_later_round_needs_a_previous_one_and_the_first_has_none(folder: Path) -> None:
    later = document(folder, 2)
    del later["spec"]["previousRound"]
    found = faults(folder, document(folder, 1, previousRound="r0"), later)
    assert "round r1: spec: round 1 starts from the base model: remove previousRound or raise round" in found
    assert "round r2: spec: round 2 needs previousRound: the name of round 1" in found


def test_two_rounds_of_one_name_are_refused(folder: Path) -> None:
    (found,) = faults(folder, document(folder), document(folder))
    assert found == "round r1: metadata.name: 2 rounds have this name"


def test_always_needs_a_ppm_that_round_1_cannot_have(folder: Path) -> None:
    (found,) = faults(folder, document(folder, preferenceModel={"use": "always"}))
    assert "round 1 has none; use auto or never" in found


def test_always_after_a_round_that_trains_no_ppm_is_refused(folder: Path) -> None:
    never = document(folder, preferenceModel={"use": "never"})
    (found,) = faults(folder, never, document(folder, 2, preferenceModel={"use": "always"}))
    assert found == (
        "round r2: spec.preferenceModel.use: always needs the PPM of round r1, which trains none; use auto "
        "there, without preferenceModel.model"
    )


def test_methods_that_need_a_ppm_are_refused_in_a_round_that_trains_none(folder: Path) -> None:
    methods = [{"name": "greedy", "method": "greedy"}, {"name": "best", "method": "best_of_n", "guidance": "ppm"}]
    evaluate = {"problems": {"uri": str(folder / "train.jsonl")}, "methods": methods}
    (found,) = faults(folder, document(folder, preferenceModel={"use": "never"}, evaluate=evaluate))
    assert found == (
        "round r1: spec: evaluate.methods: best is guided by a PPM, but preferenceModel.use is never, so the round trains "
        "none; use auto or remove the method"
    )


def test_bad_lines_of_a_problem_file_are_reported_by_number(folder: Path) -> None:
    (folder / "train.jsonl").write_text('{"question": "1+1?", "answer": "2"}\nnonsense\n{"answer": "3"}\n')
    found = faults(folder, document(folder))
    assert len(found) == 2
    assert "train.jsonl:2: not JSON" in found[0]
    assert "train.jsonl:3: no 'question'" in found[1]


def test_missing_problems_and_models_are_reported(folder: Path) -> None:
    broken = document(folder, baseModel=str(folder / "nowhere"), problems={"uri": str(folder / "none.jsonl")})
    model, problems = faults(folder, broken)
    assert "spec.baseModel" in model
    assert "has no config.json" in model
    assert "none.jsonl: no such file" in problems


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        ({"model": "nowhere"}, "spec.rollout.policy.model: nowhere is not a model folder"),
        ({}, "give either model or endpoint"),
        ({"endpoint": "http://h/v1"}, "an endpoint needs name"),
        ({"model": "hf:a/b", "name": "b"}, "belong to an endpoint"),
        ({"endpoint": "http://u:key@h/v1", "name": "b"}, "spec.rollout.policy.endpoint"),
        ({"endpoint": "h:8000", "name": "b"}, "spec.rollout.policy.endpoint"),
    ],
    ids=str,
)
def test_a_policy_of_the_rollout_that_cannot_be_used_is_reported(
    folder: Path, policy: dict[str, Any], sentence: str
) -> None:
    [fault] = faults(folder, document(folder, rollout={"policy": policy}))
    assert sentence in fault


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"preferenceModel": {"model": {"uri": "nowhere"}}},
            "preferenceModel.model.uri: nowhere is not a model folder",
        ),
        ({"preferenceModel": {"model": {"uri": "hf:a/b/c"}}}, "preferenceModel.model.uri"),
        ({"preferenceModel": {"use": "never", "model": {"uri": "hf:a/b"}}}, "exclude each other"),
        ({"preferenceModel": {"model": {"uri": "hf:a/b", "convention": "prm"}}}, "preferenceModel.model.convention"),
        (
            {
                "preferenceModel": {"model": {"uri": "hf:a/b", "convention": "qwen-prm"}},
                "services": {"ppm": {"engine": "vllm"}},
            },
            "qwen-prm needs services.ppm.engine: transformers",
        ),
    ],
    ids=str,
)
def test_a_given_reward_model_that_cannot_be_used_is_reported(
    folder: Path, changes: dict[str, Any], sentence: str
) -> None:
    [fault] = faults(folder, document(folder, **changes))
    assert sentence in fault


@pytest.mark.parametrize(
    ("rollout", "number", "sentence"),
    [
        ({"promptFile": "none.txt"}, 1, "spec.rollout.promptFile: none.txt: no such file"),
        ({"promptFile": "FOLDER/train.jsonl"}, 1, "the prompt has 0 times {question}"),
        ({"promptFile": "hf:a/b"}, 1, "promptFile is a file"),
        ({"promptFile": "p.txt", "prompt": "trained"}, 1, "set rollout.prompt to bootstrap or chat"),
        ({"promptFile": "p.txt"}, 2, "set rollout.prompt to bootstrap or chat"),
        ({"prompt": "chat", "policy": {"endpoint": "http://h/v1", "name": "b"}}, 1, "needs policy.tokenizer"),
        ({"policy": {"endpoint": "http://h", "name": "b", "tokenizer": "x"}}, 1, "x holds no tokenizer"),
    ],
    ids=str,
)
def test_a_prompt_of_the_rollout_that_cannot_be_used_is_reported(
    folder: Path, rollout: dict[str, Any], number: int, sentence: str
) -> None:
    file = str(rollout.get("promptFile", "")).replace("FOLDER", str(folder))
    changes = {**rollout, **({"promptFile": file} if file else {})}
    given = document(folder, number, rollout=changes)
    [fault] = faults(folder, given, number_of=lambda _: number - 1)
    assert sentence in fault


def test_problems_and_models_of_the_store_are_looked_up_there(folder: Path) -> None:
    store = FolderStore(folder / "store")
    item = document(folder, baseModel="store:base", problems={"uri": "store:data/train.jsonl"})
    model, problems = faults(folder, item, store=store)
    assert "the store holds no base/config.json" in model
    assert "store:data/train.jsonl: not in the store" in problems
    store.write("base/config.json", b"{}")
    store.write("data/train.jsonl", b'{"question": "1+1?", "answer": "2"}\n')
    assert load_rounds(folder / "rounds.yaml", store)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a: [", "is not YAML"), ("", "holds no EvolutionRound"), ("- 1", "document 1"), ("kind: Pod", "document 1")],
)
def test_a_file_without_a_round_is_refused(folder: Path, text: str, expected: str) -> None:
    file = folder / "rounds.yaml"
    file.write_text(text)
    with pytest.raises(SpecError, match=expected):
        load_rounds(file)


def test_a_missing_file_is_reported_by_name(folder: Path) -> None:
    with pytest.raises(SpecError, match=r"none\.yaml: cannot be read: No such file"):
        load_rounds(folder / "none.yaml")
