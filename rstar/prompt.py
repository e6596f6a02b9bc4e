"""The one prompt renderer: training, search, PPM data and evaluation share it byte for byte.

A policy is trained on ``render(question) + trajectory`` and generates after the same string. One newline of
difference lowers accuracy without an error, so all prompts are built here, and a test pins the bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from rstar.trajectory import ASSISTANT, USER, neutralise

PromptStyle = Literal["trained", "bootstrap", "chat"]

QUESTION: Final = "{question}"
"""Stands for the question in a few-shot prompt."""

FEW_SHOT: Final = """You solve math problems by short steps of Python. Each step is a comment that says what it does, then code.
End each step with <end_of_step>, the last one, which prints the result, with <end_of_code>. You are then shown the
output and write the final answer in \\boxed{}, ended by <end_of_answer>. Follow the examples exactly.

Question: A shop sells pens at 3 for $2. How much do 12 pens cost?
<code>
# Step 1: how many groups of 3 pens are needed
groups = 12 / 3
<end_of_step>
# Step 2: the cost of all groups
cost = groups * 2
<end_of_step>
# Now print the final answer
print(cost)
<end_of_code>
<output>8.0<end_of_output>
<answer>12 pens cost \\boxed{8} dollars.<end_of_answer>

Question: What is the sum of the roots of x^2 - 5x + 6 = 0?
<code>
# Step 1: solve the equation
from sympy import symbols, solve
x = symbols("x")
roots = solve(x**2 - 5*x + 6, x)
<end_of_step>
# Now print the final answer
print(sum(roots))
<end_of_code>
<output>5<end_of_output>
<answer>The roots add up to \\boxed{5}.<end_of_answer>

Question: {question}
"""


def render(question: str, steps: Sequence[str] = (), style: PromptStyle = "trained", few_shot: str = FEW_SHOT) -> str:
    """Return the text that the model continues: the prompt of ``question`` and the partial trajectory after it.

    ``style`` and ``few_shot``: see ``render_prompt``.
    """
    return render_prompt(question, style, few_shot) + "".join(steps)


def render_prompt(question: str, style: PromptStyle = "trained", few_shot: str = FEW_SHOT) -> str:
    """Return the prompt alone; the loss leaves it out.

    ``bootstrap`` is the few-shot prompt of round 1, for a general LLM that was not trained on the grammar: ``few_shot``
    with the question in the place of ``{question}``. ``chat`` is the same text as a user's message to an instruct model;
    ``rstar.models.chat`` puts it into the model's chat template.
    """
    question = neutralise(question)
    if style == "trained":
        return f"{USER}:\n{question}\n{ASSISTANT}: Let's think step by step and solve the problem with code."
    before, _, after = few_shot.partition(QUESTION)
    return before + question + after


def read_few_shot(data: bytes, name: str) -> str:
    """Return the few-shot prompt in a file of the user's. Raises ``ValueError``, one sentence that names the file."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{name}: the prompt is not a text in UTF-8") from None
    if (count := text.count(QUESTION)) != 1:
        raise ValueError(f"{name}: the prompt has {count} times {QUESTION}: write it once, where the question belongs")
    return text
