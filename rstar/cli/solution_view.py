"""A search record as text or JSON: the chosen trajectory, its output, its verdict and its cost. Pure rendering."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from rich.console import Group
from rich.panel import Panel
from rich.syntax import Syntax
from rich.text import Text

from rstar.cli.console import visible, wide_console
from rstar.interfaces import Verdict
from rstar.problem import Problem
from rstar.record import SearchRecord
from rstar.trajectory import code_of

KEPT: Final = "\n\t"
"""Control characters that stay as they are."""


def solution_json(
    problem: Problem, record: SearchRecord, scores: Sequence[float] | None, verdict: Verdict | None
) -> str:
    """Return the solution as one JSON object. ``scores``: the PPM's, one per step of the chosen trajectory."""
    node = record.nodes[record.chosen] if record.chosen >= 0 else None
    usage = record.usage
    content: dict[str, Any] = {
        "problem": problem.id,
        "question": problem.question,
        "answer": node.answer if node else None,
        "correct": verdict.correct if verdict else None,
        "reason": verdict.reason if verdict else None,
        "output": node.output if node else None,
        "score": node.score if node else None,
        "trajectory": record.steps(record.chosen) if node else [],
        "stepScores": None if scores is None else list(scores),
        "trajectories": sum(1 for _ in record.terminals()),
        "usage": {
            "rollouts": usage.rollouts,
            "nodes": usage.nodes,
            "tokens": usage.tokens,
            "executions": usage.executions,
            "scored": usage.scored,
        },
        "policyDigest": record.policy_digest,
        "ppmDigest": record.ppm_digest,
    }
    return json.dumps(content)


def print_solution(
    problem: Problem, record: SearchRecord, scores: Sequence[float] | None, verdict: Verdict | None
) -> None:
    """Print the solution. ``scores`` as in ``solution_json``."""
    console = wide_console()
    console.print(Text(visible(problem.question, KEPT), style="bold"))
    usage = record.usage
    cost = f"{sum(1 for _ in record.terminals())} trajectories, {usage.nodes:,} nodes, {usage.tokens:,} generated tokens, {usage.executions:,} programs run"
    if record.chosen < 0:
        console.print("no trajectory reached an answer: try more --rollouts, or another --method", style="yellow")
        console.print(cost, style="dim")
        return
    node = record.nodes[record.chosen]
    code = visible(code_of(record.steps(record.chosen)).strip("\n"), KEPT)
    program = Syntax(code, "python", background_color="default", word_wrap=True)
    console.print(Panel(Group(program), title="program", title_align="left"))
    if node.output:
        console.print(Panel(Text(visible(node.output, KEPT)), title="output", title_align="left"))
    line = Text.assemble(("answer ", "dim"), (visible(node.answer or "", KEPT), "bold"))
    if verdict is not None:
        line.append(
            f"   {'correct' if verdict.correct else 'wrong'}: {visible(verdict.reason)}",
            style="green" if verdict.correct else "red",
        )
    if node.score is not None:
        line.append(f"   PPM score {node.score:+.3f}", style="dim")
    console.print(line)
    if scores:
        console.print(f"PPM score by step: {'  '.join(f'{score:+.3f}' for score in scores)}", style="dim")
    console.print(cost, style="dim")
