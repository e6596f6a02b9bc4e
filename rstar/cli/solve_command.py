"""``rstar solve``: answers one question by any search method and prints the chosen trajectory.

The search is ``rstar.search.solve``. An answer is judged only where the problem has the expected one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rstar.cli.errors import CommandError
from rstar.cli.model_clients import ModelClients, requested_services, run_with_models
from rstar.cli.options import (
    DEFAULT_STORE,
    ExecutorOption,
    FormatOption,
    JsonOption,
    PolicyModelOption,
    PolicyOption,
    PpmModelOption,
    PpmOption,
    PromptOption,
    SplitOption,
    StoreOption,
    assignments,
    problems_of,
    search_config,
    verifier_named,
)

if TYPE_CHECKING:
    from rstar.interfaces import Verdict
    from rstar.problem import Problem
    from rstar.readers import Reading
    from rstar.record import SearchRecord


def solve(
    question: Annotated[
        str | None, typer.Argument(metavar="QUESTION", help="The question; or use --problem.", show_default=False)
    ] = None,
    problem: Annotated[
        str | None,
        typer.Option(
            help="A problem of a file, store:PATH or hf:NAME: FILE:ID, or FILE:3 for its third row; FILE alone: its first."
        ),
    ] = None,
    form: FormatOption = "jsonl",
    split: SplitOption = "train",
    policy_model: PolicyModelOption = None,
    ppm_model: PpmModelOption = None,
    policy: PolicyOption = None,
    ppm: PpmOption = None,
    executor: ExecutorOption = None,
    prompt: PromptOption = "trained",
    method: Annotated[str, typer.Option(help="mcts, beam, best-of-n, majority or greedy.")] = "mcts",
    rollouts: Annotated[int, typer.Option(help="Rollouts of the search, or trajectories to sample.")] = 16,
    candidates: Annotated[int, typer.Option(help="Candidate steps per expansion.")] = 8,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Any other search setting, KEY=VALUE; repeatable.")
    ] = None,
    verifier: Annotated[
        str,
        typer.Option(
            help="Verifier of the answer, if the problem has the expected one: math-verify, exact or countdown."
        ),
    ] = "math-verify",
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Solve one question and print the chosen trajectory, its output and its cost.

    For example:

    - `rstar solve "What is 7 * 8?" --policy-model checkpoints/r4 --ppm-model checkpoints/ppm-r4`
    - `rstar solve --problem held-out.jsonl:game-7 --format countdown --verifier countdown --policy localhost:50051 --method best-of-n --rollouts 32`
    """
    from rstar.search.solve import solve as search
    from rstar.verify import equivalence

    services = requested_services(policy_model, ppm_model, policy, ppm, executor, prompt)
    pairs = [("rollouts", str(rollouts)), ("candidates", str(candidates)), *assignments(settings or ())]
    config = search_config(method, pairs, guided=bool(ppm_model or ppm))
    chosen_problem = _problem(question, problem, form, split, store)
    judge = verifier_named(verifier)

    async def work(models: ModelClients) -> tuple[SearchRecord, tuple[float, ...] | None, Verdict | None]:
        try:
            record = await search(
                chosen_problem,
                config,
                policy=models.policy,
                executor=models.executor,
                ppm=models.ppm,
                verifier=judge if config.stop_when_solved else None,
                same=equivalence(verifier),
                seed=seed,
            )
            scores = await _step_scores(models, chosen_problem, record)
            chosen = record.nodes[record.chosen] if record.chosen >= 0 else None
            if chosen is None or (chosen_problem.answer is None and not chosen_problem.data):
                return record, scores, None
            return record, scores, await judge.verify(chosen_problem, chosen.answer or "")
        finally:
            await judge.close()

    record, scores, verdict = run_with_models(services, store, work)
    from rstar.cli.solution_view import print_solution, solution_json

    if json:
        typer.echo(solution_json(chosen_problem, record, scores, verdict))
    else:
        print_solution(chosen_problem, record, scores, verdict)


async def _step_scores(models: ModelClients, problem: Problem, record: SearchRecord) -> tuple[float, ...] | None:
    """Return the PPM's score of each step of the chosen trajectory; sampling methods score only its end."""
    from rstar.interfaces import State

    if models.ppm is None or record.chosen < 0:
        return None
    return (
        await models.ppm.score_steps(State(problem.id, problem.question, tuple(record.steps(record.chosen))))
    ).values


def _problem(question: str | None, problem: str | None, form: str, split: str, store: str) -> Problem:
    from rstar.problem import Problem

    if (question is None) == (problem is None):
        raise CommandError("give either a QUESTION or --problem FILE:ID")
    if question is not None:
        return Problem("question", question)
    uri, colon, name = (problem or "").rpartition(":")
    if not colon or uri in {"store", "hf"}:
        return problems_of([problem or ""], form, split, store).problems[0]
    return _chosen(problems_of([uri], form, split, store), uri, name)


def _chosen(reading: Reading, uri: str, name: str) -> Problem:
    """Return the problem with the id ``name``, or else the one in the row of that number."""
    found = {item.id: item for item in reading.problems}
    row = int(name) if name.isascii() and name.isdigit() and len(name) < 19 else 0
    chosen = found.get(name) or found.get(reading.row_ids.get(row, ""))
    if chosen is not None:
        return chosen
    examples = ", ".join(repr(item.id) for item in reading.problems[:3])
    rows = f"the number of a row works too, 1 to {max(reading.row_ids)}"
    raise CommandError(f"{uri} has no problem {name!r}: ids there are like {examples}; {rows}")
