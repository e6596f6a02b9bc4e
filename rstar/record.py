"""The record of a finished search: its trees as flat rows.

The search grows linked nodes (``rstar.search.tree``); the wire, Parquet shards, selection and evaluation use records.
A record is complete: selection needs nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Usage:
    """The work of a search; every method counts in the same way.

    ``tokens`` counts every generated token, duplicates and failed candidates included;
    ``nodes`` the distinct candidates that entered the tree.
    """

    rollouts: int = 0
    nodes: int = 0
    tokens: int = 0
    executions: int = 0
    scored: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.rollouts + other.rollouts,
            self.nodes + other.nodes,
            self.tokens + other.tokens,
            self.executions + other.executions,
            self.scored + other.scored,
        )


@dataclass(frozen=True, slots=True)
class LeadingTrajectory:
    """The trajectory that leads a search so far: the highest PPM score, or without scores the one found last.

    The search may choose another one at its end, by a vote for example. ``steps`` are texts as generated.
    """

    steps: tuple[str, ...]
    answer: str
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a search is: its usage, its finished trajectories, how many of these are correct, and which one leads."""

    usage: Usage
    trajectories: int
    correct: int
    leading: LeadingTrajectory | None = None


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """One node of a search tree; ``parent`` is a position in ``SearchRecord.nodes`` (-1: a root, text '').

    ``visits`` and ``value`` are N(s) and q(s) of equation 1, so Q(s) = value / visits.
    ``terminal`` nodes end a trajectory; ``correct`` is None where there was no verifier.
    """

    parent: int
    tree: int = 0
    text: str = ""
    tokens: int = 0
    logprob: float = 0.0
    visits: int = 0
    value: float = 0.0
    score: float | None = None
    valid: bool = True
    reason: str = ""
    terminal: bool = False
    output: str = ""
    answer: str | None = None
    correct: bool | None = None

    @property
    def q(self) -> float:
        """Mean reward of this step (equation 1): q over N, 0 for a node never visited."""
        return self.value / self.visits if self.visits else 0.0


@dataclass(frozen=True, slots=True)
class SearchRecord:
    """A finished search of one problem. Parents come before children; ``chosen`` is a terminal's position or -1.

    ``error`` is the reason of a search that failed; the nodes found before are kept.
    """

    problem_id: str
    nodes: tuple[NodeRecord, ...]
    usage: Usage = field(default_factory=Usage)
    chosen: int = -1
    policy_digest: str = ""
    ppm_digest: str = ""
    error: str = ""

    def path(self, node: int) -> list[int]:
        """Return the positions from the first step down to ``node``, the root left out."""
        positions: list[int] = []
        while node >= 0 and self.nodes[node].parent >= 0:
            positions.append(node)
            node = self.nodes[node].parent
        return positions[::-1]

    def steps(self, node: int) -> list[str]:
        """Return the step texts of the partial trajectory that ends in ``node``."""
        return [self.nodes[i].text for i in self.path(node)]

    def terminals(self) -> Iterator[int]:
        """Yield the positions of the nodes that end a valid trajectory (an answer was given)."""
        return (i for i, node in enumerate(self.nodes) if node.terminal and node.answer is not None)

    @property
    def solved(self) -> bool:
        """Whether any trajectory is correct."""
        return any(node.correct for node in self.nodes)
