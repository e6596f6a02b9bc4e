r"""A finished search as text: readable steps, then the answer in forms that graders of benchmarks read. Pure.

The last lines are ``The answer is $\boxed{42}$.`` and, for a number, ``#### 42``: the box for graders of MATH, the last
line for GSM8K's, and for those that take the last word or number. As Markdown it is a heading.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from rstar.record import LeadingTrajectory, Progress, SearchRecord
from rstar.trajectory import ANSWER, END_OF_OUTPUT, MARKERS, OUTPUT, code_of, step_failed
from rstar_openai.request import ChatRequest

NO_ANSWER: Final = "The search found no answer. Ask for more rollouts, or ask again with another seed."

_NUMBER: Final = re.compile(r"-?\$?\d[\d,]*(\.\d+)?%?")
_OUTPUT: Final = re.compile(f"{OUTPUT}(.*?){END_OF_OUTPUT}", re.DOTALL)
_TICKS: Final = re.compile(r"`{3,}")
_MARKER: Final = re.compile("|".join(map(re.escape, MARKERS)))


@dataclass(frozen=True, slots=True)
class Solution:
    """The text of one choice: ``steps`` and ``final`` together are all of it. ``tokens`` are the chosen trajectory's."""

    steps: tuple[str, ...]
    final: str
    tokens: int
    finish_reason: str
    facts: dict[str, Any]


def solution_of(record: SearchRecord, request: ChatRequest, seed: int) -> Solution:
    """Return the chosen trajectory of ``record`` as text, cut before the first of the request's stop sequences.

    Stop sequences cut the content alone: the steps only where they are part of it.
    """
    facts = _facts(record, request, seed)
    if record.chosen < 0:
        return Solution((), NO_ANSWER, 0, "length", facts)
    node = record.nodes[record.chosen]
    path = record.path(record.chosen)
    steps = _steps(record.steps(record.chosen))
    tokens = sum(record.nodes[i].tokens for i in path)
    if request.steps == "text":
        parts = cut((*steps, _final(node.answer or "")), request.stop)
        return Solution(parts[:-1], parts[-1], tokens, "stop", facts)
    return Solution(steps, cut((_final(node.answer or ""),), request.stop)[0], tokens, "stop", facts)


def cut(parts: Sequence[str], stops: Sequence[str]) -> tuple[str, ...]:
    """Return ``parts``, whose joined text ends before the first occurrence of a stop sequence.

    >>> cut(("ab", "cd"), ["c"])
    ('ab', '')
    """
    whole = "".join(parts)
    left = min((at for stop in stops if (at := whole.find(stop)) >= 0), default=len(whole))
    kept = []
    for part in parts:
        kept.append(part[:left])
        left -= len(kept[-1])
    return tuple(kept)


def progress_line(progress: Progress) -> str:
    """Return the progress of a search as one line."""
    usage, found = progress.usage, progress.trajectories
    return f"rollouts: {usage.rollouts}, steps: {usage.nodes}, solutions: {found}, tokens: {usage.tokens}\n"


def leading_text(leading: LeadingTrajectory) -> str:
    """Return the trajectory that leads a search as text: its answer and score, then its steps."""
    score = "" if leading.score is None else f" (PPM score {leading.score:.2f})"
    return f"\nBest solution so far, answer {leading.answer.strip()}{score}:\n\n{''.join(_steps(leading.steps))}"


def _facts(record: SearchRecord, request: ChatRequest, seed: int) -> dict[str, Any]:
    """Return the facts of a search that OpenAI's format has no field for."""
    node = record.nodes[record.chosen] if record.chosen >= 0 else None
    return {
        "answer": node.answer if node else None,
        "score": node.score if node else None,
        "trajectory": record.steps(record.chosen) if node else [],
        "trajectories": sum(1 for _ in record.terminals()),
        "seed": seed,
        "usage": {
            "rollouts": record.usage.rollouts,
            "nodes": record.usage.nodes,
            "executions": record.usage.executions,
            "scored": record.usage.scored,
        },
        "config": request.config.model_dump(mode="json", by_alias=True),
        "ignoredMessages": request.ignored_messages,
        "policyDigest": record.policy_digest,
        "ppmDigest": record.ppm_digest,
    }


def _steps(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(shown for i, text in enumerate(texts) if (shown := _step(text, i + 1)))


def _step(text: str, number: int) -> str:
    """Return one step as Markdown: its code as a block, its prose as it is; '' for a failed or an empty one."""
    if step_failed(text):
        return ""
    program = code_of([text]).strip("\n")
    blocks = [f"Step {number}\n{_fenced(program, 'python')}"] if program.strip() else []
    blocks += [f"Output:\n{_fenced(output.strip(), 'text')}" for output in _OUTPUT.findall(text) if output.strip()]
    if said := _MARKER.sub("", text.partition(ANSWER)[2]).strip():
        blocks.append(said)
    return "".join(f"{block}\n\n" for block in blocks)


def _fenced(text: str, language: str) -> str:
    """Return a block of code, with a fence longer than any in ``text``."""
    fence = "`" * max(3, *(len(ticks) + 1 for ticks in _TICKS.findall(text)), 3)
    return f"{fence}{language}\n{text}\n{fence}"


def _final(answer: str) -> str:
    line = f"The answer is $\\boxed{{{answer}}}$."
    return f"{line}\n\n#### {answer.strip()}" if _NUMBER.fullmatch(answer.strip()) else line
