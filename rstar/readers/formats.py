"""One function per format, from a decoded row to a problem.

``jsonl`` reads the rows of most data sets by their common field names; the others exist for rows that it could
misunderstand, or whose form must be checked. The error of a bad row is what is wrong and how to mend it; ``collect``
adds the place of the row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from rstar import countdown
from rstar.problem import Problem
from rstar.readers.answers import (
    MARK,
    answer_of_solution,
    answer_of_value,
    joined,
    marked,
    without_units,
)
from rstar.readers.row import Fields, Row, RowError, kind

QUESTION: Final = ("question", "problem", "query", "prompt", "instruction", "input")
ANSWER: Final = (
    "answer",
    "final_answer",
    "expected_answer",
    "reference_answer",
    "correct_answer",
    "ground_truth",
    "gt",
    "gold",
    "target",
)
SOLUTION: Final = ("solution", "response", "output", "completion", "generated_solution", "gt_cot", "rationale")
"""Field names by preference: the first with a value counts."""

NUMBERS_COLUMN: Final = "puzzles"
"""The Game of 24 list of Tree of Thoughts has the four numbers in this column, and the target 24."""
COLUMNS: Final = frozenset({*QUESTION, *ANSWER, *SOLUTION, NUMBERS_COLUMN, "nums"})
"""The names by which a header line is recognised as one."""

MOST_NUMBERS: Final = 16
_UNKNOWN: Final = ("proof", "notfound")
"""NuminaMath-1.5's answers of problems that have none."""


def jsonl(row: Row) -> Problem:
    """Read a row by the common field names; the answer may be null, or in the solution."""
    fields = Fields(row)
    data = fields.get("data")
    if data is not None and not isinstance(data, Mapping):
        raise RowError(f"'data' is {kind(data)}: make it an object")
    synthetic = fields.get("synthetic") or False
    if not isinstance(synthetic, bool):
        raise RowError(f"'synthetic' is {kind(synthetic)}: make it true or false")
    return _problem(fields, _question(fields), _answer(fields), data or {}, synthetic)


def gsm8k(row: Row) -> Problem:
    """Read a row of GSM8K: the answer is the number after ``####``, without currency and thousands separators."""
    fields = Fields(row)
    answer = marked(_text(fields, "answer"))
    if answer is None:
        raise RowError(f"'answer' does not end in '{MARK} NUMBER': add it, or read the file as jsonl")
    return _problem(fields, _question(fields), answer)


def math(row: Row) -> Problem:
    r"""Read a row of MATH (the answer is in the boxes of the solution) or of MATH-500 (it is ``answer``)."""
    fields = Fields(row)
    question = _question(fields)
    if fields.any(*ANSWER, *SOLUTION) is None:
        raise fields.missing("solution", "answer", hint="add one of them, or choose the format that these rows have")
    answer = _answer(fields)
    if answer is None:
        raise RowError("there is no answer, and no \\boxed{} with balanced braces in 'solution': add an 'answer'")
    return _problem(fields, question, answer)


def numbers(row: Row) -> Problem:
    """Read a game: ``nums`` and ``target`` are integers, 0 or greater. The order of the numbers is kept."""
    fields = Fields(row)
    if NUMBERS_COLUMN in fields:
        nums, target = _numbers_of_text(fields.get(NUMBERS_COLUMN)), 24
    else:
        for name in ("nums", "target"):
            if name not in fields:
                raise fields.missing(name, hint="add it, or choose the format that these rows have")
        nums, target = fields.get("nums"), fields.get("target")
    if not isinstance(nums, list) or not 0 < len(nums) <= MOST_NUMBERS or not all(map(_natural, nums)):
        raise RowError(f"'nums' is no list of 1 to {MOST_NUMBERS} integers from 0: write it like [8, 2, 6, 4]")
    if not _natural(target):
        raise RowError("'target' is no integer from 0: write it like 24")
    content = {"nums": sorted(nums), "target": target}
    question = countdown.question(nums, target)
    return Problem(fields.id or content_id(content), question, str(target), {"nums": nums, "target": target})


FORMATS: Final[Mapping[str, Callable[[Row], Problem]]] = {
    "jsonl": jsonl,
    "gsm8k": gsm8k,
    "math": math,
    "countdown": numbers,
}


def content_id(content: Any) -> str:
    """Return 16 hex digits of the SHA-256 of ``content`` as canonical JSON: the same on every machine and in every run."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def explicit_id(row: Row) -> bool:
    """Return whether the row has an id of its own."""
    return Fields(row).id is not None


def _problem(
    fields: Fields, question: str, answer: str | None, data: Mapping[str, Any] | None = None, synthetic: bool = False
) -> Problem:
    data = dict(data or {})
    content = {"question": question, "answer": answer, "data": data}
    return Problem(fields.id or content_id(content), question, answer, data, synthetic)


def _question(fields: Fields) -> str:
    found = fields.find(*QUESTION)
    if found is None:
        if (name := fields.any(*QUESTION)) is not None:
            _text(fields, name)
        raise fields.missing("question", "problem", hint="add it, or choose the format that these rows have")
    question = _user_message(found[1]) or _text(fields, found[0])
    if (body := fields.find("body")) and isinstance(body[1], str):  # ASDiv and SVAMP
        return f"{body[1].strip()} {question.strip()}"
    if "final_answer" in fields and (context := fields.find("context")):  # OlympiadBench
        return f"{context[1]}\n{question}"
    return question


def _user_message(value: Any) -> str | None:
    """Return the last message of the user, where the field is a conversation."""
    if not isinstance(value, list):
        return None
    texts = [m.get("content") for m in value if isinstance(m, Mapping) and m.get("role") == "user"]
    return texts[-1] if texts and isinstance(texts[-1], str) and texts[-1].strip() else None


def _answer(fields: Fields) -> str | None:
    """Return the answer, or None where the row says that it is unknown. Raises ``RowError`` when nothing says so."""
    if (found := fields.find(*ANSWER)) and found[1] not in _UNKNOWN:
        name, value = found
        if isinstance(value, str) and "body" in fields and "formula" in fields:
            value = without_units(value)
        if (answer := answer_of_value(name, value)) is not None:
            return answer
    model = fields.get("reward_model")
    if isinstance(model, Mapping) and model.get("ground_truth") is not None:
        return answer_of_value("reward_model.ground_truth", model["ground_truth"])
    given = fields.any(*ANSWER)
    if solution := fields.find(*SOLUTION):
        text = joined(solution[1])
        answer = answer_of_solution(text) if isinstance(text, str) else None
        if answer is not None or given is not None:
            return answer
        raise RowError(f"'{solution[0]}' has no \\boxed{{}} with balanced braces: box its result, or add an 'answer'")
    if given is None:
        raise fields.missing("answer", hint='add it, or "answer": null where it is unknown')
    return None


def _text(fields: Fields, name: str) -> str:
    if name not in fields:
        raise fields.missing(name, hint="add it, or choose the format that these rows have")
    value = fields.get(name)
    if not isinstance(value, str):
        raise RowError(f"'{name}' is {kind(value)}: make it a string")
    if not value.strip():
        raise RowError(f"'{name}' is empty: fill it in or remove the row")
    return value


def _numbers_of_text(value: Any) -> list[int]:
    try:
        return [int(word) for word in str(value).split()]
    except ValueError:
        raise RowError("no whole numbers in the column Puzzles: write them like 1 1 4 6") from None


def _natural(value: Any) -> bool:
    return type(value) is int and value >= 0
