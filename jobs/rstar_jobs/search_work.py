"""The work of a searching stage as plain data: problems in shards, the searches of each, and what they found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rstar.config import SearchConfig
from rstar.problem import Problem
from rstar.record import SearchRecord


@dataclass(frozen=True, slots=True)
class SearchRun:
    """One search of a problem."""

    config: SearchConfig
    seed: int


@dataclass(frozen=True, slots=True)
class Shard:
    """Problems that are stored together under ``name``.

    ``runs`` gives the searches of a problem, in turn: a later one runs only while the problem is unsolved.
    ``verifier``: the name of the verifier that rewards answers, '' for none; ``equivalence``: of the one that tells
    which answers are equal in a vote.
    """

    name: str
    problems: tuple[Problem, ...]
    runs: Callable[[Problem], Sequence[SearchRun]]
    verifier: str = ""
    equivalence: str = ""


Searched = tuple[Shard, list[SearchRecord]]
"""A shard and the records of its problems, in order."""

Partial = Mapping[str, Mapping[int, SearchRecord]]
"""The records of finished problems of unfinished shards, by shard name and position."""


def shards_of(problems: Sequence[Problem], size: int) -> Iterator[tuple[Problem, ...]]:
    """Cut the problems into parts of ``size``, in order."""
    return (tuple(problems[i : i + size]) for i in range(0, len(problems), size))


def merge_records(first: SearchRecord, second: SearchRecord) -> SearchRecord:
    """Append the trees of ``second``, numbered after those of ``first``; the first choice stays if there is one.

    Raises ``ValueError`` when they are of different problems.
    """
    if first.problem_id != second.problem_id:
        raise ValueError(f"searches of {first.problem_id} and {second.problem_id} cannot be merged")
    offset = len(first.nodes)
    trees = max((node.tree for node in first.nodes), default=-1) + 1
    moved = tuple(
        replace(node, parent=node.parent + offset if node.parent >= 0 else -1, tree=node.tree + trees)
        for node in second.nodes
    )
    chosen = first.chosen
    if chosen < 0 <= second.chosen:
        chosen = second.chosen + offset
    return SearchRecord(
        problem_id=first.problem_id,
        nodes=first.nodes + moved,
        usage=first.usage + second.usage,
        chosen=chosen,
        policy_digest=second.policy_digest or first.policy_digest,
        ppm_digest=second.ppm_digest or first.ppm_digest,
        error=first.error or second.error,
    )
