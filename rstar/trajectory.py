r"""The grammar of a trajectory: text <-> steps, program, output, answer (method: trajectories, section 3.1).

    <code>
    # Step 1: ...
    python ...
    <end_of_step>
    ...
    print(x)
    <end_of_code>
    <output>STDOUT<end_of_output>            inserted by the system after running the program
    <answer>... \boxed{X}<end_of_answer>

A trajectory is the plain concatenation of its step texts: nothing is stripped or joined with a separator, so that
the policy is trained on exactly the text that it wrote.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Final

CODE: Final = "<code>"
END_OF_STEP: Final = "<end_of_step>"
END_OF_CODE: Final = "<end_of_code>"
OUTPUT: Final = "<output>"
END_OF_OUTPUT: Final = "<end_of_output>"
ANSWER: Final = "<answer>"
END_OF_ANSWER: Final = "<end_of_answer>"
USER: Final = "<|user|>"
ASSISTANT: Final = "<|assistant|>"

MARKERS: Final = (CODE, END_OF_STEP, END_OF_CODE, OUTPUT, END_OF_OUTPUT, ANSWER, END_OF_ANSWER, USER, ASSISTANT)
"""The special tokens that SFT adds to the tokenizer."""

STEP_STOPS: Final = (END_OF_STEP, END_OF_CODE, END_OF_ANSWER)
"""The markers that end one step of a trained policy."""

PROGRAM_STOPS: Final = (END_OF_CODE, END_OF_ANSWER)
"""The markers that end a whole program, for sampling that does not stop at every step."""

MAX_OUTPUT_CHARACTERS: Final = 1024

_MARKER = re.compile("|".join(re.escape(m) for m in MARKERS))
_ERROR: Final = f"{END_OF_STEP}\n{OUTPUT}"
_INSERTED = re.compile(f"\n?{OUTPUT}.*?{END_OF_OUTPUT}\n?", re.DOTALL)
_NOT_CODE = re.compile(f"{OUTPUT}.*?{END_OF_OUTPUT}|{ANSWER}.*", re.DOTALL)
# An escaped brace is no group; a double backslash is a line break and escapes nothing. Without braces, a box holds a
# macro with its arguments, a number or one letter: "write it in \boxed form" boxes nothing.
_BRACE = re.compile(
    r"(?P<box>\\(?:boxed|fbox)\s*\{)"
    r"|\\(?:boxed|fbox)(?![A-Za-z])\s*"
    r"(?P<bare>-?\\(?!boxed|fbox)[A-Za-z]+(?:\{[^{}$]*\})*[^\s$\\{}]*|[-+(]*\.?\d[^\s$\\{}]*|[A-Za-z](?=$|[$.,;\\}]))"
    r"|\\\\(?!boxed|fbox)|\\[{}]|[{}]"
)
# A number with at least 5 decimals that stands alone, or the parts of a complex one: no version (1.2.34567), time
# (1:02.345678), identifier (a-1.234567), or end of a number with separators of thousands (1,000.123456).
_FLOAT = re.compile(
    r"(?<![\w.])(?<![0-9]:)(?<![A-Za-z]-)-?(?:0|[1-9][0-9]*)\.[0-9]{5,}(?:[eE][-+]?[0-9]+)?(?=j(?!\w)|(?!\w|\.\w|:[0-9]))"
)
_DECIMALS: Final = 4
_SIGNIFICANT_DIGITS: Final = 6


def code_of(steps: Sequence[str]) -> str:
    """Return the program of ``steps``: their texts in order, without markers, outputs, answers and failed steps."""
    codes = ("" if step_failed(step) else _MARKER.sub("", _NOT_CODE.sub("", step)).strip("\n") for step in steps)
    return "\n".join(codes) + "\n"


def has_code(steps: Sequence[str]) -> bool:
    """Return whether the program of ``steps`` has a line that is neither blank nor a comment."""
    return any(line.strip() and not line.lstrip().startswith("#") for line in code_of(steps).splitlines())


def step_failed(step: str) -> bool:
    """Return whether the code of ``step`` failed: the system inserted its error after the end of the step."""
    return _ERROR in step


def ends_code(step: str) -> bool:
    """Return whether ``step`` finishes the program."""
    return step.rstrip().endswith(END_OF_CODE)


def ends_answer(step: str) -> bool:
    """Return whether ``step`` finishes the answer."""
    return step.rstrip().endswith(END_OF_ANSWER)


def split_steps(text: str) -> list[str]:
    """Cut a trajectory into steps after each stop marker; ``"".join`` of the result is ``text``."""
    pieces = re.split(f"(?<=(?:{END_OF_STEP}))|(?<={END_OF_CODE})|(?<={END_OF_ANSWER})", text)
    steps = [piece for piece in pieces if piece]
    if len(steps) > 1 and not steps[-1].strip():
        blank = steps.pop()
        steps[-1] += blank
    return steps


def written_by_policy(step: str) -> list[tuple[str, bool]]:
    """Cut a step into (text, whether the policy wrote it) segments; the system wrote the outputs.

    The loss is on the policy's text alone. Outputs contain no markers (``neutralise``), so the cut is unambiguous. A
    failed step is one segment without loss: the policy must learn the repair, not the mistake.
    """
    if step_failed(step):
        return [(step, False)]
    segments: list[tuple[str, bool]] = []
    position = 0
    for match in _INSERTED.finditer(step):
        segments += [(step[position : match.start()], True), (match.group(), False)]
        position = match.end()
    segments.append((step[position:], True))
    return [(text, by_policy) for text, by_policy in segments if text]


def neutralise(text: str) -> str:
    """Break every marker in a text from outside (a question, a program's output), so that it is not read as a marker."""
    return _MARKER.sub(lambda match: match.group().replace("<", "< ", 1), text)


def display_output(stdout: str) -> str:
    """Render ``stdout`` for the trajectory: long floats rounded, no markers, at most 1,024 of its characters.

    A float with 5 or more decimals is shown with 4 of them, as in the public release, or with 6 significant digits where
    it is below 1: there 4 decimals would leave few digits or none (1/65536 would be 0.0). Six are what Python's ``%g``
    prints. The relative error is at most 5e-5, and 5e-6 below 1. Whole numbers stay as they are, and so does every number
    that would not become shorter.
    Longer output keeps its first and last 512 characters, with a line of three dots between them.
    """
    text = neutralise(_FLOAT.sub(_rounded, stdout.strip("\n")))
    if len(text) <= MAX_OUTPUT_CHARACTERS:
        return text
    half = MAX_OUTPUT_CHARACTERS // 2
    return f"{text[:half]}\n...\n{text[-half:]}"


def _rounded(match: re.Match[str]) -> str:
    text = match.group()
    value = float(text)
    # Floats cannot hold what is beyond their range. Above 2**53 all are whole numbers.
    if not sys.float_info.min <= abs(value) <= sys.float_info.max or value.is_integer():
        return text
    shown = str(round(value, _DECIMALS)) if abs(value) >= 1 else f"{value:.{_SIGNIFICANT_DIGITS}}"
    return shown if len(shown) < len(text) else text


def output_block(stdout: str) -> str:
    """Return the text that the system inserts after a finished program, or after a failed step with its error."""
    return f"\n{OUTPUT}{display_output(stdout)}{END_OF_OUTPUT}\n"


def boxed(text: str) -> str | None:
    r"""Return the answer in the boxes of ``text``, or None when it has no closed box. Time is linear in the length.

    A box is ``\boxed{...}`` or ``\fbox{...}`` with balanced braces (``\{`` and ``\}`` do not count), or
    ``\boxed 7``. Of nested boxes only the innermost count. Several different boxes are one answer, the list of their
    contents in order; equal boxes are one, and empty ones count only where there is no other. So a policy that boxes
    two answers in its answer step gives one list, which a verifier compares as a whole: to box several guesses is
    wrong, however good one of them is.

    >>> boxed(r"so \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    >>> boxed(r"$x = \boxed{3}$ or $x = \boxed 5$, that is, \boxed{3} or \boxed{5}.")
    '3, 5'
    """
    opened: list[re.Match[str]] = []
    boxes: list[tuple[int, str]] = []
    for found in _BRACE.finditer(text):
        if found["bare"] is not None:
            boxes.append((found.start("bare"), found["bare"].rstrip(".,;:!?")))
        elif found.group() == "{" or found["box"]:
            opened.append(found)
        elif found.group() == "}" and opened:
            start = opened.pop()
            holds_another = bool(boxes) and boxes[-1][0] > start.end()
            if start["box"] and not holds_another:
                boxes.append((start.end(), text[start.end() : found.start()]))
    contents = [content for _, content in boxes if content.strip()] or [content for _, content in boxes[:1]]
    distinct = {content.strip(): content for content in reversed(contents)}
    if len(distinct) > 1:
        return ", ".join(reversed(distinct))
    return contents[0] if contents else None
