"""A stored search tree in the terminal, or as JSON. Pure rendering; a text of the store is never read as markup."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text
from rich.tree import Tree

from rstar.cli.console import visible
from rstar.record import NodeRecord
from rstar.report.tree_source import StoredTree
from rstar.trajectory import MARKERS

LINE_CHARACTERS = 90


def verdict_words(right: bool | None) -> str:
    """Return a problem's mark in words."""
    return "no verdict" if right is None else "right" if right else "wrong"


def tree_json(stored: StoredTree) -> dict[str, Any]:
    """Return the whole tree as plain data: the keys of the trees table, with ``q`` and ``position`` of every node."""
    record, problem = stored.record, stored.problem
    return {
        "round": stored.round,
        "method": stored.method,
        "right": stored.right,
        "problem": problem.id,
        "question": problem.question,
        "reference": problem.answer,
        "chosen": record.chosen,
        "usage": asdict(record.usage),
        "policyDigest": record.policy_digest,
        "ppmDigest": record.ppm_digest,
        "error": record.error,
        "nodes": [{"position": place, **asdict(node), "q": node.q} for place, node in enumerate(record.nodes)],
    }


def node_json(stored: StoredTree, position: int) -> dict[str, Any]:
    """Return one node, with the positions from the first step down to it."""
    node = stored.record.nodes[position]
    return {"position": position, **asdict(node), "q": node.q, "path": stored.record.path(position)}


def tree_view(stored: StoredTree, depth: int | None, best: int | None) -> RenderableType:
    """Return the tree. ``depth``: the deepest step shown; ``best``: the most next steps shown per node, highest Q first."""
    record = stored.record
    below: list[list[int]] = [[] for _ in record.nodes]
    roots: list[tuple[int, Tree]] = []
    for position, node in enumerate(record.nodes):
        if node.parent >= 0:
            below[node.parent].append(position)
        else:
            roots.append((position, Tree(_root_line(position, node))))
    chosen = set(record.path(record.chosen))
    waiting = [(position, 0, branch) for position, branch in roots]
    while waiting:
        position, level, branch = waiting.pop()
        shown = below[position] if depth is None or level < depth else []
        if best is not None:  # the chosen path stays in view
            ranked = sorted(shown, key=lambda i: (i not in chosen, -record.nodes[i].q, -record.nodes[i].visits, i))
            shown = sorted(ranked[:best])
        waiting += [
            (i, level + 1, branch.add(_line(i, record.nodes[i], i in chosen, i == record.chosen))) for i in shown
        ]
        if hidden := len(below[position]) - len(shown):
            branch.add(Text(f"{hidden} more", style="dim"))
    return Group(_heading(stored), *(branch for _, branch in roots))


def node_view(stored: StoredTree, position: int) -> RenderableType:
    """Return one node in full: its figures, code, output and path."""
    node, record = stored.record.nodes[position], stored.record
    path = " > ".join(str(i) for i in record.path(position)) or "a root"
    figures = Text(
        f"node {position}   {status(node)}   Q {node.q:+.3f}   N {node.visits}   "
        f"PPM {'not scored' if node.score is None else f'{node.score:+.3f}'}   "
        f"log-prob {node.logprob:.3f} nats   {node.tokens} tokens\npath {path}"
    )
    parts: list[RenderableType] = [_heading(stored), figures]
    for title, text in (("code", node.text), ("output", node.output), ("answer", node.answer), ("reason", node.reason)):
        if text:
            parts.append(Panel(Text(visible(text, "\n\t")), title=title, title_align="left"))
    return Group(*parts)


def status(node: NodeRecord) -> str:
    """Return a node's status in words."""
    if not node.valid:
        return "failed"
    if node.correct is not None:
        return "right answer" if node.correct else "wrong answer"
    return "answer" if node.terminal else "step"


def _heading(stored: StoredTree) -> Text:
    record, problem = stored.record, stored.problem
    usage = record.usage
    heading = Text(visible(problem.question, "\n"), style="bold")
    heading.append(
        f"\n{problem.id}   round {stored.round}   {stored.method}   {verdict_words(stored.right)}   "
        f"{len(record.nodes):,} nodes   {usage.rollouts:,} rollouts   {usage.tokens:,} tokens",
        style="not bold dim",
    )
    if record.error:
        heading.append(f"\nthe search ended early: {visible(record.error)}", style="not bold red")
    return heading


def _root_line(position: int, node: NodeRecord) -> Text:
    return Text(f"{position} tree {node.tree + 1}  Q {node.q:+.2f}  N {node.visits}", style="dim")


def _line(position: int, node: NodeRecord, on_path: bool, chosen: bool) -> Text:
    words = status(node)
    style = {"failed": "red", "wrong answer": "red", "right answer": "green"}.get(words, "cyan")
    text = node.text
    for marker in MARKERS:
        text = text.replace(marker, " ")
    title = visible(" ".join(text.split()))
    line = Text(f"{position} ", style="dim")
    line.append(f"Q {node.q:+.2f}  N {node.visits}  ", style="not dim")
    line.append(words, style=f"not dim {style}")
    line.append("  " + title[:LINE_CHARACTERS], style="not dim bold" if on_path else "not dim")
    if chosen:
        line.append("  <- chosen", style="not dim bold")
    elif not node.valid and node.reason:
        line.append(f"  ({visible(node.reason)[:LINE_CHARACTERS]})", style="dim")
    return line
