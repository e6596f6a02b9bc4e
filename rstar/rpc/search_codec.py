"""Encodes ``Problem``, ``Usage`` and ``SearchRecord`` as messages of the search service and decodes them, without loss.

As in ``rstar.rpc.codec``, only lone surrogates change (to U+FFFD).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from rstar.config import SearchConfig
from rstar.problem import Problem
from rstar.record import LeadingTrajectory, NodeRecord, Progress, SearchRecord, Usage
from rstar.rpc.codec import wire_text
from rstar.v1 import search_pb2

PART_BYTES: Final = 16 << 20
"""Size of one message with nodes; a message may have 64 MiB (``transport.MAX_MESSAGE_BYTES``)."""


def solve_request(
    problem: Problem, config: SearchConfig, verifier: str, equivalence: str, seed: int
) -> search_pb2.SolveRequest:
    """Encode a call of ``SearchService.Solve``. Raises ``TypeError`` when ``problem.data`` is not JSON."""
    return search_pb2.SolveRequest(
        problem=search_pb2.Problem(
            id=wire_text(problem.id),
            question=wire_text(problem.question),
            answer=None if problem.answer is None else wire_text(problem.answer),
            data_json=json.dumps(dict(problem.data)) if problem.data else "",
            synthetic=problem.synthetic,
        ),
        # Only the fields of SearchConfig itself: the settings of a round derive from it and have more.
        config_json=config.model_dump_json(by_alias=True, include=set(SearchConfig.model_fields)),
        verifier=verifier,
        equivalence=equivalence,
        seed=seed,
    )


def read_problem(message: search_pb2.Problem) -> Problem:
    """Decode a problem. Raises ``ValueError`` with one sentence when its data are not a JSON object."""
    try:
        data = json.loads(message.data_json) if message.data_json else {}
    except json.JSONDecodeError as error:
        raise ValueError(
            f"problem {message.id!r}: data_json is not JSON ({error}); send a JSON object or nothing"
        ) from None
    if not isinstance(data, dict):
        raise ValueError(f"problem {message.id!r}: data_json is a {type(data).__name__}; send a JSON object or nothing")
    answer = message.answer if message.HasField("answer") else None
    return Problem(message.id, message.question, answer, data, message.synthetic)


def usage_message(usage: Usage) -> search_pb2.Usage:
    """Encode the usage of a search."""
    return search_pb2.Usage(
        rollouts=usage.rollouts,
        nodes=usage.nodes,
        tokens=usage.tokens,
        executions=usage.executions,
        scored=usage.scored,
    )


def read_usage(message: search_pb2.Usage) -> Usage:
    """Decode the usage of a search."""
    return Usage(message.rollouts, message.nodes, message.tokens, message.executions, message.scored)


def progress_response(progress: Progress) -> search_pb2.SolveResponse:
    """Encode one progress event."""
    leading = progress.leading
    return search_pb2.SolveResponse(
        progress=search_pb2.Progress(
            usage=usage_message(progress.usage),
            trajectories=progress.trajectories,
            correct=progress.correct,
            leading=None
            if leading is None
            else search_pb2.LeadingTrajectory(
                steps=map(wire_text, leading.steps), answer=wire_text(leading.answer), score=leading.score
            ),
        )
    )


def read_progress(message: search_pb2.Progress) -> Progress:
    """Decode one progress event."""
    leading = None
    if message.HasField("leading"):
        found = message.leading
        score = found.score if found.HasField("score") else None
        leading = LeadingTrajectory(tuple(found.steps), found.answer, score)
    return Progress(read_usage(message.usage), message.trajectories, message.correct, leading)


def result_responses(record: SearchRecord) -> Iterator[search_pb2.SolveResponse]:
    """Encode a finished search: its nodes in messages of about ``PART_BYTES``, the result last."""
    nodes: list[search_pb2.TreeNode] = []
    size = 0
    for node in map(_node_message, record.nodes):
        if nodes and size + node.ByteSize() > PART_BYTES:
            yield search_pb2.SolveResponse(nodes=search_pb2.TreeNodes(nodes=nodes))
            nodes, size = [], 0
        nodes.append(node)
        size += node.ByteSize()
    yield search_pb2.SolveResponse(
        result=search_pb2.SearchResult(
            nodes=nodes,
            usage=usage_message(record.usage),
            chosen=record.chosen,
            policy_digest=record.policy_digest,
            ppm_digest=record.ppm_digest,
            error=wire_text(record.error),
        )
    )


def read_nodes(wire: Iterable[search_pb2.TreeNode]) -> list[NodeRecord]:
    """Decode nodes of a result."""
    return [_read_node(node) for node in wire]


def read_result(problem_id: str, earlier: Sequence[NodeRecord], message: search_pb2.SearchResult) -> SearchRecord:
    """Decode the finished search of ``problem_id``; ``earlier`` are the nodes that were sent before its result."""
    return SearchRecord(
        problem_id,
        (*earlier, *read_nodes(message.nodes)),
        read_usage(message.usage),
        message.chosen,
        message.policy_digest,
        message.ppm_digest,
        message.error,
    )


def _node_message(node: NodeRecord) -> search_pb2.TreeNode:
    return search_pb2.TreeNode(
        parent=node.parent,
        tree=node.tree,
        text=wire_text(node.text),
        tokens=node.tokens,
        logprob=node.logprob,
        visits=node.visits,
        value=node.value,
        score=node.score,
        valid=node.valid,
        reason=wire_text(node.reason),
        terminal=node.terminal,
        output=wire_text(node.output),
        answer=None if node.answer is None else wire_text(node.answer),
        correct=node.correct,
    )


def _read_node(wire: search_pb2.TreeNode) -> NodeRecord:
    return NodeRecord(
        parent=wire.parent,
        tree=wire.tree,
        text=wire.text,
        tokens=wire.tokens,
        logprob=wire.logprob,
        visits=wire.visits,
        value=wire.value,
        score=wire.score if wire.HasField("score") else None,
        valid=wire.valid,
        reason=wire.reason,
        terminal=wire.terminal,
        output=wire.output,
        answer=wire.answer if wire.HasField("answer") else None,
        correct=wire.correct if wire.HasField("correct") else None,
    )
