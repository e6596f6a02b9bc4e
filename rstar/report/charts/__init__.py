"""The charts of the page: Vega-Lite specifications (by Altair), each with a table of the same figures. Pure."""

from __future__ import annotations

from rstar.report.charts.chart import Chart
from rstar.report.charts.held_out import accuracy, tokens, within
from rstar.report.charts.preference import calibration, pair_accuracy
from rstar.report.charts.training import coverage, difficulty, failures, q_values, stage_cost
from rstar.report.data import Report


def charts(report: Report) -> dict[str, Chart]:
    """Return every chart by its id."""
    made = (
        accuracy(report),
        tokens(report),
        within(report),
        difficulty(report),
        coverage(report),
        pair_accuracy(report),
        calibration(report),
        failures(report),
        stage_cost(report, "tokens"),
        stage_cost(report, "seconds"),
        *(q_values(one, number) for number, one in enumerate(report.rounds)),
    )
    return {chart.id: chart for chart in made}
