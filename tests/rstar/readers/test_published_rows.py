"""A row of each public data set, in the shape in which it is published, is read by the default format as it is.

The texts are shortened; names, types and marks of the fields are those of the publication named beside each row.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from rstar.problem import Problem
from rstar.readers import read_problems
from rstar.readers.formats import jsonl

Row = dict[str, Any]

# Fields, marks and answer rules of the first group: evaluation/parser.py of github.com/QwenLM/Qwen2.5-Math
# (``parse_question`` and ``parse_ground_truth``), whose evaluation the paper's seven benchmarks come from.
PUBLISHED: dict[str, tuple[Row, str, str | None]] = {
    # openai/gsm8k on the hub
    "GSM8K": (
        {"question": "How many eggs?", "answer": "16 - 3 = <<16-3=13>>13\n#### 1,313"},
        "How many eggs?",
        "1313",
    ),
    # github.com/hendrycks/math: one JSON object per file
    "MATH": (
        {"problem": "Halve 3.", "level": "Level 1", "type": "Algebra", "solution": r"It is $\boxed{\frac{3}{2}}$."},
        "Halve 3.",
        r"\frac{3}{2}",
    ),
    # HuggingFaceH4/MATH-500 on the hub
    "MATH-500": (
        {
            "problem": "Add.",
            "solution": r"Then \boxed{6}.",
            "answer": "6",
            "subject": "Algebra",
            "level": 1,
            "unique_id": "test/algebra/1.json",
        },
        "Add.",
        "6",
    ),
    # HuggingFaceH4/aime_2024 on the hub
    "AIME24": (
        {
            "id": 60,
            "problem": "Find m+n.",
            "solution": r"\boxed{033}",
            "answer": "033",
            "url": "https://x",
            "year": 2024,
        },
        "Find m+n.",
        "033",
    ),
    # math-ai/aime24 on the hub: no answer
    "AIME24 without answers": (
        {"id": 0, "problem": "Find m+n.", "solution": "\\boxed{204}", "url": "https://x"},
        "Find m+n.",
        "204",
    ),
    # Maxwell-Jia/AIME_2024 on the hub: capitals
    "AIME24 in capitals": (
        {"ID": "2024-II-4", "Problem": "Find m+n.", "Solution": "Thus 33.", "Answer": 33},
        "Find m+n.",
        "33",
    ),
    # data/amc23/test.jsonl of Qwen2.5-Math; AI-MO/aimo-validation-amc on the hub
    "AMC23": ({"id": 0, "problem": "How long?", "answer": 27.0, "url": "https://x"}, "How long?", "27"),
    # github.com/microsoft/unilm/tree/master/mathscale/MWPBench
    "College Math": (
        {
            "data_source": "college_math.Beginning_and_Intermediate_Algebra",
            "question_number": "exercise.8.3.20",
            "question": "Simplify: $-3 \\sqrt{18}$",
            "answer": "$-3 \\sqrt{2}$",
            "license": "Creative Commons Attribution 3.0 Unported License (CC BY 3.0)",
            "data_topic": "college_math.algebra",
        },
        "Simplify: $-3 \\sqrt{18}$",
        "-3 \\sqrt{2}",
    ),
    # data/gaokao2023en/test.jsonl of Qwen2.5-Math
    "Gaokao En 2023": (
        {"question": "Find $x$.", "answer": "$-3$ and $2$"},
        "Find $x$.",
        "$-3$ and $2$",
    ),
    # github.com/OpenBMB/OlympiadBench; Hothan/OlympiadBench on the hub
    "OlympiadBench": (
        {
            "id": 1606,
            "question": "Find the smallest $M$.",
            "solution": ["First part.", "Second part."],
            "final_answer": ["$\\frac{1}{2}$"],
            "context": None,
            "image_1": None,
            "modality": "Text-only",
            "is_multiple_answer": False,
            "unit": None,
            "answer_type": "Numerical",
            "error": None,
            "subfield": "Combinatorics",
        },
        "Find the smallest $M$.",
        "\\frac{1}{2}",
    ),
    "OlympiadBench, several answers": (
        {
            "id": 1607,
            "question": "Find all.",
            "solution": ["Proof."],
            "final_answer": ["$2$", "$3$"],
            "context": "Let $n$ be even.",
            "is_multiple_answer": True,
        },
        "Let $n$ be even.\nFind all.",
        "2, 3",
    ),
    # The rows of rStar-Math's question files; its load_qaf reads a list, {"example": [...]} or JSON lines.
    "rStar-Math": ({"question": "What is 1 + 1?", "answer": "2", "level": 1}, "What is 1 + 1?", "2"),
    # AI-MO/NuminaMath-CoT on the hub
    "NuminaMath-CoT": (
        {
            "source": "synthetic_math",
            "problem": "Solve for $y$.",
            "solution": r"It is $\boxed{\frac{13}{6}}$.",
            "messages": [{"content": "Solve for $y$.", "role": "user"}, {"content": "It is ...", "role": "assistant"}],
        },
        "Solve for $y$.",
        r"\frac{13}{6}",
    ),
    # AI-MO/NuminaMath-1.5 on the hub
    "NuminaMath-1.5": (
        {
            "problem": "Solve.",
            "solution": "Thus 8.",
            "answer": "8",
            "problem_type": "Algebra",
            "question_type": "math-word-problem",
            "problem_is_valid": "Yes",
            "solution_is_valid": "Yes",
            "source": "olympiads",
            "synthetic": False,
        },
        "Solve.",
        "8",
    ),
    "NuminaMath-1.5, a proof": (
        {"problem": "Prove it.", "solution": "By induction.", "answer": "proof", "question_type": "proof"},
        "Prove it.",
        None,
    ),
    # meta-math/MetaMathQA on the hub
    "MetaMathQA, GSM8K": (
        {
            "type": "GSM_Rephrased",
            "query": "How many?",
            "original_question": "How many are there?",
            "response": "5 + 3 = <<5+3=8>>8.\n#### 8\nThe answer is: 8",
        },
        "How many?",
        "8",
    ),
    "MetaMathQA, MATH": (
        {
            "type": "MATH_AnsAug",
            "query": "Which fraction?",
            "original_question": "Which fraction?",
            "response": "First $\\boxed{2}$ ...\nThe answer is: $\\frac{1}{2}$",
        },
        "Which fraction?",
        "\\frac{1}{2}",
    ),
    # TIGER-Lab/MathInstruct on the hub
    "MathInstruct": (
        {"source": "data/CoT/gsm_rft.json", "instruction": "How many?", "output": "5 + 3 = 8.\nThe answer is 8."},
        "How many?",
        "8",
    ),
    # EleutherAI/asdiv on the hub
    "ASDiv": (
        {
            "body": "Seven red apples and two green apples are in the basket.",
            "question": "How many apples are in the basket?",
            "solution_type": "Addition",
            "answer": "9 (apples)",
            "formula": "7+2=9",
        },
        "Seven red apples and two green apples are in the basket. How many apples are in the basket?",
        "9",
    ),
    "ASDiv, two answers": (
        {"body": "A.", "question": "B?", "solution_type": "Sum", "answer": "5 (boys); 7 (girls)", "formula": "x+y=12"},
        "A. B?",
        "5, 7",
    ),
    # ChilleD/SVAMP on the hub
    "SVAMP": (
        {"ID": "chal-1", "Body": "There are 87 oranges", "Question": "How many?", "Equation": "(87)", "Answer": "87"},
        "There are 87 oranges How many?",
        "87",
    ),
    # nvidia/OpenMathInstruct-2 on the hub
    "OpenMathInstruct-2": (
        {"problem": "Add.", "generated_solution": r"\boxed{7}", "expected_answer": "7", "problem_source": "math"},
        "Add.",
        "7",
    ),
    # BytedTsinghua-SIA/DAPO-Math-17k on the hub
    "DAPO": (
        {
            "data_source": "math_dapo",
            "prompt": [{"content": "Find k.", "role": "user"}],
            "ability": "MATH",
            "reward_model": {"ground_truth": "34", "style": "rule"},
        },
        "Find k.",
        "34",
    ),
    # KbsdJames/Omni-MATH on the hub
    "Omni-MATH": (
        {
            "domain": ["Algebra"],
            "difficulty": 8.0,
            "problem": "Find.",
            "solution": "So 5.",
            "answer": "5",
            "source": "x",
        },
        "Find.",
        "5",
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_row_is_read_as_it_is(name: str) -> None:
    row, question, answer = PUBLISHED[name]
    (problem,) = read_problems([json.dumps(row)])
    assert (problem.question, problem.answer) == (question, answer)
    own = row.get("id", row.get("ID", row.get("unique_id")))
    assert own is None or problem.id == str(own)


@pytest.mark.parametrize("name", ["MATH", "MATH-500", "AIME24", "AIME24 without answers", "AMC23", "OlympiadBench"])
def test_the_format_of_math_reads_the_same_rows(name: str) -> None:
    row, question, answer = PUBLISHED[name]
    (problem,) = read_problems([json.dumps(row)], "math")
    assert (problem.question, problem.answer) == (question, answer)


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ({"answer": 27.0}, "27"),
        ({"answer": 27}, "27"),
        ({"answer": 0.5}, "0.5"),
        ({"answer": -3.0}, "-3"),
        ({"answer": 1e20}, "1e+20"),
        ({"answer": ["1", "2"]}, "1, 2"),
        ({"answer": [1.0, "x"]}, "1, x"),
        ({"final_answer": ["7"]}, "7"),
        ({"expected_answer": "7"}, "7"),
        ({"gt": "7", "gt_cot": "so"}, "7"),
        ({"answer": None, "solution": r"So $\boxed{7}$."}, "7"),
        ({"answer": "", "solution": r"So $\boxed{7}$."}, "7"),
        ({"answer": [], "solution": r"So $\boxed{7}$."}, "7"),
        ({"answer": None}, None),
        ({"answer": None, "solution": "So it is."}, None),
        ({"answer": "$\\boxed{5}$"}, "5"),
        ({"answer": "The answer is $\\boxed{5}$."}, "5"),
        ({"answer": "so\n#### $18.00"}, "18"),
        ({"answer": "so\n#### -1,234.50"}, "-1234.50"),
        ({"answer": "so\n#### 3/4"}, "3/4"),
        ({"answer": "$5$"}, "5"),
        ({"answer": "$$x^2$$"}, "x^2"),
        ({"answer": "$5"}, "$5"),
        ({"answer": "$5$ or $6$"}, "$5$ or $6$"),
        ({"answer": " spaced "}, " spaced "),
        ({"solution": r"So it is $\boxed 7$."}, "7"),
        ({"solution": r"So it is $\boxed {7}$."}, "7"),
        ({"solution": r"$x=\boxed{3}$ or $x=\boxed{5}$."}, "3, 5"),
        ({"response": "Thus.\n#### 8"}, "8"),
        ({"target": 4}, "4"),
    ],
)
def test_an_answer_is_read_from_where_data_sets_have_it(fields: Row, answer: str | None) -> None:
    (problem,) = read_problems([json.dumps({"question": "q?", **fields})])
    assert problem.answer == answer


@pytest.mark.parametrize(
    "name", ["question", "problem", "query", "prompt", "instruction", "input", "Question", "PROBLEM"]
)
def test_a_question_is_read_by_its_common_names(name: str) -> None:
    assert read_problems([json.dumps({name: "q?", "answer": "1"})])[0].question == "q?"


def test_numbers_of_tables_are_read_as_those_of_json() -> None:
    assert jsonl({"question": "q?", "answer": Decimal("27.00")}) == Problem(
        jsonl({"question": "q?", "answer": 27}).id, "q?", "27"
    )
