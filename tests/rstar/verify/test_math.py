"""The math verifier on all answers of MATH-500, and on answers that hang, raise or crash."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rstar.interfaces import Verdict
from rstar.problem import Problem
from rstar.verify.math import MathVerifier
from rstar.verify.worker import Worker

ANSWERS = [
    json.loads(line)["answer"]
    for line in (Path(__file__).parent / "data" / "math500_answers.jsonl").read_text().splitlines()
]


@pytest.fixture(scope="module")
def math() -> Iterator[MathVerifier]:
    """One verifier for all tests of this module; each test has an event loop of its own."""
    verifier = MathVerifier(seconds=30, workers=2)
    yield verifier
    asyncio.run(verifier.close())


async def correct_pairs(verifier: MathVerifier, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the pairs of reference and answer whose answer is correct."""
    verdicts = await asyncio.gather(*(verifier.verify(Problem("p", "q", gold), answer) for gold, answer in pairs))
    return [pair for pair, verdict in zip(pairs, verdicts, strict=True) if verdict.correct]


async def test_all_500_answers_are_correct_literally_and_as_mathematics(math: MathVerifier) -> None:
    assert len(ANSWERS) == 500
    literal = [(answer, answer) for answer in ANSWERS]
    rewritten = [(answer, "\\displaystyle " + answer.replace("\\frac", "\\dfrac")) for answer in ANSWERS]
    assert await correct_pairs(math, literal) == literal
    assert await correct_pairs(math, rewritten) == rewritten


async def test_answers_with_one_number_changed_or_the_sign_swapped_are_wrong(math: MathVerifier) -> None:
    changed = [(a, re.sub(r"\d+", lambda m: str(int(m.group()) + 1), a, count=1)) for a in ANSWERS]
    swapped = [(a, a[1:] if a.startswith("-") else f"-{a}") for a in ANSWERS if a != "0" and "text{" not in a]
    perturbed = [(a, b) for a, b in changed + swapped if a != b]
    assert len(perturbed) > 960
    assert await correct_pairs(math, perturbed) == []


async def test_another_form_of_the_same_value_is_correct(math: MathVerifier) -> None:
    pairs = [
        (r"\frac{1}{2}", "0.5"),
        ("1,-2", "-2, 1"),
        (r"10,\!080", "10080"),
        ("6+9i", "9i + 6"),
        ("x=5", "5"),
        (r"\text{Evelyn}", "Evelyn"),
        ("8", "8.0"),
    ]
    assert await correct_pairs(math, pairs) == pairs


async def test_numbers_in_another_base_an_open_end_and_a_rough_decimal_are_wrong(math: MathVerifier) -> None:
    assert await correct_pairs(math, [("52_8", "52_9"), ("(3,4]", "(3,4)"), (r"\frac{1}{3}", "0.333"), ("4", "")]) == []


async def test_a_hang_is_a_wrong_answer_and_the_next_answer_is_verified() -> None:
    verifier = MathVerifier(seconds=2, workers=1)
    try:
        hung = await verifier.verify(Problem("p", "q", "24"), r"\sum_{k=1}^{10^{12}} \frac{1}{k}")
        assert hung == Verdict(False, "the comparison did not finish within 2 s")
        assert (await verifier.verify(Problem("p", "q", "24"), r"\sqrt{576}")).correct
    finally:
        await verifier.close()


async def test_long_broken_and_missing_texts_are_wrong_with_a_reason(math: MathVerifier) -> None:
    hostile = ["x" * 2_001, "\ud800", "\x00", "}" * 50, "\\boxed{" * 50, "\\", "\n", "\\frac{1}{" * 100]
    for answer in hostile:
        verdict = await math.verify(Problem("p", "q", "24"), answer)
        assert not verdict.correct
        assert verdict.reason
    assert await math.verify(Problem("p", "q", None), "24") == Verdict(False, "the problem has no reference answer")


def test_one_verifier_serves_several_event_loops_and_starts_again_after_close() -> None:
    verifier = MathVerifier(seconds=30, workers=1)
    for _ in range(2):
        assert asyncio.run(verifier.verify(Problem("p", "q", "24"), "4!")).correct
    asyncio.run(verifier.close())
    assert asyncio.run(verifier.verify(Problem("p", "q", "24"), "4!")).correct
    asyncio.run(verifier.close())


def test_a_worker_that_exits_is_an_end_of_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "exits.py").write_text("print('ready', flush=True)\ninput()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    worker = Worker("exits")
    with pytest.raises(EOFError):
        worker.ask({}, 30)
    with pytest.raises(EOFError):
        Worker("no_such_module").ask({}, 30)


SCRIPT = """
import asyncio, os, sys
from rstar.problem import Problem
from rstar.verify import verifier
verdict = asyncio.run(verifier("math-verify").verify(Problem("p", "q", "24"), "4!"))
children = [pid for task in os.listdir("/proc/self/task") for pid in open(f"/proc/self/task/{task}/children").read().split()]
print(verdict.correct, *children, flush=True)
if "abrupt" in sys.argv:
    os._exit(1)
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for children in /proc")
@pytest.mark.parametrize("end", ["orderly", "abrupt"])
def test_a_script_without_a_main_guard_can_verify_and_its_worker_ends_with_it(tmp_path: Path, end: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    # The worker does not hold the script's pipe, so this returns even if the worker still runs.
    done = subprocess.run([sys.executable, script, end], stdout=subprocess.PIPE, text=True, timeout=60, check=False)
    correct, child = done.stdout.split()
    assert correct == "True"
    status = Path(f"/proc/{child}/stat")
    for _ in range(600):
        try:
            if status.read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except (FileNotFoundError, ProcessLookupError):
            return
        subprocess.run(["sleep", "0.05"], check=True)
    pytest.fail(f"worker {child} still runs after its parent")
