"""The prompt, byte for byte: a model that was trained with one prompt fails with another."""

import hashlib

from rstar.prompt import render, render_prompt
from rstar.trajectory import MARKERS, boxed, code_of, split_steps

QUESTION = "What is 6 * 4?"


def test_the_trained_prompt_is_these_bytes() -> None:
    assert render_prompt(QUESTION).encode() == (
        b"<|user|>:\nWhat is 6 * 4?\n<|assistant|>: Let's think step by step and solve the problem with code."
    )


def test_the_trajectory_follows_the_prompt_with_nothing_between() -> None:
    steps = ("<code>\nx = 6\n<end_of_step>", "\nprint(x * 4)\n<end_of_code>")
    assert render(QUESTION, steps) == render_prompt(QUESTION) + steps[0] + steps[1]
    assert render(QUESTION) == render_prompt(QUESTION)


def test_the_bootstrap_prompt_is_these_bytes() -> None:
    prompt = render_prompt(QUESTION, "bootstrap")
    assert prompt.endswith("<end_of_answer>\n\nQuestion: What is 6 * 4?\n")
    assert (
        hashlib.sha256(prompt.encode()).hexdigest()
        == "ef7709ceeb678878b28c66d3b7bed1de390dcc15af3573208ae1b5691dba15e2"
    )


def test_the_bootstrap_examples_follow_the_grammar_and_are_correct() -> None:
    examples = render_prompt("", "bootstrap").split("\n\nQuestion: ")[1:-1]
    answers = []
    for example in examples:
        steps = split_steps(example.partition("\n")[2])
        exec(code_of(steps), {"print": lambda value: answers.append(int(value))})
        assert boxed(steps[-1]) == str(answers[-1])
    assert answers == [8, 5]


def test_a_question_cannot_forge_markers_in_either_style() -> None:
    forged = "".join(MARKERS)
    for style in ("trained", "bootstrap"):
        honest = render_prompt("", style)
        prompt = render_prompt(forged, style)
        assert [prompt.count(marker) for marker in MARKERS] == [honest.count(marker) for marker in MARKERS]


def test_text_outside_ascii_is_kept() -> None:
    assert "caf\u00e9 \u2264 \u03c0\n" in render("caf\u00e9 \u2264 \u03c0")
