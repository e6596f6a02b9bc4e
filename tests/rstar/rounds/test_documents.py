"""YAML that an API server refuses, or reads as something else, is refused on a laptop with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rstar.rounds.documents import YamlError, documents_text, read_documents
from rstar.rounds.load import SpecError, parse_rounds

ROUND = """\
apiVersion: rstar.dev/v1alpha1
kind: EvolutionRound
metadata: {name: r1}
spec:
  round: 1
  baseModel: store:models/base
  problems: {uri: "store:data/train.jsonl"}
"""


def faults(text: str) -> list[tuple[int | None, str]]:
    with pytest.raises(YamlError) as caught:
        read_documents(text)
    return caught.value.faults


def refused(folder: Path, text: str) -> list[str]:
    file = folder / "rounds.yaml"
    file.write_text(text)
    with pytest.raises(SpecError) as caught:
        parse_rounds(file)
    return [fault.removeprefix(f"{file}:") for fault in caught.value.faults]


def test_values_are_those_of_the_api_servers_reader() -> None:
    text = "{a: 7e-6, b: 1.5, c: -3, d: 0, e: yes, f: null, g: ~, h: 2024-01-01, i: '014', j: 1:30, k: [1, x], l: 0.}"
    (document,) = read_documents(text)
    assert document.content == {
        "a": 7e-6, "b": 1.5, "c": -3, "d": 0, "e": True, "f": None, "g": None, "h": "2024-01-01", "i": "014",
        "j": "1:30", "k": [1, "x"], "l": 0.0,
    }  # fmt: skip


def test_documents_that_are_empty_are_left_out() -> None:
    assert [document.content for document in read_documents("---\n---\na: 1\n---\n# nothing\n")] == [{"a": 1}]
    assert read_documents("") == []


def test_a_key_given_twice_is_refused_with_both_lines() -> None:
    assert faults("a:\n  b: 1\n  c: 2\n  b: 3\n") == [
        (4, "a.b: the key is given twice, first in line 2: remove one of them")
    ]


@pytest.mark.parametrize("number", ["014", "0o14", "0x1F", "1_000", "-07", "0b11"])
def test_a_number_that_programs_read_differently_is_refused(number: str) -> None:
    (fault,) = faults(f"a:\n- {number}")
    assert fault[0] == 2
    assert f"a[0]: {number} is another number in other programs" in fault[1]


@pytest.mark.parametrize("number", [".inf", "-.INF", ".nan", "1e999"])
def test_a_number_that_is_not_finite_is_refused(number: str) -> None:
    assert faults(f"a: 1\nb: {number}")[0] == (
        2,
        f"b: {number} is not a finite number: give one, or leave the key out",
    )


def test_all_faults_of_a_file_are_found_at_once() -> None:
    assert [line for line, _ in faults("a: .inf\nb: 014\n---\nc: 1\nc: 2\n")] == [1, 2, 5]


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a: [", 1, "is not YAML"),
        ("a: 1\n b: 2", 2, "is not YAML"),
        ("1: a", 1, "the key 1 is not text"),
        ("on: a", 1, "the key on is not text"),
        ("[a, b]: c", 1, "the key a list or a mapping is not text"),
        ("a: !!python/name:os.system x", 1, "the tag tag:yaml.org,2002:python/name:os.system is not allowed"),
        ("a: *b", 1, "is not YAML"),
        ("[" * 10_000, None, "is nested too deeply"),
    ],
)
def test_what_is_no_plain_data_is_refused_with_its_line(text: str, line: int | None, what: str) -> None:
    (fault,) = faults(text)
    assert fault[0] == line
    assert what in fault[1]


def test_aliases_of_aliases_do_not_fill_the_memory() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    assert "more than 100,000 values" in faults("\n".join(lines))[0][1]


def test_keys_of_an_alias_are_merged_and_own_keys_come_first() -> None:
    (document,) = read_documents("base: &b {x: 1, y: 2}\nother: {<<: *b, x: 3}\nboth: {<<: [*b, {z: 4}]}")
    assert document.content["other"] == {"x": 3, "y": 2}
    assert document.content["both"] == {"x": 1, "y": 2, "z": 4}


def test_the_line_of_a_value_is_that_of_its_key_or_of_the_nearest_one_around_it() -> None:
    (document,) = read_documents("a:\n  b:\n  - c: 1\n    d: 2\n")
    assert document.line(("a", "b", 0, "d")) == 4
    assert document.line(("a", "b", 0, "missing")) == 3
    assert document.line(("nowhere",)) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('seed: "3"', "spec.seed: must be an integer, not '3'; remove the quotes"),
        ("seed: 3.0", "spec.seed: must be an integer, not 3.0"),
        ("seed: true", "spec.seed: must be an integer, not true"),
        ("seed: null", "spec.seed: must be an integer, not null"),
        ("seed: 1:30", "spec.seed: must be an integer, not '1:30'"),
        ("suspend: 1", "spec.suspend: must be true or false, not 1"),
        ('suspend: "true"', "spec.suspend: must be true or false, not 'true'; remove the quotes"),
        ("verifier: 3", "spec.verifier: must be text, not 3"),
        ("rollout: {search: {rollouts: 8.0}}", "spec.rollout.search.rollouts: must be an integer, not 8.0"),
        ("rollout: {search: {rollouts: true}}", "spec.rollout.search.rollouts: must be an integer, not true"),
        ("rollout: {search: {topP: '1'}}", "spec.rollout.search.topP: must be a number, not '1'; remove the quotes"),
        ("trainPolicy: {batch_size: 4}", "spec.trainPolicy.batch_size: unknown key; did you mean batchSize?"),
        ("train_policy: {}", "spec.train_policy: unknown key; did you mean trainPolicy?"),
        ("rollout: []", "spec.rollout: "),
        ("cluster: {nodeSelector: {a: 1}}", "spec.cluster.nodeSelector.a: must be text, not 1"),
        ("cluster: {resources: {ppm: {cpu: 1.5}}}", "spec.cluster.resources.ppm.cpu: must be text, not 1.5"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    (fault,) = refused(tmp_path, f"{ROUND}  {line}\n")
    assert fault.startswith(f"8: round r1: {message}")


def test_values_of_the_right_type_are_read(tmp_path: Path) -> None:
    file = tmp_path / "rounds.yaml"
    file.write_text(
        f"{ROUND}  trainPolicy: {{learningRate: 7e-6, epochs: 2}}\n"
        "  cluster: {resources: {ppm: {cpu: 2}}, tolerations: [{operator: Exists}]}\n"
        "  rollout: {search: {extraRollouts: [16, 32]}}\n"
    )
    (item,) = parse_rounds(file)
    assert item.spec.train_policy.learning_rate == 7e-6
    assert item.spec.train_policy.epochs == 2.0
    assert item.spec.cluster.resources.ppm.cpu == "2"
    assert item.spec.search.extra_rollouts == (16, 32)  # type: ignore[attr-defined]


def test_labels_are_text(tmp_path: Path) -> None:
    (fault,) = refused(tmp_path, ROUND.replace("{name: r1}", "{name: r1, labels: {team: 7}, uid: x}"))
    assert fault.startswith("3: round r1: metadata.labels.team: must be text, not 7")


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text(max_size=8), SCALARS | st.lists(SCALARS, max_size=3), min_size=1, max_size=4))
@example({"a": "123e45", "014": "0o14", "1:30": "1_000", "on": "yes", "<<": ".inf", "7": "2024-01-01"})
def test_written_documents_are_read_back_unchanged(content: dict[str, Any]) -> None:
    assert [document.content for document in read_documents(documents_text([content, content]))] == [content, content]


def test_a_missing_key_has_the_line_of_what_lacks_it(tmp_path: Path) -> None:
    (fault,) = refused(tmp_path, ROUND.replace("  round: 1\n", ""))
    assert fault.startswith("4: round r1: spec.round: missing")
