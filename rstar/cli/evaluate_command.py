"""``rstar evaluate``: compares search methods on the same problems, accuracy and tokens side by side.

The figures come from ``rstar.rounds.evaluation``, as in the evaluate stage. The search gets no verifier: answers are
judged afterwards.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rstar.cli.errors import FAILED, CommandError
from rstar.cli.model_clients import requested_services, run_with_models
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
    SplitOption,
    StoreOption,
    assignments,
    problems_of,
    search_config,
    verifier_named,
)
from rstar.sdk.models import CALL_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rstar.config import SearchConfig
    from rstar.rounds.evaluation import MethodSummary, ProblemResult
    from rstar.sdk.models import ModelClients

WITHOUT_PPM = ("greedy", "majority")
WITH_PPM = ("best-of-n", "beam", "mcts")


def evaluate(
    problems: Annotated[
        list[str],
        typer.Option(help="A data set of problems: a file, store:PATH or hf:NAME; repeatable.", show_default=False),
    ],
    form: FormatOption = "jsonl",
    split: SplitOption = "train",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Use only so many problems of each data set, from the first.")
    ] = None,
    on_bad_row: Annotated[
        str, typer.Option(help="A bad row is an error (fail), or is left out and counted (skip).")
    ] = "fail",
    verifier: Annotated[str, typer.Option(help="Verifier by name: math-verify, exact or countdown.")] = "math-verify",
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="METHOD or METHOD:KEY=VALUE,... with search settings; repeatable; default: every method that the models allow."
        ),
    ] = None,
    policy_model: PolicyModelOption = None,
    ppm_model: PpmModelOption = None,
    policy: PolicyOption = None,
    ppm: PpmOption = None,
    executor: ExecutorOption = None,
    prompt: PromptOption = "trained",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A search setting for all methods, KEY=VALUE; repeatable.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Number of problems searched at the same time.")] = 32,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    keep: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Keep finished searches there; the same command, with further problems or methods too, searches only what is missing.",
        ),
    ] = None,
    call_seconds: CallSecondsOption = CALL_SECONDS,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Compare search methods on held-out problems: accuracy with its 95 % interval, and what a problem cost.

    "any correct" is pass@N: the share of problems with a correct trajectory among the N that were found. Every method is
    compared with the first by McNemar's exact test on the same problems. Several data sets get a table each.

    For example:

    - `rstar evaluate --policy-model checkpoints/r4 --problems held-out.jsonl`
    - `rstar evaluate --policy-model r4 --problems math500.jsonl --problems hf:openai/gsm8k/main --split test`
    - `nohup rstar evaluate --policy-model r4 --problems math500.jsonl --keep out/r4 --json > r4.json &`, and again after an interruption
    - `rstar evaluate --policy-model r4 --ppm-model ppm-r4 --problems test.jsonl --method greedy --method mcts:rollouts=32,candidates=2 --method best-of-n:rollouts=64`
    """
    from rstar.cli.comparison import Comparison
    from rstar.rounds.evaluation import compared
    from rstar.verify import equivalence

    services = requested_services(policy_model, ppm_model, policy, ppm, executor, prompt)
    guided = bool(ppm_model or ppm)
    names = method or [*WITHOUT_PPM, *(WITH_PPM if guided else ())]
    if len(set(names)) != len(names):
        raise CommandError("--method: give each method only once")
    shared = assignments(settings or ())
    configs = {name: _config(name, shared, guided=guided) for name in names}
    reading = problems_of(problems, form, split, store, limit, on_bad_row)
    problem_list = reading.problems
    judge, same = verifier_named(verifier), equivalence(verifier)
    if keep is not None:
        _make_folder(keep)

    async def work(models: ModelClients) -> dict[str, list[ProblemResult]]:
        try:
            return await Comparison(
                models, problem_list, verifier, judge, same, seed, concurrency, prompt, keep
            ).results(configs)
        finally:
            await judge.close()

    results = run_with_models(services, store, call_seconds, work)
    tables = {"": compared(results)} | _by_data_set(results, reading.data_sets)
    rows = {name: [summary.metrics() for summary in summaries] for name, summaries in tables.items()}
    if json:
        import json as encoder

        found = {"problems": len(problem_list), "badRows": reading.bad_rows, "methods": rows.pop("")}
        typer.echo(encoder.dumps({**found, "dataSets": rows} if rows else found))
    else:
        from rstar.cli.console import wide_console
        from rstar.cli.result_tables import methods_table

        left_out = f", {reading.bad_rows} bad rows left out" if reading.bad_rows else ""
        for name, methods in rows.items():
            title = name or f"{len(problem_list)} problems of {', '.join(problems)}{left_out}"
            wide_console().print(methods_table(methods, title))
    _report_failures(results)


def _make_folder(folder: Path) -> None:
    """Make the folder of ``--keep``. Raises ``CommandError``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"--keep {folder}: {error.strerror or error}; give a folder that can be written") from None


def _by_data_set(
    results: Mapping[str, list[ProblemResult]], data_sets: Mapping[str, str]
) -> dict[str, list[MethodSummary]]:
    """Return a table per data set, where there are several."""
    from rstar.rounds.evaluation import compared

    return {
        data_set: compared(
            {
                method: [result for result in some if data_sets[result.problem_id] == data_set]
                for method, some in results.items()
            }
        )
        for data_set in dict.fromkeys(data_sets.values())
    }


def _report_failures(results: Mapping[str, list[ProblemResult]]) -> None:
    """Print one sentence per method whose searches failed. Raises ``CommandError`` when all of them did."""
    failed = {name: [result for result in some if result.error] for name, some in results.items()}
    for name, some in failed.items():
        if some:
            typer.echo(
                f"{name}: {len(some)} {'search' if len(some) == 1 else 'searches'} failed, that of {some[0].problem_id} with: {some[0].error}",
                err=True,
            )
    if all(len(failed[name]) == len(some) for name, some in results.items()):
        raise CommandError("every search failed", FAILED)


def _config(text: str, shared: list[tuple[str, str]], *, guided: bool) -> SearchConfig:
    name, colon, rest = text.partition(":")
    overrides = assignments(rest.split(",")) if colon else []
    config = search_config(name, [*shared, *overrides], guided=guided)
    if config.method in {"beam", "best_of_n"} and not guided:
        raise CommandError(f"--method {text}: {name} needs a PPM; give --ppm-model or --ppm")
    return config
