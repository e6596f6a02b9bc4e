"""The prompt, byte for byte: a model that was trained with one prompt fails with another."""

import hashlib
import re

import pytest

from rstar.prompt import read_few_shot, render, render_prompt
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


def test_a_few_shot_prompt_of_the_users_takes_the_place_of_the_built_in_one() -> None:
    few_shot = read_few_shot(b"Solve {x}.\nQ: {question}\nA:", "mine.txt")
    for style in ("bootstrap", "chat"):
        assert render(QUESTION, ("<code>\n",), style, few_shot) == f"Solve {{x}}.\nQ: {QUESTION}\nA:<code>\n"
    assert render_prompt(QUESTION, "trained", few_shot) == render_prompt(QUESTION)
    assert render_prompt("{question}", "chat", few_shot).endswith("Q: {question}\nA:")


def test_the_message_of_a_chat_is_the_bootstrap_prompt() -> None:
    assert render_prompt(QUESTION, "chat") == render_prompt(QUESTION, "bootstrap")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"Solve: ", "mine.txt: the prompt has 0 times {question}: write it once, where the question belongs"),
        (b"{question} {question}", "mine.txt: the prompt has 2 times {question}"),
        (b"\xff {question}", "mine.txt: the prompt is not a text in UTF-8"),
    ],
)
def test_a_few_shot_prompt_without_one_place_for_the_question_is_refused(data: bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        read_few_shot(data, "mine.txt")
