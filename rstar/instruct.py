"""From what an instruct model writes to a step of the grammar (``rstar.trajectory``).

A model that was not trained on the grammar opens with prose, puts its code into Markdown fences, or repeats a marker.
Everything before an answer is run as Python, so this text is left out before it becomes a step. What the model did not
write is never invented, with one exception: a program that begins in a fence or with a comment ``# Step`` gets the
marker ``<code>`` in front. A step that follows the grammar stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from rstar.trajectory import ANSWER, CODE, END_OF_CODE, MARKERS

_FENCE: Final = re.compile(r"[ \t]*(?:`{3,}|~{3,})[ \t]*(?P<language>[A-Za-z0-9_+.-]*)[ \t]*")
_MARKER: Final = re.compile("|".join(re.escape(marker) for marker in MARKERS))
_MARKER_AFTER_FENCE: Final = re.compile(rf"(?m)^([ \t]*(?:`{{3,}}|~{{3,}}))[ \t]*(?={_MARKER.pattern})")
_FIRST_COMMENT: Final = re.compile(r"(?m)^#+ *Step\b")


def as_step(text: str, steps: Sequence[str]) -> str:
    r"""Return the candidate ``text`` as the step after ``steps``, without prose and fences around its code or answer.

    >>> as_step("Sure!\n```python\n# Step 1: add\nx = 1 + 1\n```\n<end_of_step>", ())
    '<code>\n# Step 1: add\nx = 1 + 1\n<end_of_step>'
    """
    if any(END_OF_CODE in step for step in steps):
        return _from(text, text.find(ANSWER))
    text = _MARKER_AFTER_FENCE.sub(r"\1\n", text)
    start = text.find(CODE)
    if not steps:
        text = _from(text, start) if start >= 0 else _with_code(text)
    elif start >= 0 and not _MARKER.search(text[:start]):
        text = text[start + len(CODE) :]
    return _without_fences(text)


def _from(text: str, start: int) -> str:
    """Return ``text`` from ``start`` on, if only prose is before it: no marker, and more than blanks."""
    before = text[: max(start, 0)]
    return text[start:] if before.strip() and not _MARKER.search(before) else text


def _with_code(text: str) -> str:
    """Return a first step whose program begins in a fence or with a comment, with the marker in front of it."""
    begins = [found.start() for found in _FIRST_COMMENT.finditer(text)][:1]
    position = 0
    for line in text.splitlines(keepends=True):
        position += len(line)
        if _FENCE.fullmatch(line.rstrip("\n")):
            begins.append(position)
            break
    if not begins or _MARKER.search(text[: min(begins)]):
        return text
    return f"{CODE}\n{text[min(begins) :]}"


def _without_fences(text: str) -> str:
    """Return ``text`` without the lines of fences, and without the prose outside them; comments and markers stay."""
    kept: list[str] = []
    since = 0  # where the step begins in ``kept``: after the last marker
    inside = True
    for line in text.splitlines(keepends=True):
        fence = _FENCE.fullmatch(line.rstrip("\n"))
        if fence is None:
            markers = "".join(_MARKER.findall(line))
            if inside or line.startswith("#"):
                kept.append(line)
            elif markers:
                kept.append(markers + line[len(line.rstrip("\n")) :])
            if markers:
                inside, since = True, len(kept)
            continue
        has_code = any(part.strip() and not part.startswith("#") for part in kept[since:])
        opens = bool(fence["language"]) or not inside or not has_code
        if opens and inside:
            kept[since:] = [part for part in kept[since:] if not part.strip() or part.startswith("#")]
        inside = opens
    return "".join(kept)
