"""The search tree: nodes, selection by UCT (equation 1) and backup (equation 2). Pure data and arithmetic, no I/O."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

from rstar.record import NodeRecord


class Node:
    """One step of a partial trajectory; the root has no text.

    ``visits`` is N(s), ``value`` is q(s). ``closed`` nodes are never visited again: terminals whose
    verdict is known, steps that failed, and nodes with nothing left to try below them.
    """

    __slots__ = (
        "answer", "barren", "children", "closed", "code_ended", "correct", "depth", "errors", "exhausted", "logprob",
        "output", "parent", "reason", "score", "terminal", "text", "tokens", "valid", "value", "visits",
    )  # fmt: skip

    def __init__(self, parent: Node | None = None, text: str = "", tokens: int = 0, logprob: float = 0.0) -> None:
        self.parent = parent
        self.text = text
        self.tokens = tokens
        self.logprob = logprob
        self.depth: int = parent.depth + 1 if parent else 0
        self.children: list[Node] | None = None  # None: not expanded yet
        self.visits = 0
        self.value = 0.0
        self.score: float | None = None
        self.valid = True
        self.reason = ""
        self.errors = 0  # steps in a row, this one included, whose code failed
        self.terminal = False
        self.code_ended = False  # the program is finished; only the answer is missing
        self.output: str | None = None
        self.answer: str | None = None
        self.correct: bool | None = None
        self.closed = False
        self.exhausted = False  # it gets no more children
        self.barren = 0  # passes in a row that proposed nothing new

    def steps(self) -> tuple[str, ...]:
        """Return the step texts from the first step down to this node."""
        steps: list[str] = []
        node: Node | None = self
        while node is not None and node.parent is not None:
            steps.append(node.text)
            node = node.parent
        return tuple(steps[::-1])

    def walk(self) -> Iterator[Node]:
        """Yield this node and all below it, parents before children."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children or ()))


def select_child(node: Node, c: float, unvisited: Literal["first", "zero"]) -> Node | None:
    """Return the open child with the highest UCT, the first of equals; None when all are closed.

    Equation 1: ``UCT(s) = Q(s) + c sqrt(ln N_parent(s) / N(s))``. It is undefined for an unvisited child: with
    ``first`` that is selected before any other, with ``zero`` its UCT is 0, as in the paper's release.
    """
    best: Node | None = None
    best_value = -math.inf
    log_parent = math.log(max(node.visits, 1))
    for child in node.children or ():
        if child.closed:
            continue
        visits = child.visits
        if visits:
            value = child.value / visits + c * math.sqrt(log_parent / visits)
        elif unvisited == "first":
            return child
        else:
            value = 0.0
        if value > best_value:
            best, best_value = child, value
    return best


def backup(node: Node, reward: float) -> None:
    """Equation 2: add ``reward`` to q and 1 to N of the node and of every ancestor."""
    current: Node | None = node
    while current is not None:
        current.visits += 1
        current.value += reward
        current = current.parent


def close(node: Node) -> None:
    """Close a node, and with it every ancestor below which nothing is left to try."""
    node.closed = True
    parent = node.parent
    while parent is not None and parent.exhausted and all(child.closed for child in parent.children or ()):
        parent.closed = True
        parent = parent.parent


def records(roots: Sequence[Node]) -> list[NodeRecord]:
    """Flatten trees to rows, parents before children."""
    rows: list[NodeRecord] = []
    position: dict[int, int] = {}
    for tree, root in enumerate(roots):
        for node in root.walk():
            position[id(node)] = len(rows)
            rows.append(
                NodeRecord(
                    parent=position[id(node.parent)] if node.parent else -1,
                    tree=tree,
                    text=node.text,
                    tokens=node.tokens,
                    logprob=node.logprob,
                    visits=node.visits,
                    value=node.value,
                    score=node.score,
                    valid=node.valid,
                    reason=node.reason,
                    terminal=node.terminal,
                    output=node.output or "",
                    answer=node.answer,
                    correct=node.correct,
                )
            )
    return rows
