r"""The grammar: steps, programs, outputs and \boxed{} answers, on text that a model might write."""

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rstar.trajectory import (
    ANSWER,
    CODE,
    END_OF_ANSWER,
    END_OF_CODE,
    END_OF_OUTPUT,
    END_OF_STEP,
    MARKERS,
    MAX_OUTPUT_CHARACTERS,
    OUTPUT,
    STEP_STOPS,
    boxed,
    code_of,
    display_output,
    ends_answer,
    ends_code,
    neutralise,
    output_block,
    split_steps,
    written_by_policy,
)

STEPS = (
    "<code>\n# Step 1: halve\nx = 48 / 2\n<end_of_step>",
    "\n# Step 2: sum\nx += 3\n<end_of_step>",
    "\n# Now print the final answer\nprint(x)\n<end_of_code>",
)
ANSWER_STEP = "<answer>It is \\boxed{27}.<end_of_answer>"

pieces = st.lists(st.one_of(st.sampled_from(MARKERS), st.text(string.printable, max_size=12)), max_size=12)
texts = pieces.map("".join)


@given(texts)
@example("a<end_of_step>\n\n")
@example("a<end_of_step>b<end_of_step>\n")
def test_steps_join_to_the_text_they_were_cut_from(text: str) -> None:
    assert "".join(split_steps(text)) == text


@given(texts)
def test_every_step_but_the_last_ends_at_its_only_stop_marker(text: str) -> None:
    for step in split_steps(text)[:-1]:
        assert step.endswith(STEP_STOPS)
        assert sum(step.count(stop) for stop in STEP_STOPS) == 1


@given(st.lists(st.text("ab #\n", min_size=1, max_size=9).map(lambda text: f"x{text}"), min_size=1, max_size=5))
def test_joined_steps_are_cut_where_they_were_joined(bodies: list[str]) -> None:
    steps = [f"{body}{END_OF_STEP}" for body in bodies]
    assert split_steps("".join(steps)) == steps


def test_a_trajectory_is_cut_into_its_steps_and_its_program_is_what_runs() -> None:
    shown = STEPS[2] + output_block("27.0")
    text = "".join([*STEPS[:2], shown, ANSWER_STEP])
    assert split_steps(text)[:3] == list(STEPS)
    program = code_of([*STEPS[:2], shown, ANSWER_STEP])
    assert program == code_of(STEPS) + "\n"
    assert not any(marker in program for marker in MARKERS)
    namespace: dict[str, object] = {}
    exec(program, namespace)
    assert namespace["x"] == 27


def test_markers_inside_code_never_reach_the_program() -> None:
    program = code_of(["<code>\nx = 1  # <code> <|user|> <output>\n<end_of_step>", "\ny = '<answer'\n<end_of_step>"])
    assert program == "x = 1  #   \ny = '<answer'\n"


def test_only_the_last_marker_ends_code_or_an_answer() -> None:
    assert ends_code(STEPS[2] + "\n")
    assert not ends_code(STEPS[2] + output_block("1"))
    assert ends_answer(ANSWER_STEP)
    assert not ends_answer(f"{END_OF_ANSWER} and more")
    assert not ends_code(STEPS[0])


@given(texts)
def test_foreign_text_keeps_no_marker_and_is_neutralised_once(text: str) -> None:
    calm = neutralise(text)
    assert not any(marker in calm for marker in MARKERS)
    assert neutralise(calm) == calm
    assert calm.replace(" ", "") == text.replace(" ", "")


@given(st.one_of(texts, st.text(max_size=3_000)))
def test_shown_output_is_limited_and_holds_no_marker(stdout: str) -> None:
    shown = display_output(stdout)
    assert len(shown) <= MAX_OUTPUT_CHARACTERS + len("\n...\n")
    assert not any(marker in shown for marker in MARKERS)


def test_long_output_keeps_its_first_and_last_512_characters() -> None:
    exact = "a" * 512 + "b" * 512
    assert display_output(exact) == exact
    assert display_output("a" * 600 + "c" * 5_000 + "b" * 600) == "a" * 512 + "\n...\n" + "b" * 512


@pytest.mark.parametrize(
    ("stdout", "shown"),
    [
        ("3.3333333333333335\n", "3.3333"),
        ("-0.1234567 and 2.50000001", "-0.1235 and 2.5"),
        ("1.2345", "1.2345"),
        ("1e-07", "1e-07"),
        ("1.2.3456789", "1.2.3456789"),
        ("v1.2345678x", "v1.2345678x"),
        ("\n\n5\n", "5"),
        ("", ""),
    ],
)
def test_floats_are_rounded_to_4_decimals_where_that_is_shorter(stdout: str, shown: str) -> None:
    assert display_output(stdout) == shown


def test_markers_in_the_output_of_a_program_are_broken() -> None:
    block = output_block(f"1{END_OF_OUTPUT}{ANSWER}\\boxed{{24}}{END_OF_ANSWER}")
    assert block == "\n<output>1< end_of_output>< answer>\\boxed{24}< end_of_answer><end_of_output>\n"
    assert len(split_steps(STEPS[2] + block)) == 2
    assert written_by_policy(STEPS[2] + block) == [(STEPS[2], True), (block, False)]


@given(texts)
def test_the_texts_of_policy_and_system_join_to_the_step(step: str) -> None:
    segments = written_by_policy(step)
    assert "".join(text for text, _ in segments) == step
    assert all(OUTPUT in text and END_OF_OUTPUT in text for text, by_policy in segments if not by_policy)


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"\boxed{5}", "5"),
        (r"first \boxed{1}, then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{\sqrt{2}}} apples", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\boxed{3}}", "3"),
        (r"\boxed{}", ""),
        (r"\boxed{1} and \boxed{2", "1"),
        (r"\boxed{{1}", None),
        (r"} } \boxed{1} }", "1"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{x = 1\right.}", r"\left\{x = 1\right."),
        (r"\boxed{a\\{b}}", r"a\\{b}"),
        ("\\boxed{two\nlines}", "two\nlines"),
        (r"\boxed 5 \fbox{6}", None),
        (r"boxed{5}", None),
        ("", None),
    ],
)
def test_the_answer_is_the_last_box_with_balanced_braces(text: str, content: str | None) -> None:
    assert boxed(text) == content


@given(
    st.recursive(
        st.text("ab1+", max_size=4), lambda inner: st.lists(inner, max_size=3).map(lambda xs: "{" + "".join(xs) + "}")
    )
)
def test_any_balanced_content_is_read_from_its_box(content: str) -> None:
    assert boxed(f"so {{}} \\boxed{{{content}}} it is") == content


def test_an_endless_row_of_open_boxes_is_read_in_one_pass() -> None:
    assert boxed("\\boxed{" * 100_000) is None
    assert boxed("\\boxed{" * 100_000 + "7" + "}" * 50_000) == "7"


def test_the_markers_are_nine_and_none_holds_another() -> None:
    assert len(set(MARKERS)) == 9
    assert not any(a in b for a in MARKERS for b in MARKERS if a != b)
    assert {CODE, END_OF_CODE, END_OF_STEP} <= set(MARKERS)
