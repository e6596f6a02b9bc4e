"""What instruct models write becomes steps of the grammar, and what follows the grammar stays as it is."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstar.instruct import as_step
from rstar.search.grammar import malformed_answer
from rstar.trajectory import MARKERS, code_of, has_code, split_steps

STEP = "<code>\n# Step 1: the groups\nx = 12 / 3\n<end_of_step>"
FIRST = (STEP,)
FINISHED = (STEP, "\nprint(x)\n<end_of_code>\n<output>4.0<end_of_output>\n")

OPENINGS = {
    "as asked": "<code>\n# Step 1: the groups\nx = 12 / 3\n<end_of_step>",
    "after prose": "Sure! Here is the solution:\n\n<code>\n# Step 1: the groups\nx = 12 / 3\n<end_of_step>",
    "in a fence before the marker": "```python\n<code>\n# Step 1: the groups\nx = 12 / 3\n<end_of_step>",
    "in a fence after the marker": "<code>\n```python\n# Step 1: the groups\nx = 12 / 3\n```\n<end_of_step>",
    "in a plain fence": "<code>\n```\n# Step 1: the groups\nx = 12 / 3\n```\n<end_of_step>",
    "in a fence and without the marker": "To solve it:\n```python\n# Step 1: the groups\nx = 12 / 3\n```\n<end_of_step>",
    "with the end on the fence's line": "```python\n# Step 1: the groups\nx = 12 / 3\n```<end_of_step>",
    "with prose after the fence": "```py\n# Step 1: the groups\nx = 12 / 3\n```\nSo there are 4.\n<end_of_step>",
    "with prose before the end": "```py\n# Step 1: the groups\nx = 12 / 3\n```\nSo there are 4. <end_of_step>",
    "with a heading outside the fence": "<code>\n# Step 1: the groups\n```python\nx = 12 / 3\n```\n<end_of_step>",
    "with prose between marker and fence": "<code>\nFirst:\n```python\n# Step 1: the groups\nx = 12 / 3\n```\n<end_of_step>",
    "without fence and marker": "Let us begin.\n# Step 1: the groups\nx = 12 / 3\n<end_of_step>",
}


@pytest.mark.parametrize("case", OPENINGS)
def test_the_first_step_is_the_code_behind_its_marker(case: str) -> None:
    assert as_step(OPENINGS[case], ()) == STEP


LATER = {
    "as asked": "\n# Step 2\ny = x * 2\n<end_of_step>",
    "in a fence": "\n```python\n# Step 2\ny = x * 2\n```\n<end_of_step>",
    "in a plain fence": "\n```\n# Step 2\ny = x * 2\n```\n<end_of_step>",
    "after prose": "\nNext, the cost:\n```python\n# Step 2\ny = x * 2\n```\n<end_of_step>",
    "with the marker again": "\nNext:\n<code>\n# Step 2\ny = x * 2\n<end_of_step>",
    "with the end of an earlier fence": "\n# Step 2\ny = x * 2\n```\n<end_of_step>",
}


@pytest.mark.parametrize("case", LATER)
def test_a_later_step_has_neither_fences_nor_the_marker_again(case: str) -> None:
    step = as_step(LATER[case], FIRST)
    assert code_of((*FIRST, step)) == code_of((*FIRST, LATER["as asked"]))
    assert "`" not in step
    assert "<code>" not in step
    assert step.endswith("<end_of_step>")


def test_a_whole_program_keeps_its_steps() -> None:
    text = (
        "Sure:\n```python\n# Step 1: a\nx = 1\n```\n<end_of_step>\n```python\n# Step 2: b\nprint(x)\n```\n<end_of_code>"
    )
    steps = split_steps(as_step(text, ()))
    assert steps == ["<code>\n# Step 1: a\nx = 1\n<end_of_step>", "\n# Step 2: b\nprint(x)\n<end_of_code>"]


def test_the_prose_before_an_answer_is_left_out() -> None:
    answer = "<answer>It is \\boxed{4}.<end_of_answer>"
    step = as_step(f"The output is 4.\n\n{answer}", FINISHED)
    assert step == answer
    assert malformed_answer(step) == ""


@pytest.mark.parametrize(
    "text",
    [
        "<output>5<end_of_output>\n<answer>\\boxed{5}<end_of_answer>",
        "x = 1\n<end_of_code>\n<answer>\\boxed{5}<end_of_answer>",
        "I cannot say.<end_of_answer>",
    ],
)
def test_what_an_answer_may_not_follow_stays_and_is_refused(text: str) -> None:
    assert as_step(text, FINISHED) == text
    assert malformed_answer(text)


@pytest.mark.parametrize("text", ["<answer>\\boxed{4}<end_of_answer>", "I do not know.", "", "print(4)\n<end_of_code>"])
def test_nothing_is_invented_for_a_text_without_a_program_in_it(text: str) -> None:
    assert as_step(text, ()) == text


LINES = st.sampled_from(
    ["x = 1", "# a comment", "for i in range(3):\n    print(i)", "", "s = '''\na\n'''", "print('`')"]
)
CODE_LINES = st.lists(LINES, min_size=1, max_size=5).map("\n".join)


@given(CODE_LINES, st.sampled_from(["<end_of_step>", "<end_of_code>"]), st.booleans())
def test_a_step_of_the_grammar_stays_as_it_is(code: str, end: str, first: bool) -> None:
    step = f"<code>\n{code}\n{end}" if first else f"\n{code}\n{end}"
    assert as_step(step, () if first else FIRST) == step


@given(
    CODE_LINES, st.sampled_from(["python", "py", "Python3", ""]), st.sampled_from(["", "Sure!\n\n", "Here it is:\n"])
)
def test_fenced_code_runs_as_it_was_written(code: str, language: str, prose: str) -> None:
    step = as_step(f"{prose}```{language}\n{code}\n```\n<end_of_code>", ())
    assert step.startswith("<code>\n")
    assert step.endswith("<end_of_code>")
    if has_code((step,)):
        assert ast.dump(ast.parse(code_of((step,)))) == ast.dump(ast.parse(code))


@given(
    st.lists(st.sampled_from([*MARKERS, "```", "```python", "# Step 1", "prose", "x = 1", "\n"]), max_size=12),
    st.booleans(),
)
def test_a_step_is_brought_into_the_grammar_once_and_loses_no_marker_but_code(parts: list[str], first: bool) -> None:
    text, steps = "\n".join(parts), () if first else FIRST
    step = as_step(text, steps)
    for marker in MARKERS:
        if marker != "<code>":
            assert step.count(marker) == text.count(marker)
    if first:
        assert as_step(step, steps) == step
