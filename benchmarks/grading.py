"""Compares graders of answers: ``python -m benchmarks.grading [FILE] [--golds FORMAT:PATH]...``, in Markdown.

FILE has labelled rows as for ``rstar verify``; the default is the table of the tests. Golds are reference answers: each
against itself in dollar signs, and random pairs of different ones. A grader that is not installed is left out with a
line on standard error. Public graders answer in this process with an alarm per pair; ours with its own workers.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from rstar.interfaces import Verdict
from rstar.readers import read_problems
from rstar.verify.audit import AuditRow, KindFigures, figures, read_rows
from rstar.verify.math import MathVerifier

Grader = Callable[[Sequence[AuditRow]], list[Verdict]]

TABLE = Path(__file__).parents[1] / "tests" / "rstar" / "verify" / "data" / "pairs.jsonl"
SECONDS = 5
"""Deadline of one comparison by a public grader."""
GOLDS = 200
DIFFERENT_PAIRS = 200
SIMPLE_PAIRS = 5_000
MIN_SECONDS = 0.2
"""Processor time below which a speed is measured again on more pairs."""


def rstar_grader(rows: Sequence[AuditRow]) -> list[Verdict]:
    async def judged() -> list[Verdict]:
        verifier = MathVerifier(workers=1)
        try:
            return [await verifier.verify(row.problem(), row.answer) for row in rows]
        finally:
            await verifier.close()

    return asyncio.run(judged())


def plain_math_verify() -> Callable[[str, str], bool]:
    from math_verify import parse, verify

    def equal(reference: str, answer: str) -> bool:
        gold, given = (parse(f"\\boxed{{{text}}}", parsing_timeout=None) for text in (reference, answer))
        return bool(verify(gold, given, timeout_seconds=None))

    return equal


def lm_eval_hendrycks() -> Callable[[str, str], bool]:
    is_equiv = importlib.import_module("lm_eval.tasks.hendrycks_math.utils").is_equiv
    return lambda reference, answer: bool(is_equiv(answer, reference))


def verl_prm800k() -> Callable[[str, str], bool]:
    grade_answer = importlib.import_module("verl.utils.reward_score.prime_math").grade_answer

    def equal(reference: str, answer: str) -> bool:
        found = grade_answer(answer, reference)
        return bool(found[0] if isinstance(found, tuple) else found)

    return equal


PUBLIC = {
    "math-verify": plain_math_verify,
    "lm-eval, hendrycks_math": lm_eval_hendrycks,
    "verl, PRM800K": verl_prm800k,
}


def alarmed(equal: Callable[[str, str], bool]) -> Grader:
    """Return a grader of rows: a comparison that raises or lasts too long is a wrong answer."""

    def grade(rows: Sequence[AuditRow]) -> list[Verdict]:
        verdicts = []
        for row in rows:
            signal.alarm(SECONDS)
            try:
                correct = equal(row.reference or "", row.answer)
            except Exception:
                correct = False
            finally:
                signal.alarm(0)
            verdicts.append(Verdict(correct, ""))
        return verdicts

    return grade


def graders() -> dict[str, Grader]:
    """Return ours and every public grader that is installed."""
    found: dict[str, Grader] = {"rstar": rstar_grader}
    for name, load in PUBLIC.items():
        try:
            found[name] = alarmed(load())
        except ImportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    return found


def pairs_per_second(grade: Grader) -> float:
    """Return simple pairs per second of processor time, workers' included."""
    pairs = simple_pairs()
    grade(pairs[:3])  # loads libraries
    for count in (len(pairs) // 50, len(pairs)):
        start = _processor_seconds()
        grade(pairs[:count])
        seconds = _processor_seconds() - start
        if seconds > MIN_SECONDS:
            break
    return count / seconds


def _processor_seconds() -> float:
    children = os.times()
    return time.process_time() + children.children_user + children.children_system


def golds(texts: list[str]) -> tuple[list[AuditRow], list[AuditRow]]:
    """Return each gold against itself in dollar signs, and random pairs of different golds."""
    itself = [
        AuditRow(i, text, f"${text}$", correct=True)
        for i, text in enumerate(random.Random(0).sample(texts, min(GOLDS, len(texts))))
    ]
    choose = random.Random(0)
    different = sorted(set(texts))
    pairs = [choose.sample(different, 2) for _ in range(DIFFERENT_PAIRS)]
    return itself, [AuditRow(i, a, b, correct=False) for i, (a, b) in enumerate(pairs)]


def simple_pairs() -> list[AuditRow]:
    choose = random.Random(0)
    numbers = [str(choose.randrange(10_000)) for _ in range(SIMPLE_PAIRS)]
    return [AuditRow(i, n, f"{n}.0" if i % 2 else str(i), correct=None) for i, n in enumerate(numbers)]


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


def share(k: KindFigures) -> str:
    return f"{k.right}/{k.labelled}" + (f" ({k.false_positives} fp)" if k.false_positives else "")


def main(
    file: Annotated[Path, typer.Argument(help="Labelled rows, JSONL.")] = TABLE,
    gold: Annotated[list[str] | None, typer.Option("--golds", help="FORMAT:PATH of problems with answers.")] = None,
) -> None:
    logging.disable()
    signal.signal(signal.SIGALRM, _expired)
    rows, faults = read_rows(file.read_text().splitlines())
    if faults:
        raise SystemExit("\n".join(faults))
    judges = graders()
    results = {}
    speeds = {}
    for name, grade in judges.items():
        with contextlib.redirect_stdout(sys.stderr):
            verdicts = grade(rows)
            speeds[name] = pairs_per_second(grade)
        print(f"{name}: {speeds[name]:,.0f} simple pairs/s", file=sys.stderr)
        results[name] = figures(rows, verdicts)
    names = list(judges)
    kinds = [k.kind for k in results["rstar"]]
    print(table(["kind", *names], [[kind, *(share(results[n][i]) for n in names)] for i, kind in enumerate(kinds)]))
    totals = []
    for n in names:
        k = results[n][-1]
        ratio = speeds[n] / speeds["math-verify"] if "math-verify" in speeds else float("nan")
        totals.append(
            [n, f"{k.accuracy:.1%}", k.false_positives, k.false_negatives, f"{speeds[n]:,.0f}", f"{ratio:.1f}"]
        )
    header = ["grader", "as labelled", "false positives", "false negatives", "simple pairs/s", "ratio to math-verify"]
    print(table(header, totals))
    for text in gold or ():
        form, _, path = text.partition(":")
        answers = [p.answer for p in read_problems(Path(path), form) if p.answer]
        itself, different = golds(answers)
        lines = []
        for name, grade in judges.items():
            with contextlib.redirect_stdout(sys.stderr):
                same, apart = grade(itself), grade(different)
            equal = [r for r, v in zip(different, apart, strict=True) if v.correct]
            lines.append([name, f"{sum(v.correct for v in same)}/{len(itself)}", f"{len(equal)}/{len(different)}"])
            for row in equal[:20]:
                print(f"{name}: {row.reference} = {row.answer}", file=sys.stderr)
        print(
            table([Path(path).parent.name + "/" + Path(path).name, "equal themselves", "different pairs equal"], lines)
        )


def _expired(signal_number: int, frame: object) -> None:
    raise TimeoutError


if __name__ == "__main__":
    typer.run(main)
