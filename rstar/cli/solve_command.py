"""``rstar solve``: answers one question by any search method and prints the chosen trajectory.

The search, ``rstar.search.solve``, runs here with the named models, or with ``--search`` in a coordinator that runs
already. An answer is judged only where the problem has the expected one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rstar.cli.errors import CommandError
from rstar.cli.model_clients import requested_services, run_calls, run_with_models
from rstar.cli.options import (
    DEFAULT_STORE,
    CallSecondsOption,
    ExecutorOption,
    FormatOption,
    JsonOption,
    PolicyModelOption,
    PolicyOption,
    PpmModelOption,
    PpmOption,
    PromptOption,
    SearchOption,
    SplitOption,
    StoreOption,
    assignments,
    problems_of,
    search_config,
    verifier_named,
)
from rstar.cli.search_status import search_status
from rstar.sdk.models import CALL_SECONDS

if TYPE_CHECKING:
    from rstar.config import SearchConfig
    from rstar.interfaces import Verdict
    from rstar.problem import Problem
    from rstar.readers import Reading
    from rstar.record import SearchRecord
    from rstar.sdk.models import ModelClients
    from rstar.verify.guard import Guarded

    Solution = tuple[SearchRecord, tuple[float, ...] | None, Verdict | None]


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
    search: SearchOption = None,
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
    call_seconds: CallSecondsOption = CALL_SECONDS,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Solve one question and print the chosen trajectory, its output and its cost.

    For example:

    - `rstar solve "What is 7 * 8?" --policy-model checkpoints/r4 --ppm-model checkpoints/ppm-r4`
    - `rstar solve "What is 7 * 8?" --search localhost:50054`
    - `rstar solve --problem held-out.jsonl:game-7 --format countdown --verifier countdown --policy localhost:50051 --method best-of-n --rollouts 32`
    """
    pairs = [("rollouts", str(rollouts)), ("candidates", str(candidates)), *assignments(settings or ())]
    config = search_config(method, pairs, guided=bool(ppm_model or ppm or search))
    if search:
        if policy_model or ppm_model or policy or ppm or executor:
            raise CommandError(
                "--search names a coordinator, which has its own policy, PPM and executors: leave their options out"
            )
        chosen_problem, judge = _problem(question, problem, form, split, store), verifier_named(verifier)
        solution = run_calls(_solve_there(chosen_problem, config, search, verifier, judge, seed))
    else:
        services = requested_services(policy_model, ppm_model, policy, ppm, executor, prompt)
        chosen_problem, judge = _problem(question, problem, form, split, store), verifier_named(verifier)

        async def work(models: ModelClients) -> Solution:
            return await _solve_here(chosen_problem, config, models, verifier, judge, seed)

        solution = run_with_models(services, store, call_seconds, work)
    from rstar.cli.solution_view import print_solution, solution_json

    if json:
        typer.echo(solution_json(chosen_problem, *solution))
    else:
        print_solution(chosen_problem, *solution)


async def _solve_here(
    problem: Problem, config: SearchConfig, models: ModelClients, verifier: str, judge: Guarded, seed: int
) -> Solution:
    from rstar.sdk.models import search_here, verdict_on

    try:
        with search_status(config) as shown:
            searched = await search_here(
                problem, config, models, verifier=verifier, judge=judge, seed=seed, on_progress=shown
            )
        return *searched, await verdict_on(problem, searched[0], judge)
    finally:
        await judge.close()


async def _solve_there(
    problem: Problem, config: SearchConfig, targets: list[str], verifier: str, judge: Guarded, seed: int
) -> Solution:
    from rstar.rpc.search_client import SearchClient
    from rstar.sdk.models import search_there, verdict_on

    try:
        async with SearchClient(targets) as client:
            with search_status(config) as shown:
                searched = await search_there(problem, config, client, verifier=verifier, seed=seed, on_progress=shown)
            return *searched, await verdict_on(problem, searched[0], judge)
    finally:
        await judge.close()


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
