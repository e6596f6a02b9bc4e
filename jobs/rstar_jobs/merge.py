"""Two searches of one problem as one record: trees side by side, spending added up. Pure."""

from __future__ import annotations

from dataclasses import replace

from rstar.record import SearchRecord


def merge(first: SearchRecord, second: SearchRecord) -> SearchRecord:
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
