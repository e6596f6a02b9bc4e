"""Results as tables and JSON, with accuracy and generated tokens always side by side.

Pure rendering: all figures come from manifests.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from rstar.rounds.pair_accuracy import PAIR_ACCURACY, PAIR_FIGURES, read_pair_accuracy
from rstar.rounds.status import RoundStatus

COVERAGE = "coverage"


def result_rows(statuses: Mapping[str, RoundStatus]) -> list[dict[str, Any]]:
    """Return one row per round: coverage, pair accuracy with what it was measured on, and the evaluated methods."""
    rows = []
    for name, status in statuses.items():
        metrics = {stage.name: stage.metrics for stage in status.stages}
        rows.append(
            {
                "round": name,
                "phase": status.phase,
                "coverage": metrics.get("rollout", {}).get(COVERAGE),
                **{key: metrics.get("train-ppm", {}).get(key) for key in PAIR_FIGURES},
                "methods": metrics.get("evaluate", {}).get("methods", []),
            }
        )
    return rows


def result_json(statuses: Mapping[str, RoundStatus]) -> str:
    """Return one JSON object with the rows and the complete statuses."""
    encoded = {name: status.model_dump(mode="json", by_alias=True) for name, status in statuses.items()}
    return json.dumps({"rounds": result_rows(statuses), "statuses": encoded})


def result_table(statuses: Mapping[str, RoundStatus]) -> Table | None:
    """Return the table by round, or None when nothing was measured."""
    rows = result_rows(statuses)
    if not any(row["methods"] or row["coverage"] is not None for row in rows):
        return None
    table = Table(title="By round: accuracy ± half the 95 % interval | any correct | generated tokens per problem")
    table.add_column("round")
    table.add_column("coverage", justify="right")
    names = list(dict.fromkeys(method["name"] for row in rows for method in row["methods"]))
    for name in names:
        table.add_column(name, justify="right")
    table.add_column("PPM pairs: accuracy > 95 % lower bound | pairs", justify="right")
    for row in rows:
        methods = {method["name"]: method_cell(method) for method in row["methods"]}
        cells = [methods.get(name, "-") for name in names]
        table.add_row(row["round"], _share(row["coverage"]), *cells, _pair_cell(row))
    return table


def methods_table(methods: Sequence[Mapping[str, Any]], title: str) -> Table:
    """Return the table of one evaluation, a row per method."""
    table = Table(title=title)
    for column in (
        "method",
        "accuracy",
        "95 % interval",
        "any correct (pass@N)",
        f"against {methods[0]['name']} (McNemar)" if methods else "",
        "tokens/problem",
        "scored/problem",
        "problems",
        "errors",
    ):
        table.add_column(column, justify="left" if column == "method" else "right")
    for m in methods:
        interval = f"{m['low']:.3f} to {m['high']:.3f}"
        shares = (_share(m["accuracy"]), interval, _share(m["any"]), _paired_cell(m["paired"]))
        table.add_row(
            m["name"], *shares, f"{m['tokens']:,.0f}", f"{m['scored']:,.0f}", str(m["problems"]), str(m["errors"])
        )
    return table


def _paired_cell(paired: Mapping[str, Any] | None) -> str:
    """Return ``+12 -5, p .143``: problems that only this method, and only the first one, answers right."""
    return "" if paired is None else f"+{paired['better']} -{paired['worse']}, p {_share(paired['p'])}"


def method_cell(method: Mapping[str, Any]) -> str:
    """Return ``.423 ± .056 | .480 | 417``."""
    half = (method["high"] - method["low"]) / 2
    return f"{_share(method['accuracy'])} ± {_share(half)} | {_share(method['any'])} | {method['tokens']:,.0f}"


def _pair_cell(row: Mapping[str, Any]) -> str:
    """Return ``.800 > .625 | 96``."""
    measured = read_pair_accuracy(row)
    if measured is None:
        return _share(row[PAIR_ACCURACY])
    return f"{_share(measured.accuracy)} > {_share(measured.low)} | {measured.pairs:,}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}".removeprefix("0") if value < 1 else f"{value:.3f}"
