r"""The grammar: steps, programs, outputs and \boxed{} answers, on text that a model might write."""

import string
from fractions import Fraction

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
        ("-3.3333333333 and 2.50000001", "-3.3333 and 2.5"),
        ("1234567.89012345", "1234567.8901"),
        ("1.00001", "1.0"),
        (str(1 / 65536), "1.52588e-05"),
        (f"{1 / 65536:.15f}", "1.52588e-05"),
        ("1.52587890625000e-5", "1.52588e-05"),
        ("-0.1234567", "-0.123457"),
        ("0.30000000000000004 0.99999999", "0.3 1.0"),
        ("6.123233995736766e-17", "6.12323e-17"),
        ("9.9999999e-05", "0.0001"),
        ("1.23456789e+02", "123.4568"),
        ("(0.3333333333333333-1.4142135623730951j)", "(0.333333-1.4142j)"),
        ("[0.33333333 0.66666667]", "[0.333333 0.666667]"),
        ("Float('0.3333333333333333')", "Float('0.333333')"),
        ("It is 3.3333333333. So $12.345678, 33.333333%", "It is 3.3333. So $12.3457, 33.3333%"),
        ("1,234.5678901", "1,234.5679"),
        ("\n\n5\n", "5"),
    ],
)
def test_long_floats_are_rounded_to_4_decimals_or_below_1_to_6_digits(stdout: str, shown: str) -> None:
    assert display_output(stdout) == shown


@pytest.mark.parametrize(
    "text",
    [
        *("", "1.2345", "0.00012", "1e-07", "1.52588e-05", "-0.5", "1/65536", "0.123456"),
        *("5.0", "2.0000000", "0.000000", "2432902008176640000.0", "2.432902008176640e+18", "-1.0000000e+00"),
        *("1.234567e-400", "1.234567e+400", "7.123456e-324"),  # mpmath prints them; no float holds them
        *("1.2.3456789", "1.2345678.1", "v1.2345678", "1.2345678x", "numpy-1.2345678", "a_1.2345678", "1.2345678_b"),
        *("12:30:45.123456", "2026-11-29 00:00:05.123456", "1:02.345678", "1.234567:2"),
        *("1,000.000001234", "007.1234567", "0x1.91eb851eb851fp+1"),
    ],
)
def test_short_and_whole_numbers_and_text_that_is_no_number_stay(text: str) -> None:
    assert display_output(text) == text


finite = st.floats(allow_nan=False, allow_infinity=False)
written = st.one_of(
    finite.map(repr),
    st.tuples(finite, st.integers(0, 20)).map(lambda pair: f"{pair[0]:.{pair[1]}e}"),
    st.tuples(st.floats(-1e20, 1e20), st.integers(0, 20)).map(lambda pair: f"{pair[0]:.{pair[1]}f}"),
)


@given(written)
def test_a_shown_number_is_near_never_longer_and_never_changes_again(text: str) -> None:
    shown = display_output(text)
    value, exact = Fraction(shown), Fraction(text)
    # Half a unit of the last digit that is kept, and of the last bit of a float.
    digits = 5e-5 if abs(exact) >= 1 else 5e-6
    assert abs(value - exact) <= abs(exact) * Fraction(digits) * (1 + Fraction(1, 10**9))
    assert (value == 0) == (exact == 0)
    assert len(shown) <= len(text)
    assert display_output(shown) == shown
    if exact.denominator == 1 or len(text.partition(".")[2].partition("e")[0]) < 5:
        assert shown == text


@given(
    st.lists(
        st.one_of(written, st.sampled_from([":", "-", ".", ",", "x", "j", " ", "\n", "1", "e", "_", "0"])), max_size=8
    )
)
def test_rounding_ends_and_shows_text_that_it_would_not_change_again(pieces: list[str]) -> None:
    text = "".join(pieces).strip("\n")[:MAX_OUTPUT_CHARACTERS]
    shown = display_output(text)
    assert len(shown) <= len(text)
    assert display_output(shown) == shown


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
        (r"first \boxed{1}, then \boxed{2}", "1, 2"),
        (r"\boxed{5} or \boxed{3}, so \boxed{5} and \boxed{ 3 }", "5, 3"),
        (r"\boxed{5}, indeed \boxed{5}", "5"),
        (r"write it in \boxed{}: \boxed{5}", "5"),
        (r"\boxed{x = \boxed{3}} or \boxed{\boxed{3}, \boxed{5}}", "3, 5"),
        (r"\boxed {7}", "7"),
        (r"\fbox{7}", "7"),
        (r"\boxed 7", "7"),
        (r"So it is $\boxed 7$.", "7"),
        (r"\boxed 3.5.", "3.5"),
        (r"$\boxed\frac{1}{2}$", r"\frac{1}{2}"),
        (r"{\boxed 7}", "7"),
        (r"\(\boxed -7\)", "-7"),
        (r"\boxed", None),
        (r"\boxedtext 5", None),
        (r"Write it in \boxed form: \boxed{5}", "5"),
        (r"\boxed a number", None),
        (r"$\boxed x$", "x"),
        (r"\\\boxed{5}", "5"),
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
        (r"\boxed 5 \fbox{6}", "5, 6"),
        (r"boxed{5}", None),
        ("", None),
    ],
)
def test_the_answer_is_that_of_all_boxes_with_balanced_braces(text: str, content: str | None) -> None:
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
    assert boxed("\\boxed\\a{" * 100_000) == "\\a"
    assert boxed("\\boxed " * 100_000 + " " * 100_000 + "{" * 100_000) is None
    assert len(boxed("".join(f"\\fbox{{{i}}}" for i in range(50_000))) or "") > 200_000


def test_the_markers_are_nine_and_none_holds_another() -> None:
    assert len(set(MARKERS)) == 9
    assert not any(a in b for a in MARKERS for b in MARKERS if a != b)
    assert {CODE, END_OF_CODE, END_OF_STEP} <= set(MARKERS)
