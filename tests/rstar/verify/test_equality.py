"""Which answers are equal: a labelled table by kind, properties over generated answers, and hostile texts."""

import json
import re
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rstar.interfaces import Verdict
from rstar.problem import Problem
from rstar.verify.equality.compare import compare
from rstar.verify.equality.normalise import normalise
from rstar.verify.equality.quick import quick
from rstar.verify.math import MAX_ANSWER_CHARACTERS, MathVerifier

DATA = Path(__file__).parent / "data"
BY_KIND = defaultdict(list)
for _line in (DATA / "pairs.jsonl").read_text().splitlines():
    _row = json.loads(_line)
    BY_KIND[_row["kind"]].append((_row["reference"], _row["answer"], _row["correct"]))
GOLDS = [json.loads(line)["answer"] for line in (DATA / "math500_answers.jsonl").read_text().splitlines()]


def equal(reference: str, answer: str) -> bool:
    """Judge in this process what the verifier judges at once or in a worker, calculus aside."""
    gold, found = normalise(reference), normalise(answer)
    decided = quick(gold, found)
    return decided[0] if decided is not None else compare(gold, found)[0]


@pytest.mark.parametrize("kind", list(BY_KIND))
def test_the_labelled_answers_of_a_kind_are_judged_as_labelled(kind: str) -> None:
    calculus = re.compile(r"\\(?:sum|int)")
    rows = [row for row in BY_KIND[kind] if not calculus.search(row[0] + row[1])]
    assert [(*row[:2], equal(row[0], row[1])) for row in rows] == rows


async def test_sums_and_integrals_are_judged_by_their_value() -> None:
    verifier = MathVerifier(seconds=60, workers=1)
    rows = [
        (r"\sum_{k=1}^{10} k", "55", True),
        (r"\sum_{k=1}^{10} k", "56", False),
        (r"\int_0^1 x\,dx", r"\frac{1}{2}", True),
        (r"\lim_{x \to 0} \frac{\sin x}{x}", "1", True),
    ]
    try:
        assert [(a, b, (await verifier.verify(Problem("p", "q", a), b)).correct) for a, b, _ in rows] == rows
    finally:
        await verifier.close()


def test_different_answers_of_math_500_are_different() -> None:
    # What else is equal among them: other spellings, and a number with and without its unit or base.
    alike = {"10080", "120", "15", "2\\sqrt{5}", "30", "36", "40", "5", "90", "\\frac{1}{4}", "-2,1", "1,-2"}
    golds = sorted(set(GOLDS))
    same = [(a, b) for a in golds[::3] for b in golds if a < b and equal(a, b)]
    assert [pair for pair in same if not alike & {*pair, pair[0].replace(" ", "")}] == []


@pytest.mark.parametrize(
    "wrapper", ["${}$", r"\({}\)", r"\boxed{{{}}}", "**{}**", r"\displaystyle {}", "{} .", "Answer: {}"]
)
def test_a_wrapper_changes_no_answer_of_math_500(wrapper: str) -> None:
    assert [gold for gold in GOLDS if not equal(gold, wrapper.format(gold))] == []


INTEGERS = st.integers(-(10**12), 10**12)
FRACTIONS = st.fractions(-1000, 1000, max_denominator=500)
VARIABLES = st.sampled_from(["x", "y", "n", r"\theta"])


@st.composite
def expressions(draw: st.DrawFn, depth: int = 2) -> str:
    """Return a LaTeX expression with one or two variables."""
    if depth == 0:
        return draw(VARIABLES | st.integers(1, 30).map(str) | st.just(r"\pi"))
    a, b = draw(expressions(depth=depth - 1)), draw(expressions(depth=depth - 1))
    shapes = [
        "({0})+({1})",
        r"\frac{{{0}}}{{{1}}}",
        r"({0})\cdot({1})",
        "({0})^{{2}}-({1})",
        r"\sqrt{{{0}}}",
        r"\sin({0})",
    ]
    return draw(st.sampled_from(shapes)).format(a, b)


ANSWERS = (
    INTEGERS.map(str)
    | FRACTIONS.map(lambda f: rf"\frac{{{f.numerator}}}{{{f.denominator}}}")
    | expressions()
    | st.tuples(INTEGERS, INTEGERS).map(lambda p: f"({p[0]}, {p[1]})")
    | st.lists(INTEGERS, min_size=2, max_size=4).map(lambda v: ", ".join(map(str, v)))
    | st.text("abcdefghij", min_size=2, max_size=8).map(lambda w: rf"\text{{{w}}}")
    | st.tuples(INTEGERS, INTEGERS).map(lambda p: f"[{min(p)}, {max(p)})")
    | INTEGERS.map(lambda n: f"x={n}")
)


@given(ANSWERS)
def test_every_answer_equals_itself_with_other_spaces(answer: str) -> None:
    spaced = re.sub(r"(?<![\\A-Za-z])([-+=()])", r" \1 ", answer)
    assert equal(answer, spaced)


@given(ANSWERS, ANSWERS)
def test_equality_is_symmetric(a: str, b: str) -> None:
    assert equal(a, b) == equal(b, a)


@given(ANSWERS, ANSWERS, st.sampled_from(["${}$", r"\boxed{{{}}}", "{}.", "  {}  ", "**{}**", "Answer: {}"]))
def test_a_wrapper_never_changes_a_verdict(reference: str, answer: str, wrapper: str) -> None:
    assert equal(reference, wrapper.format(answer)) == equal(reference, answer)
    assert equal(wrapper.format(reference), answer) == equal(reference, answer)


@given(st.integers(), st.integers(), st.sampled_from(["{}", "{}.0", r"\frac{{{}}}{{1}}", "({})", "{} cm", "x={}"]))
def test_different_integers_are_never_equal(a: int, b: int, form: str) -> None:
    assert equal(str(a), form.format(b)) == (a == b)


@given(expressions(), st.fractions(-9, 9, max_denominator=9))
def test_a_scaled_expression_is_another_one(expression: str, factor: object) -> None:
    assume(factor not in {0, 1})
    # An expression that is zero, or has no real value anywhere, has no other multiple.
    assume(not equal(expression, "0") and equal(expression, f"1*({expression})+0"))
    scaled = rf"\frac{{{factor.numerator}}}{{{factor.denominator}}}({expression})"  # type: ignore[attr-defined]
    assert not equal(expression, scaled)


@given(st.text("abcdefghijklmnopqrstuvwxyzABCDEF", min_size=2, max_size=9), st.randoms(use_true_random=False))
def test_letters_in_another_order_are_another_answer(word: str, random: object) -> None:
    letters = list(word)
    random.shuffle(letters)  # type: ignore[attr-defined]
    shuffled = "".join(letters)
    assume(shuffled.casefold() != word.casefold())
    assert not equal(word, shuffled)
    assert not equal(rf"\text{{{word}}}", shuffled)


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6), st.integers(1, 9))
def test_an_equation_is_its_right_side_only_after_a_name(left: int, value: int, factor: int) -> None:
    assert not equal(str(value), f"{factor}x+{left}={value}")
    assert not equal(str(value), f"{left}={value}") or left == value
    assert equal(str(value), f"t={value}")


@given(st.floats(1e-300, 1e300))
def test_what_python_prints_equals_the_same_float_in_latex(value: float) -> None:
    mantissa, _, exponent = f"{value:.12e}".partition("e")
    assert equal(f"{mantissa}\\times 10^{{{int(exponent)}}}", f"{value:.12e}")
    assert not equal(f"{mantissa}\\times 10^{{{int(exponent) + 1}}}", f"{value:.12e}")


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_two_texts_get_a_verdict(a: str, b: str) -> None:
    equal(a, b)


SIGNS = (
    r"\frac \sqrt { } ( ) [ ] \{ \} 1 23 .5 x y \pi + - * / ^ _ ! , ; | = < \le \in \cup \pm \sin \log \text{a} % \degree"
    r" \begin{pmatrix} \end{pmatrix} & \\ : \dots \overline and or i e **"
)
MATH = st.lists(st.sampled_from(SIGNS.split()), max_size=14)


@given(MATH, MATH)
def test_any_order_of_mathematical_signs_gets_a_verdict(a: list[str], b: list[str]) -> None:
    equal(" ".join(a), " ".join(b))
    equal("".join(a), "".join(b))


HOSTILE = {
    "powers": ["9**9**9", "9^{9^{9^{9}}}", "10^{10^{10}}", "(x+1)^{1000000}", "x**x**x**x**x", "1e999999", "1E-5000"],
    "factorials": ["((10!)!)!", "factorial(factorial(factorial(10)))", "9" * 1900 + "!", "5" + "!" * 1500],
    "functions": ["e^{e^{e^{e^{e}}}}", "sin(10**100000)", r"\binom{10^{9}}{10^{8}}", "0^0", "1/0", "nan", "oo-oo"],
    "brackets": [c * 2000 for c in "([{|$*`-.'"] + ["(" * 999 + "1" + ")" * 999, "[[[" * 600, "{1," * 600],
    "commands": [r"\frac" * 390, r"\sqrt" * 380, r"\boxed{" * 280, r"\text{" * 330, r"\begin{pmatrix}" * 120, r"\{x|" * 400],
    "chains": ["1+" * 900 + "1", "x^" * 900 + "x", "2^" * 900 + "2", "x<" * 900 + "x", r"1\pm " * 390 + "1", r"\sin " * 380 + "x"],
    "lists": ["1,234" * 300, "a," * 900 + "b", "1 and " * 300 + "1", r"(1,2)\cup " * 180 + "(3,4)", "5 " + "m " * 900, ", " * 990],
    "characters": ["½" * 1000, "²" * 1500, "√" * 1500, "\u0305" * 1000, "\ud800", "\x00", "0." + "3" * 1900, "5 " + "cm/" * 600],
    "prefixes": ["Answer: " * 240, "the answer is " * 140, "= " * 900, "1" + " " * 1990 + "1"],
}  # fmt: skip


@pytest.mark.parametrize("kind", list(HOSTILE))
async def test_a_hostile_answer_is_wrong_with_a_reason_of_one_short_line(kind: str) -> None:
    verifier = MathVerifier(seconds=60, workers=1)
    try:
        for answer in HOSTILE[kind]:
            for reference in ("24", "x^2+1"):
                verdict: Verdict = await verifier.verify(Problem("p", "q", reference), answer[:MAX_ANSWER_CHARACTERS])
                assert not verdict.correct, answer[:40]
                assert verdict.reason
                assert "\n" not in verdict.reason
                assert len(verdict.reason) < 300
                assert "did not finish" not in verdict.reason, answer[:40]
                assert "crashed" not in verdict.reason, answer[:40]
    finally:
        await verifier.close()


async def test_any_text_can_be_the_reference() -> None:
    verifier = MathVerifier(seconds=60, workers=1)
    texts = ["", " ", "$$", "{", "x" * 3_000, r"\frac12", "[1, 2]", "Alice and Bob", "\x00", "1/0"]
    try:
        for reference in texts:
            verdicts = [await verifier.verify(Problem("p", "q", reference), answer) for answer in texts]
            assert [v.correct for v in verdicts] == [answer.strip() == reference.strip() for answer in texts]
    finally:
        await verifier.close()


@pytest.mark.parametrize(
    ("reference", "answer", "correct"),
    [
        (r"\sqrt{2}", r"\sqrt{2} \approx 1.41", True),
        (r"\frac{20000}{\pi}", r"\frac{20000}{\pi} \approx 6366.2", True),
        (r"\sqrt{2}", r"\sqrt{3} \approx 1.73", False),
        (r"\sqrt{2}", r"\sqrt{2} \approx 1.73", False),
        ("1.41", r"\sqrt{2} \approx 1.41", False),
        ("5", r"4.9 \approx 5", False),
    ],
)
def test_a_value_with_its_rounding_is_that_value(reference: str, answer: str, *, correct: bool) -> None:
    assert equal(reference, answer) == correct
