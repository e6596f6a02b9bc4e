"""``rstar evaluate``: methods compared on the same problems, accuracy and tokens side by side.

The figures are ``rstar.rounds.evaluation``'s, as in the evaluate stage. Search sees no verifier: answers are
judged afterwards.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from rstar.cli.errors import CommandError
from rstar.cli.options import (
    DEFAULT_STORE,
    ExecutorOption,
    JsonOption,
    PolicyModelOption,
    PolicyOption,
    PpmModelOption,
    PpmOption,
    PromptOption,
    StoreOption,
    assignments,
    problems_of,
    search_config,
    verifier_named,
)
from rstar.cli.session import Models, wanted_services, with_models

if TYPE_CHECKING:
    from collections.abc import Callable

    from rstar.config import SearchConfig
    from rstar.interfaces import Verifier
    from rstar.problem import Problem
    from rstar.rounds.evaluation import MethodSummary, Outcome

WITHOUT_PPM = ("greedy", "majority")
WITH_PPM = ("best-of-n", "beam", "mcts")


def evaluate(
    problems: Annotated[str, typer.Option(help="Problems: a file, store:PATH or hf:NAME.", show_default=False)],
    form: Annotated[str, typer.Option("--format", help="jsonl, gsm8k, math or countdown.")] = "jsonl",
    limit: Annotated[int | None, typer.Option(min=1, help="Use only the first problems.")] = None,
    verifier: Annotated[str, typer.Option(help="Verifier by name: math-verify, exact or countdown.")] = "math-verify",
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="METHOD or METHOD:KEY=VALUE,... (keys of the search settings); repeatable; unset: every method the models allow."
        ),
    ] = None,
    policy_model: PolicyModelOption = None,
    ppm_model: PpmModelOption = None,
    policy: PolicyOption = None,
    ppm: PpmOption = None,
    executor: ExecutorOption = None,
    prompt: PromptOption = "trained",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A search setting of every method, KEY=VALUE; repeatable.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Problems searched at once.")] = 32,
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Compare search methods on held-out problems: accuracy with its 95 % interval, and tokens per problem.

    "any right" is pass@N: some trajectory of the N that were found is right.

    Example: `rstar evaluate --policy-model checkpoints/r4 --problems held-out.jsonl`

    Example: `rstar evaluate --policy-model r4 --ppm-model ppm-r4 --problems test.jsonl --method greedy --method mcts:rollouts=32,candidates=2 --method best-of-n:rollouts=64`
    """
    wanted = wanted_services(policy_model, ppm_model, policy, ppm, executor, prompt)
    guided = bool(ppm_model or ppm)
    names = method or [*WITHOUT_PPM, *(WITH_PPM if guided else ())]
    if len(set(names)) != len(names):
        raise CommandError("--method: every method may be named once")
    shared = assignments(settings or ())
    configs = {name: _config(name, shared, guided=guided) for name in names}
    asked = problems_of(problems, form, store, limit)
    judge = verifier_named(verifier)

    async def work(models: Models) -> list[MethodSummary]:
        try:
            return await _compare(models, configs, asked, judge, seed, concurrency)
        finally:
            await judge.close()

    summaries = [summary.metrics() for summary in with_models(wanted, store, work)]
    if json:
        import json as encoder

        typer.echo(encoder.dumps({"problems": len(asked), "methods": summaries}))
        return
    from rstar.cli.console import wide_console
    from rstar.cli.result_tables import methods_table

    wide_console().print(methods_table(summaries, f"{len(asked)} problems of {problems}"))


def _config(text: str, shared: list[tuple[str, str]], *, guided: bool) -> SearchConfig:
    name, colon, rest = text.partition(":")
    own = assignments(rest.split(",")) if colon else []
    config = search_config(name, [*shared, *own], guided=guided)
    if config.method in {"beam", "best_of_n"} and not guided:
        raise CommandError(f"--method {text}: {name} chooses by the PPM; give --ppm-model or --ppm")
    return config


async def _compare(
    models: Models,
    configs: dict[str, SearchConfig],
    problems: list[Problem],
    verifier: Verifier,
    seed: int,
    concurrency: int,
) -> list[MethodSummary]:
    """Run the methods one after the other, each with ``concurrency`` problems at once."""
    from rich.console import Console
    from rich.progress import Progress

    from rstar.rounds.evaluation import summarise

    summaries = []
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        for name, config in configs.items():
            task = progress.add_task(name, total=len(problems))
            turns = asyncio.Semaphore(concurrency)

            def done(task: object = task) -> None:
                progress.advance(task)  # type: ignore[arg-type]

            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(_outcome(models, config, problem, verifier, seed, turns, done))
                    for problem in problems
                ]
            summaries.append(summarise(name, [task.result() for task in tasks]))
    return summaries


async def _outcome(
    models: Models,
    config: SearchConfig,
    problem: Problem,
    verifier: Verifier,
    seed: int,
    turns: asyncio.Semaphore,
    done: Callable[[], None],
) -> Outcome:
    """Search one problem and judge it; a search that fails is a wrong answer and counted as an error."""
    from rstar.rounds.evaluation import Outcome, judge
    from rstar.rpc.errors import CallFailed, CallRefused, ServiceUnavailable
    from rstar.search.solve import solve
    from rstar.seeds import derive

    async with turns:
        try:
            record = await solve(
                problem,
                config,
                policy=models.policy,
                executor=models.executor,
                ppm=models.ppm,
                seed=derive(seed, "evaluate", problem.id),
            )
            return await judge(problem, record, verifier)
        except (CallRefused, ServiceUnavailable):
            raise
        except CallFailed as error:
            return Outcome(problem.id, correct=False, any=False, tokens=0, error=str(error))
        finally:
            done()
