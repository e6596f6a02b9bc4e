"""The estimate of rounds as tables and JSON. Pure rendering."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from rich.table import Table
from rich.text import Text

from rstar.rounds.estimate.memory import Memory
from rstar.rounds.estimate.model_size import ModelSize
from rstar.rounds.estimate.planned import PlannedRound
from rstar.rounds.estimate.round_estimate import RoundEstimate, total

NO_RATE = (
    "Times and GPU hours need rates that nobody has measured for this machine: give --measured STORE, "
    "--policy-tokens-per-second and --train-tokens-per-second, or --machine"
)


def plan_json(planned: Sequence[PlannedRound], estimates: Sequence[RoundEstimate]) -> str:
    """Return one JSON object: the rounds with their figures, the totals, and the assumptions with their sources."""
    rounds = [
        {
            **asdict(estimate),
            "problems": one.problems,
            "evaluated": one.evaluated,
            "seconds": estimate.seconds,
            "gpu_hours": estimate.gpu_hours,
            "model": asdict(one.model),
            "rollout_model": None if one.searching is None else asdict(one.searching),
            "preference_model": None if one.scoring is None else asdict(one.scoring),
            "assumptions": [
                {"name": name, "value": value, "source": source} for name, value, source in one.assumptions.described()
            ],
        }
        for one, estimate in zip(planned, estimates, strict=True)
    ]
    totals: dict[str, Any] = {
        "tokens": sum(stage.work.tokens for estimate in estimates for stage in estimate.stages),
        "seconds": total(estimate.seconds for estimate in estimates),
        "gpu_hours": total(estimate.gpu_hours for estimate in estimates),
    }
    return json.dumps({"rounds": rounds, "total": totals})


def plan_tables(planned: Sequence[PlannedRound], estimates: Sequence[RoundEstimate]) -> Iterator[Table | Text]:
    """Yield the tables in the order in which they are printed."""
    yield _work_table(planned, estimates)
    if total(estimate.seconds for estimate in estimates) is None:
        yield Text(NO_RATE, style="yellow")
    yield _process_table(estimates)
    yield _storage_table(estimates)
    yield _assumption_table(planned)


def _work_table(planned: Sequence[PlannedRound], estimates: Sequence[RoundEstimate]) -> Table:
    table = Table(title="Work and time by stage")
    table.add_column("round, stage")
    for column in ("generated tokens", "model calls", "programs", "scores", "trained tokens", "time", "GPU hours"):
        table.add_column(column, justify="right")
    table.add_column("bound by")
    for one, estimate in zip(planned, estimates, strict=True):
        title = f"{estimate.name}: {one.problems:,} problems, {one.evaluated:,} held out"
        table.add_row(title, *[""] * 5, _duration(estimate.seconds), _hours(estimate.gpu_hours), "", style="bold")
        for stage in estimate.stages:
            work = stage.work
            counts = (work.tokens, work.calls, work.executions, work.scored, stage.train_tokens)
            times = (_duration(stage.seconds), _hours(stage.gpu_hours))
            table.add_row(f"  {stage.stage}", *map(_count, counts), *times, stage.bound_by)
    table.add_section()
    seconds, hours = (total(getattr(e, name) for e in estimates) for name in ("seconds", "gpu_hours"))
    tokens = sum(stage.work.tokens for estimate in estimates for stage in estimate.stages)
    table.add_row("all rounds", _count(tokens), *[""] * 4, _duration(seconds), _hours(hours), "")
    return table


def _process_table(estimates: Sequence[RoundEstimate]) -> Table:
    """Return the memory of all processes; rounds in a row with the same ones share their lines."""
    table = Table(title="Memory of one process")
    table.add_column("process")
    for column in (
        "processes",
        "weights",
        "gradients",
        "optimiser",
        "activations",
        "keys, values",
        "total",
        "total at maxLength",
    ):
        table.add_column(column, justify="right")
    for processes, some in groupby(estimates, key=lambda estimate: estimate.processes):
        table.add_row(", ".join(estimate.name for estimate in some), style="bold")
        for process in processes:
            longest = "" if process.longest is None else _bytes(process.longest.total)
            table.add_row(f"  {process.name}", str(process.count), *_parts(process.memory), longest)
    return table


def _parts(memory: Memory) -> Iterator[str]:
    values = (memory.weights, memory.gradients, memory.optimiser, memory.activations, memory.keys_and_values)
    yield from (_bytes(value) if value else "" for value in values)
    yield _bytes(memory.total)


def _storage_table(estimates: Sequence[RoundEstimate]) -> Table:
    table = Table(title="Storage, and executors that keep the policy busy")
    table.add_column("round")
    kinds = list(dict.fromkeys(kind for estimate in estimates for kind in estimate.storage))
    for column in (*kinds, "programs/s", "slots", "executors"):
        table.add_column(column, justify="right")
    for estimate in estimates:
        needed = estimate.executors
        cells = [_bytes(estimate.storage[kind]) for kind in kinds]
        if needed is None:
            cells += ["?"] * 3
        else:
            cells += [f"{needed.programs_per_second:,.1f}", f"{needed.slots:,}", f"{needed.replicas:,}"]
        table.add_row(estimate.name, *cells)
    return table


def _assumption_table(planned: Sequence[PlannedRound]) -> Table:
    """Return the assumptions of all rounds; those of one name, value and source are one row."""
    table = Table(title="Assumptions and their sources")
    for column in ("value of", "rounds", "value", "source"):
        table.add_column(column, justify="right" if column == "value" else "left", overflow="fold")
    rows: dict[tuple[str, str, str], list[str]] = {}
    for one in planned:
        for what, model, uri in _models(one):
            source = f"{uri}; shape of {model.assumed} assumed" if model.assumed else uri
            rows.setdefault((what, f"{model.parameters:,}", source), []).append(one.name)
        if one.assumptions.coverage is None:
            rows.setdefault(("coverage", f"{one.coverage:g}", "the paper's round"), []).append(one.name)
        for name, number, source in one.assumptions.described():
            rows.setdefault((name, f"{number:,.6g}", source), []).append(one.name)
    for row, names in rows.items():
        table.add_row(row[0], "all" if len(names) == len(planned) else ", ".join(names), *row[1:])
    return table


def _models(one: PlannedRound) -> Iterator[tuple[str, ModelSize, str]]:
    """Yield what each model of a round is for, its size and its URI."""
    yield "model", one.model, one.spec.base_model
    other, given = one.spec.rollout.policy, one.spec.preference_model.model
    if one.searching is not None and other is not None:
        yield "model of rollout.policy", one.searching, str(other.model)
    if one.scoring is not None and given is not None:
        yield "model of preferenceModel", one.scoring, given.uri


def _count(value: float) -> str:
    return f"{value:,.0f}" if value else ""


def _hours(value: float | None) -> str:
    return "?" if value is None else f"{value:,.1f}" if value else ""


def _duration(seconds: float | None) -> str:
    """Return ``45 s``, ``12 min``, ``3.4 h`` or ``5.6 days``."""
    if seconds is None:
        return "?"
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:,.0f} s"


def _bytes(value: float) -> str:
    """Return ``12.3 GiB`` or the like."""
    for unit, exponent in (("TiB", 4), ("GiB", 3), ("MiB", 2), ("KiB", 1)):
        if value >= 1_024**exponent:
            return f"{value / 1_024**exponent:,.1f} {unit}"
    return f"{value:,.0f} B"
