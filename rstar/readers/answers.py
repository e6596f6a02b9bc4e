r"""The reference answer of a row: numbers, lists, boxes, ``#### 18`` and "The answer is: 18" as one text, or None.

Only what stands around an answer is removed; the answer itself is for the verifier to understand.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from rstar.readers.row import RowError, kind
from rstar.trajectory import boxed

MARK: Final = "####"
"""GSM8K's mark before the final number."""

_SENTENCE: Final = "the answer is"
_WHOLE: Final = re.compile(r"([-+]?\d+)\.0*")
_MATH: Final = re.compile(r"\s*(\$\$?)([^$]+)\1\s*")
_UNIT: Final = re.compile(r"\([^()]*\)")


def answer_of_value(name: str, value: Any) -> str | None:
    """Return the answer in the field ``name``; None when it is empty. Raises ``RowError`` for what is no answer."""
    if value is None:
        return None
    if isinstance(value, list | tuple):
        items = [answer_of_value(name, item) for item in value]
        return ", ".join(item for item in items if item is not None) or None
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise RowError(f"'{name}' is {kind(value)}: make it a string, a number, a list of them or null")
    return answer_of_text(value) if isinstance(value, str) else number_text(value)


def answer_of_text(text: str) -> str | None:
    """Return the answer in a short text: after ``####``, in a box, between dollar signs, or the text as it is."""
    if MARK in text and (found := marked(text)):
        return found
    if "boxed" in text or "fbox" in text:
        found = boxed(text)
        if found is not None and found.strip():
            return found
    if whole := _MATH.fullmatch(text):
        return whole[2].strip() or None
    return text if text.strip() else None


def answer_of_solution(text: str) -> str | None:
    """Return the answer that a worked solution ends with; None when it marks none."""
    last_line = text.rstrip().rpartition("\n")[2]
    start = last_line.lower().rfind(_SENTENCE)
    if start >= 0 and (sentence := last_line[start + len(_SENTENCE) :].lstrip(" :").removesuffix(".")):
        return answer_of_text(sentence)
    return marked(text) or boxed(text) or None


def marked(text: str) -> str | None:
    """Return the number after the last ``####``, without currency and thousands separators; None without one."""
    _, mark, number = text.rpartition(MARK)
    number = number.strip().removeprefix("$").replace(",", "").strip()
    if whole := _WHOLE.fullmatch(number):
        number = whole[1]
    return number if mark and number else None


def without_units(text: str) -> str:
    """Return the answers of ASDiv's ``5 (boys); 7 (girls)``: ``5, 7``."""
    parts = (_UNIT.sub("", part).strip() for part in text.split(";"))
    return ", ".join(part for part in parts if part)


def number_text(value: float | Decimal) -> str:
    """Return the shortest text of a number: 27.0 is "27". Raises ``RowError`` for one that is not finite."""
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        raise RowError(f"the answer is {value}: give a finite number")
    return str(int(value)) if value == int(value) and -(2**53) < value < 2**53 else str(value)


def joined(value: Any) -> Any:
    """Return a solution as one text; OlympiadBench has a list of them."""
    if isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(part, str) for part in value):
        return "\n".join(value)
    return value
