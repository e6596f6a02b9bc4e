"""Every format on real rows, and the stability of ids."""

import json
import random
from pathlib import Path

import pytest

from rstar.readers import FORMATS, read_problems

DATA = Path(__file__).parent / "data"


def jsonl(*rows: object) -> list[str]:
    return [json.dumps(row) for row in rows]


def test_gsm8k_rows_keep_the_number_after_the_hashes_without_separators() -> None:
    problems = read_problems(DATA / "gsm8k.jsonl", "gsm8k")
    assert [p.answer for p in problems] == ["18", "3", "70000", "540", "72", "10", "5", "42", "2125", "114200"]
    assert problems[0].question.startswith("Janet\u2019s ducks lay 16 eggs per day.")
    assert all("####" not in p.question and p.data == {} for p in problems)


def test_math500_rows_keep_their_latex_answers() -> None:
    problems = read_problems(DATA / "math500.jsonl", "math")
    assert len(problems) == 10
    assert problems[0].answer == r"\left( 3, \frac{\pi}{2} \right)"
    assert problems[4].answer == r"\text{Evelyn}"


def test_math_rows_take_the_boxes_of_the_solution_unless_they_have_an_answer() -> None:
    rows = jsonl(
        {
            "problem": "Halve 3.",
            "level": "Level 1",
            "type": "Algebra",
            "solution": r"So $\boxed{\frac{3}{2}}$.",
        },
        {"problem": "Add.", "solution": r"\boxed{5}", "answer": "6", "unique_id": "test/algebra/1.json"},
    )
    first, second = read_problems(rows, "math")
    assert first.answer == r"\frac{3}{2}"
    assert (second.answer, second.id) == ("6", "test/algebra/1.json")


def test_tree_of_thoughts_csv_and_json_lines_are_the_same_games() -> None:
    from_csv = read_problems(DATA / "24.csv", "countdown")
    assert len(from_csv) == 10
    assert from_csv[0].question == "Make 24 from 1, 1, 4, 6, using each number once and + - * /."
    assert from_csv[0].data == {"nums": [1, 1, 4, 6], "target": 24}
    from_lines = read_problems(jsonl(*(p.data for p in from_csv)), "countdown")
    assert from_lines == from_csv


def test_the_order_of_the_numbers_does_not_change_the_id_of_a_game() -> None:
    a, b = (read_problems(jsonl({"nums": nums, "target": 24}), "countdown")[0] for nums in ([4, 1, 6, 1], [1, 1, 4, 6]))
    assert a.id == b.id
    assert a.question != b.question


def test_own_rows_keep_data_and_synthetic_and_ignore_other_keys() -> None:
    rows = jsonl(
        {"id": 7, "problem": "Q", "answer": 24, "data": {"nums": [1]}, "synthetic": True, "source": "x"},
        {"question": "Unknown?", "answer": None},
        {"question": "R", "answer": 0.5},
    )
    first, second, third = read_problems(rows, "jsonl")
    assert (first.id, first.question, first.answer, first.data, first.synthetic) == (
        "7",
        "Q",
        "24",
        {"nums": [1]},
        True,
    )
    assert (second.answer, second.data, second.synthetic) == (None, {}, False)
    assert third.answer == "0.5"


def test_ids_survive_shuffling_and_cutting_a_file() -> None:
    lines = (DATA / "gsm8k.jsonl").read_text().splitlines()
    whole = {p.question: p.id for p in read_problems(lines, "gsm8k")}
    random.Random(1).shuffle(lines)
    some = {p.question: p.id for p in read_problems(lines[:5], "gsm8k")}
    assert some.items() <= whole.items()
    assert len(set(whole.values())) == 10


def test_a_content_id_is_the_same_in_every_run() -> None:
    assert read_problems(jsonl({"question": "1 + 1?", "answer": "2"}), "jsonl")[0].id == "57da720a8fe15470"


def test_limit_keeps_the_first_problems_and_reads_no_further() -> None:
    lines = [*jsonl({"question": "a", "answer": "1"}, {"question": "b", "answer": "2"}), "broken"]
    assert [p.question for p in read_problems(lines, "jsonl", limit=2)] == ["a", "b"]


def test_a_path_may_be_given_as_text_and_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"question": "a", "answer": "1"}\r\n\r\n')
    assert read_problems(str(file), "jsonl")[0].question == "a"


@pytest.mark.parametrize("name", ["gsm8", "json", "MATH"])
def test_an_unknown_format_is_an_error_with_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match="unknown format") as caught:
        read_problems([], name)
    assert all(known in str(caught.value) for known in FORMATS)
