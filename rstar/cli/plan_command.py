"""``rstar plan FILE``: what the rounds of a YAML file will need, before anything runs.

It reads the file, the problems, the header of the base model and, with ``--measured``, an earlier round; the figures come
from ``rstar.rounds.estimate``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rstar.cli.errors import FAILED, CommandError
from rstar.cli.options import DEFAULT_STORE, JsonOption, StoreOption
from rstar.locations.stores import opened_store

if TYPE_CHECKING:
    from rstar.rounds.estimate.assumptions import Assumptions
    from rstar.rounds.estimate.model_size import ModelSize
    from rstar.rounds.problems_spec import ProblemsSpec
    from rstar.rounds.spec import EvolutionRound, EvolutionRoundSpec
    from rstar.store.store import Store

RATE = "; unset: from --measured or --machine"


def plan(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="YAML file with one or several EvolutionRounds.", show_default=False)
    ],
    store: StoreOption = DEFAULT_STORE,
    measured: Annotated[
        str | None,
        typer.Option(
            metavar="STORE",
            help="Take coverage, texts and rates from an earlier round: a store (its last finished round), or the folder "
            "rounds/NAME in one.",
        ),
    ] = None,
    machine: Annotated[
        str | None,
        typer.Option(help="Take the rates of a machine of the table in docs/planning.md, such as cpu-2-vllm."),
    ] = None,
    policy_rate: Annotated[
        float | None,
        typer.Option("--policy-tokens-per-second", min=0.001, help=f"Generated tokens/s of one policy server{RATE}."),
    ] = None,
    score_rate: Annotated[
        float | None,
        typer.Option(
            "--scores-per-second", min=0.001, help="Candidates/s of one PPM server; unset: by the rate of the policy."
        ),
    ] = None,
    train_rate: Annotated[
        float | None,
        typer.Option("--train-tokens-per-second", min=0.001, help=f"Tokens/s of one training process{RATE}."),
    ] = None,
    program_seconds: Annotated[
        float | None, typer.Option(min=0.0001, help="Seconds of one program in an executor's slot; unset: 0.005.")
    ] = None,
    parameters: Annotated[
        str | None,
        typer.Option(help="Parameters of the base model, such as 7B, where its files are not here (hf:NAME)."),
    ] = None,
    rollout_parameters: Annotated[
        str | None, typer.Option(help="Likewise of rollout.policy's model.", show_default=False)
    ] = None,
    ppm_parameters: Annotated[
        str | None, typer.Option(help="Likewise of preferenceModel's model.", show_default=False)
    ] = None,
    train_problems: Annotated[
        int | None, typer.Option(min=1, help="Training problems, where they cannot be counted here (hf:NAME).")
    ] = None,
    evaluation_problems: Annotated[
        int | None, typer.Option(min=1, help="Held-out problems, where they cannot be counted here (hf:NAME).")
    ] = None,
    coverage: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, help="Share of the training problems that the round solves; unset: the paper's."
        ),
    ] = None,
    steps: Annotated[float | None, typer.Option(min=1.0, help="Steps of a trajectory, its answer included.")] = None,
    step_tokens: Annotated[float | None, typer.Option(min=1.0, help="Tokens of a step.")] = None,
    prompt_tokens: Annotated[float | None, typer.Option(min=1.0, help="Tokens of a question with its prompt.")] = None,
    json: JsonOption = False,
) -> None:
    """Estimate what rounds will need: tokens, calls, time, GPU hours, memory, storage, executors.

    Nothing runs and nothing is downloaded. Values that the file does not give are listed with their sources; the best
    source is an earlier round. Without a rate, times are unknown and all else is still printed.

    For example:

    - `rstar plan rounds.yaml --policy-tokens-per-second 2500 --train-tokens-per-second 8000`
    - `rstar plan rounds.yaml --measured runs/first`
    - `rstar plan examples/gsm8k/rounds.yaml --parameters 1.5B --train-problems 7473 --evaluation-problems 1319 --json`
    """
    from rstar.cli.plan_tables import plan_json, plan_tables
    from rstar.rounds.estimate.planned import PlannedRound
    from rstar.rounds.estimate.round_estimate import estimate_round

    given = {
        "policy_rate": policy_rate,
        "score_rate": score_rate,
        "sft_rate": train_rate,
        "ppm_rate": train_rate,
        "program_seconds": program_seconds,
        "coverage": coverage,
        "steps": steps,
        "step_tokens": step_tokens,
        "prompt_tokens": prompt_tokens,
    }
    opened = _store(store)
    items = _rounds(file)
    counted: dict[ProblemsSpec, int] = {}
    planned = []
    earlier = None if measured is None else _measured(measured, items)
    for item in items:
        spec = item.spec
        problems = _count(spec.problems, train_problems, "--train-problems", item.name, opened, counted)
        held_out = spec.evaluate.problems if spec.evaluate.methods else None
        evaluated = 0
        if held_out is not None:
            evaluated = _count(held_out, evaluation_problems, "--evaluation-problems", item.name, opened, counted)
        model = _model("baseModel", spec.base_model, parameters, "--parameters", opened)
        assumptions = _assumptions(spec, model.parameters, machine, earlier, given)
        other, ppm = spec.rollout.policy, spec.preference_model.model
        searching = scoring = None
        if other is not None and other.model is not None:
            searching = _model("rollout.policy.model", other.model, rollout_parameters, "--rollout-parameters", opened)
        if ppm is not None:
            scoring = _model("preferenceModel.model.uri", ppm.uri, ppm_parameters, "--ppm-parameters", opened)
        planned.append(PlannedRound(item.name, spec, model, assumptions, problems, evaluated, searching, scoring))
    estimates = [estimate_round(one) for one in planned]
    if json:
        typer.echo(plan_json(planned, estimates))
        return
    from rstar.cli.console import wide_console

    console = wide_console()
    for part in plan_tables(planned, estimates):
        console.print(part)


def _store(uri: str) -> Store | None:
    """Open the store if it is there: a plan must not make an empty one."""
    if "://" not in uri and not Path(uri).is_dir():
        return None
    return opened_store(uri)


def _rounds(file: Path) -> list[EvolutionRound]:
    from rstar.locations.rounds_files import parsed_rounds

    return sorted(parsed_rounds([file]), key=lambda item: item.spec.round)


def _assumptions(
    spec: EvolutionRoundSpec,
    parameters: int,
    machine: str | None,
    earlier: Earlier | None,
    given: Mapping[str, Any],
) -> Assumptions:
    """Return the assumptions of a round: by its problems' format, the machine, the earlier round, and the options."""
    from rstar.rounds.estimate.assumptions import assumed_for, scaled, with_machine

    assumptions = assumed_for(spec.problems.sources()[0].format)
    if machine is not None:
        try:
            assumptions = with_machine(assumptions, machine, parameters)
        except ValueError as error:
            raise CommandError(f"--machine: {error}") from None
    if earlier is not None:
        assumptions = assumptions.with_values(earlier.source, scaled(earlier.values, earlier.parameters, parameters))
    return assumptions.with_values("option", given)


@dataclass(frozen=True, slots=True)
class Earlier:
    """The values of an earlier round, for its own model of so many ``parameters``."""

    source: str
    values: Mapping[str, float | None]
    parameters: int | None


def _measured(place: str, items: list[EvolutionRound]) -> Earlier:
    """Return the values of an earlier round.

    Its numbers of processes are those of the round of its name in the file, or else of the file's first round.
    """
    from rstar.rounds.estimate.measured import measured_parameters, measured_round, measured_values
    from rstar.store.store import StoreError

    root, name = _store_and_round(place)
    try:
        store = opened_store(root)
        found, stages = measured_round(store, name)
        spec = next((item.spec for item in items if item.name == found), items[0].spec)
        values = measured_values(store, stages, spec)
        return Earlier(f"measured: {found} in {root}", values, measured_parameters(store, stages))
    except ValueError as error:
        raise CommandError(f"--measured {place}: {error}") from None
    except KeyError as error:
        raise CommandError(
            f"--measured {place}: the store or a manifest lacks {error}; measure another round"
        ) from None
    except StoreError as error:
        raise CommandError(f"--measured {place}: {error}", FAILED) from None


def _store_and_round(place: str) -> tuple[str, str | None]:
    """Split ``STORE/rounds/NAME``; a store alone has no name."""
    root, separator, name = place.rstrip("/").rpartition("/rounds/")
    if separator and name and "/" not in name:
        place, found = root, name
    else:
        found = None
    if "://" not in place and not Path(place).is_dir():
        raise CommandError(f"--measured {place}: there is no such folder; give a store, or rounds/NAME in one")
    return place, found


def _count(
    spec: ProblemsSpec,
    given: int | None,
    option: str,
    name: str,
    store: Store | None,
    counted: dict[ProblemsSpec, int],
) -> int:
    """Return the number of problems: the option's, or counted here. Raises ``CommandError`` where they are not here."""
    from tempfile import TemporaryDirectory

    from rstar.rounds.problems import read_problems_of

    if given is not None:
        return given
    if spec in counted:
        return counted[spec]
    away = [
        source.uri
        for source in spec.sources()
        if source.uri.startswith("hf:") or (source.uri.startswith("store:") and store is None)
    ]
    if away:
        raise CommandError(f"round {name}: the problems of {', '.join(away)} are not here: give {option}, or --store")
    try:
        with TemporaryDirectory() as cache:
            counted[spec] = len(read_problems_of(spec, store, Path(cache)).problems)
    except (ValueError, OSError) as error:
        raise CommandError("\n".join(f"round {name}: {line}" for line in str(error).splitlines())) from None
    return counted[spec]


def _model(key: str, uri: str, parameters: str | None, option: str, store: Store | None) -> ModelSize:
    """Return the size of the model at ``key`` of the spec, from its files where they are here.

    ``parameters``: the value of ``option``, which counts if it is given.
    """
    from dataclasses import replace

    from rstar.rounds.estimate.base_model import find_config
    from rstar.rounds.estimate.model_size import parse_parameters, size_of_parameters

    try:
        number = None if parameters is None else parse_parameters(parameters)
    except ValueError as error:
        raise CommandError(f"{option}: {error}") from None
    try:
        found = find_config(uri, store)
    except (ValueError, OSError) as error:
        if number is None:
            raise CommandError(f"{key} {uri}: {error}; give {option}, such as 7B") from None
        found = None
    if found is not None:
        return found if number is None else replace(found, parameters=number)
    if number is None:
        raise CommandError(f"{key} {uri} is not here: give its size with {option}, such as 7B")
    return size_of_parameters(number)
