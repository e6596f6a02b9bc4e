"""Charts of accuracy on held-out problems: by round and method, and against generated tokens."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

import altair as alt

from rstar.report.charts.chart import (
    Chart,
    Rows,
    Table,
    chart_of,
    interval,
    marks,
    method_colour,
    method_names,
    percent,
    round_axis,
    round_colours,
    round_names,
    share_axis,
    share_tip,
)
from rstar.report.data import Report


def accuracy(report: Report) -> Chart:
    """Return accuracy by round and method, with intervals."""
    rows: Rows = [
        {
            "round": one.name,
            "method": method.summary.name,
            "accuracy": method.summary.accuracy,
            "low": method.summary.low,
            "high": method.summary.high,
            "any": method.summary.any,
            "tokens": method.summary.tokens,
            "problems": method.summary.problems,
        }
        for one in report.rounds
        for method in one.methods
    ]
    table = Table(
        (
            "round",
            "method",
            "accuracy",
            "95 % interval",
            "any correct",
            "tokens per problem",
            "problems",
            "against the first method",
        ),
        tuple(
            (
                one.name,
                m.summary.name,
                percent(m.summary.accuracy),
                interval(m.summary.low, m.summary.high),
                percent(m.summary.any),
                f"{m.summary.tokens:,.0f}",
                str(m.summary.problems),
                _paired(m.summary.paired),
            )
            for one in report.rounds
            for m in one.methods
        ),
    )
    base = marks(rows).encode(
        x=round_axis(report),
        xOffset=alt.XOffset("method:N", sort=method_names(report)),
        color=method_colour(report),
        tooltip=["round:N", "method:N", share_tip("accuracy"), share_tip("low"), share_tip("high"), "problems:Q"],
    )
    # Bars carry the intervals; a line per method would suggest that rounds are a measure.
    drawn = alt.layer(
        base.mark_bar(opacity=0.85).encode(y=share_axis("accuracy", "accuracy", _top(report))),
        base.mark_rule(strokeWidth=2, color="var(--fg)").encode(
            y=alt.Y("low:Q"), y2="high:Q", color=alt.value("var(--fg)")
        ),
    )
    return chart_of(
        "accuracy", "Accuracy by round and method", "Share of the held-out problems answered right.", drawn, rows, table
    )


def tokens(report: Report) -> Chart:
    """Return accuracy against mean tokens, one line per round."""
    rows: Rows = [
        {
            "round": one.name,
            "method": method.summary.name,
            "accuracy": method.summary.accuracy,
            "tokens": max(method.summary.tokens, 1.0),
            "low": method.summary.low,
            "high": method.summary.high,
        }
        for one in report.rounds
        for method in one.methods
    ]
    colour = alt.Color("round:N", title="round", sort=round_names(report), scale=round_colours(report))
    x = alt.X("tokens:Q", title="generated tokens per problem (log)", scale=alt.Scale(type="log"))
    base = marks(rows).encode(x=x, color=colour)
    drawn = alt.layer(
        base.mark_line(opacity=0.5).encode(y=share_axis("accuracy", "accuracy", _top(report)), order="tokens:Q"),
        base.mark_rule(opacity=0.4).encode(y="low:Q", y2="high:Q"),
        base.mark_point(filled=True, size=90, opacity=1).encode(
            y="accuracy:Q",
            shape=alt.Shape(
                "method:N",
                title="method",
                sort=method_names(report),
                legend=alt.Legend(symbolFillColor="var(--muted)", symbolStrokeColor="var(--muted)"),
            ),
            tooltip=["round:N", "method:N", share_tip("accuracy"), alt.Tooltip("tokens:Q", format=",.0f")],
        ),
    )
    table = Table(
        ("round", "method", "tokens per problem", "accuracy"),
        tuple((r["round"], r["method"], f"{r['tokens']:,.0f}", percent(r["accuracy"])) for r in rows),
    )
    return chart_of(
        "tokens", "Accuracy against tokens", "What each method costs, and what it reaches.", drawn, rows, table
    )


def within(report: Report) -> Chart:
    """Return the share answered right within a number of tokens, one curve per method, by round."""
    rows: Rows = [
        {"round": one.name, "method": method.summary.name, "tokens": number, "share": share}
        for one in report.rounds
        for method in one.methods
        for number, share in method.within
    ]
    measured = [one.name for one in report.rounds if one.methods]
    choice = alt.param(
        name="shown_round",
        value=measured[-1] if measured else "",
        bind=alt.binding_select(options=measured, name="round "),
    )
    drawn = (
        marks(rows)
        .mark_line(interpolate="step-after", strokeWidth=2.5)
        .encode(
            x=alt.X("tokens:Q", title="generated tokens of the problem (square root)", scale=alt.Scale(type="sqrt")),
            y=share_axis("share", "answered right within", _top(report)),
            color=method_colour(report),
            tooltip=["method:N", alt.Tooltip("tokens:Q", format=",.0f"), share_tip("share")],
        )
        .add_params(choice)
        .transform_filter("datum.round === shown_round")
    )
    table = Table(
        ("round", "method", "half of its right answers within", "all within", "accuracy"),
        tuple(
            (
                one.name,
                m.summary.name,
                _tokens_at(m.within, 0.5),
                _tokens_at(m.within, 1.0),
                percent(m.summary.accuracy),
            )
            for one in report.rounds
            for m in one.methods
        ),
    )
    text = "Share of the held-out problems that were answered right with at most so many generated tokens."
    return chart_of("within", "Right answers within a token budget", text, drawn, rows, table)


def _top(report: Report) -> float:
    """Return the end of the axes of accuracy: above every interval, a multiple of a tenth."""
    highest = max((method.summary.high for one in report.rounds for method in one.methods), default=1.0)
    return min(1.0, ceil(10 * highest) / 10)


def _paired(paired: Any) -> str:
    if paired is None:
        return "-"
    return f"{paired.better} better, {paired.worse} worse, p = {paired.p:.3g}"


def _tokens_at(points: Sequence[tuple[int, float]], part: float) -> str:
    if not points or not points[-1][1]:
        return "-"
    goal = part * points[-1][1]
    return f"{next(number for number, share in points if share >= goal - 1e-12):,}"
