"""One trajectory of a search as a sample for readers: pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rstar.problem import Problem
from rstar.record import NodeRecord, SearchRecord
from rstar.report.data import ROLLOUT, Sample, SampleStep
from rstar.rounds.evaluation import ProblemResult

TEXT_LIMIT: Final = 4_000
"""Most characters of one text of a sample; the tree viewer has the whole."""


def sample(
    round_name: str, source: str, problem: Problem, record: SearchRecord, result: ProblemResult | None
) -> Sample:
    """Return the trajectory that stands for the search.

    Of an evaluation that is the answer given. Of a training search it is the correct trajectory with the highest mean
    Q, or where none is correct the wrong one with the highest: the mistake that the search believed most. Where no
    trajectory has an answer, it is the longest path, which ends in a failed step.
    """
    end = _end(record, source)
    node = record.nodes[end] if end >= 0 else None
    answered = node is not None and node.answer is not None
    if source == ROLLOUT:
        right: bool | None = bool(node.correct) if node is not None and answered else False
    else:
        right = None if result is None else result.correct
    path = record.path(end) if end >= 0 else []
    return Sample(
        round=round_name,
        source=source,
        problem_id=problem.id,
        question=shortened(problem.question),
        reference=None if problem.answer is None else shortened(problem.answer),
        answer=shortened(node.answer or "") if node is not None and answered else None,
        right=right,
        tokens=record.usage.tokens,
        error=shortened(record.error),
        steps=tuple(_step(record.nodes[position]) for position in path),
    )


def shortened(text: str, limit: int = TEXT_LIMIT) -> str:
    """Return ``text``, or its first and last characters with a line of three dots between them."""
    return text if len(text) <= limit else f"{text[: limit // 2]}\n...\n{text[-limit // 2 :]}"


def _end(record: SearchRecord, source: str) -> int:
    if source != ROLLOUT and 0 <= record.chosen < len(record.nodes):
        return record.chosen
    if source == ROLLOUT and (terminals := list(record.terminals())):
        return max(terminals, key=lambda i: (bool(record.nodes[i].correct), _mean_q(record, record.path(i)), -i))
    depths = _depths(record)
    return max(range(len(depths)), key=lambda i: (depths[i], -i)) if any(depths) else -1


def _mean_q(record: SearchRecord, path: Sequence[int]) -> float:
    return sum(record.nodes[i].q for i in path) / len(path) if path else 0.0


def _depths(record: SearchRecord) -> list[int]:
    depths: list[int] = []
    for node in record.nodes:
        depths.append(depths[node.parent] + 1 if node.parent >= 0 else 0)
    return depths


def _step(node: NodeRecord) -> SampleStep:
    return SampleStep(
        shortened(node.text), shortened(node.output), shortened(node.reason, 300), node.score, node.q, node.visits
    )
