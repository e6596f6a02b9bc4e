"""One function per format, from a decoded row to a problem.

The error of a bad row is what is wrong and how to mend it; ``collect`` adds the place of the row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from rstar import countdown
from rstar.problem import Problem
from rstar.trajectory import boxed

Row = Mapping[str, Any]

ID_KEYS: Final = ("id", "unique_id")
MOST_NUMBERS: Final = 16


class RowError(Exception):
    """A row is not a problem; the message is what is wrong and how to mend it."""


def jsonl(row: Row) -> Problem:
    """Read this project's own rows."""
    answer = _get(row, "answer", hint='add it, or "answer": null where it is unknown')
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        answer = json.dumps(answer)
    if answer is not None and not isinstance(answer, str):
        raise RowError(f"'answer' is {_kind(answer)}: make it a string, a number or null")
    data = row.get("data")
    if data is not None and not isinstance(data, Mapping):
        raise RowError(f"'data' is {_kind(data)}: make it an object")
    synthetic = row.get("synthetic", False)
    if not isinstance(synthetic, bool):
        raise RowError(f"'synthetic' is {_kind(synthetic)}: make it true or false")
    return _problem(row, _text(row, "question", "problem"), answer, data or {}, synthetic)


def gsm8k(row: Row) -> Problem:
    """Read a row of GSM8K: the answer is the number after ``####``, without thousands separators."""
    _, mark, answer = _text(row, "answer").rpartition("####")
    if not mark or not answer.strip():
        raise RowError("'answer' does not end in '#### NUMBER': add it, or read the file as jsonl")
    return _problem(row, _text(row, "question"), answer.strip().replace(",", ""))


def math(row: Row) -> Problem:
    r"""Read a row of MATH (the answer is the solution's last ``\boxed{}``) or of MATH-500 (it is ``answer``)."""
    question = _text(row, "problem", "question")
    if "answer" in row:
        return _problem(row, question, _text(row, "answer"))
    answer = boxed(_text(row, "solution", hint="add it, or an 'answer'"))
    if answer is None:
        raise RowError("'solution' has no \\boxed{} with balanced braces: box its result, or add an 'answer'")
    return _problem(row, question, answer)


def numbers(row: Row) -> Problem:
    """Read a game: ``nums`` and ``target`` are integers, 0 or greater. The order of the numbers is kept."""
    nums, target = _get(row, "nums"), _get(row, "target")
    if not isinstance(nums, list) or not 0 < len(nums) <= MOST_NUMBERS or not all(map(_natural, nums)):
        raise RowError(f"'nums' is no list of 1 to {MOST_NUMBERS} integers from 0: write it like [8, 2, 6, 4]")
    if not _natural(target):
        raise RowError("'target' is no integer from 0: write it like 24")
    content = {"nums": sorted(nums), "target": target}
    question = countdown.question(nums, target)
    return Problem(_id(row) or content_id(content), question, str(target), {"nums": nums, "target": target})


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
    return any(row.get(key) is not None for key in ID_KEYS)


def _problem(
    row: Row, question: str, answer: str | None, data: Mapping[str, Any] | None = None, synthetic: bool = False
) -> Problem:
    data = dict(data or {})
    content = {"question": question, "answer": answer, "data": data}
    return Problem(_id(row) or content_id(content), question, answer, data, synthetic)


def _id(row: Row) -> str | None:
    for key in ID_KEYS:
        value = row.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
            raise RowError(f"'{key}' is {value!r}: make it a non-empty string or an integer, or leave it out")
        return str(value)
    return None


def _get(row: Row, *keys: str, hint: str = "add it, or choose the format that these rows have") -> Any:
    for key in keys:
        if key in row:
            return row[key]
    has = ", ".join(map(repr, row)) or "nothing"
    raise RowError(f"no {' or '.join(map(repr, keys))} (the row has {has}): {hint}")


def _text(row: Row, *keys: str, hint: str = "add it, or choose the format that these rows have") -> str:
    value = _get(row, *keys, hint=hint)
    name = next(key for key in keys if key in row)
    if not isinstance(value, str):
        raise RowError(f"'{name}' is {_kind(value)}: make it a string")
    if not value.strip():
        raise RowError(f"'{name}' is empty: fill it in or remove the row")
    return value


def _natural(value: Any) -> bool:
    return type(value) is int and value >= 0


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), f"{value!r}")
