"""A search service on loopback that knows the answers: real gRPC, no models.

``python -m tests.support.rpc.scripted_search --answers FILE --seconds 0.2`` serves JSON lines with question and answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rstar.config import SearchConfig
from rstar.problem import Problem
from rstar.record import LeadingTrajectory, NodeRecord, Progress, SearchRecord, Usage
from rstar.rpc.search_codec import progress_response, read_problem, result_responses
from rstar.rpc.serving import serve
from rstar.v1 import search_pb2, search_pb2_grpc
from tests.support.rpc.servicers import SOLVE, Before, Calls, Context, at_once

TOKENS_PER_STEP = 7


def record_of(problem: Problem, answer: str | None, extra_tokens: int = 100) -> SearchRecord:
    """Return a search whose chosen trajectory computes ``answer`` in two steps and gives it; None: no answer found."""
    usage = Usage(rollouts=4, nodes=9, tokens=3 * TOKENS_PER_STEP + extra_tokens, executions=9, scored=0)
    if answer is None:
        return SearchRecord(problem.id, (NodeRecord(-1),), usage)
    nodes = (
        NodeRecord(-1),
        NodeRecord(0, text="<code>\n# Step 1: take the number\nx = 5\n<end_of_step>\n", tokens=TOKENS_PER_STEP),
        NodeRecord(
            1,
            text=f"# Step 2: print it\nprint(x)\n<end_of_code>\n<output>{answer}<end_of_output>\n",
            tokens=TOKENS_PER_STEP,
            output=answer,
        ),
        NodeRecord(
            2,
            text=f"<answer>So it is $\\boxed{{{answer}}}$.<end_of_answer>",
            tokens=TOKENS_PER_STEP,
            terminal=True,
            answer=answer,
            output=answer,
            score=0.5,
        ),
    )
    return SearchRecord(problem.id, nodes, usage, 3, "policy-digest", "ppm-digest")


@dataclass(frozen=True, slots=True)
class Asked:
    """One call that reached the service."""

    problem: Problem
    config: SearchConfig
    seed: int
    equivalence: str
    seconds: float | None


class ScriptedSearch(search_pb2_grpc.SearchServiceServicer):
    """Sends one progress event with the trajectory of answer 41, waits for ``before``, then answers with ``answer(question)``."""

    def __init__(self, answer: Callable[[str], str | None] = lambda _: "42", before: Before = at_once) -> None:
        self.answer = answer
        self.before = before
        self.calls = Calls()
        self.asked: list[Asked] = []

    async def Solve(self, request: search_pb2.SolveRequest, context: Context) -> None:  # type: ignore[override]  # noqa: N802
        problem = read_problem(request.problem)
        config = SearchConfig.model_validate_json(request.config_json)
        self.asked.append(Asked(problem, config, request.seed, request.equivalence, context.time_remaining()))
        async with self.calls.count():
            if self.before is not at_once:
                found = record_of(problem, "41")
                leading = LeadingTrajectory(tuple(found.steps(found.chosen)), "41", 0.25)
                usage = Usage(1, 3, TOKENS_PER_STEP, 3, 0)
                await context.write(progress_response(Progress(usage, 1, 0, leading)))
            await self.before(context)
            for message in result_responses(record_of(problem, self.answer(problem.question))):
                await context.write(message)


def answers_in(file: Path) -> Mapping[str, str]:
    """Return the final answers of a file of GSM8K by question."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return {row["question"].strip(): row["answer"].rpartition("####")[2].strip() for row in rows}


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--answers", type=Path, help="JSON lines with question and answer; without: always 42")
    parser.add_argument("--seconds", type=float, default=0.0, help="duration of a search")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    known = answers_in(arguments.answers) if arguments.answers else None

    def answer(question: str) -> str | None:
        if known is None:
            return "42"
        # A benchmark's prompt surrounds the question.
        return next((value for text, value in known.items() if text in question), "0")

    async def wait(_: Context) -> None:
        await asyncio.sleep(arguments.seconds)

    service = ScriptedSearch(answer, wait)
    await serve(
        "search",
        lambda server: search_pb2_grpc.add_SearchServiceServicer_to_server(service, server),
        [SOLVE],
        port=arguments.port,
    )


if __name__ == "__main__":
    asyncio.run(main())
