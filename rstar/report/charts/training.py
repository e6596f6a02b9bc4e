"""Charts of the training searches and of cost: coverage, Q, failures, tokens and seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import altair as alt

from rstar.report.charts.chart import (
    CATEGORIES,
    Chart,
    Rows,
    Table,
    chart_of,
    interval,
    marks,
    percent,
    round_axis,
    round_colours,
    round_names,
    scale,
    share_axis,
    share_tip,
    whole_number,
)
from rstar.report.data import ROLLOUT, Report, RoundFigures
from rstar.report.figures import Q_BINS, most_common

_REASONS: Final = 8
_NODE_KINDS: Final = {
    "right": ("right trajectory", "var(--good)"),
    "wrong": ("wrong trajectory", "var(--bad)"),
    "open": ("trajectory without a verdict", "var(--c6)"),
    "step": ("inner step", "var(--c1)"),
    "failed": ("failed step", "var(--c8)"),
}
_CLASSES: Final = {"easy": "var(--good)", "medium": "var(--c6)", "hard": "var(--bad)"}


def difficulty(report: Report) -> Chart:
    """Return the number of training problems of each difficulty by round."""
    found = [(one.name, one.difficulty) for one in report.rounds if one.difficulty is not None]
    rows: Rows = [
        {"round": name, "difficulty": kind, "problems": count, "order": number}
        for name, figures in found
        for number, (kind, count) in enumerate(figures.counts.items())
    ]
    drawn = (
        marks(rows)
        .mark_bar(opacity=0.85)
        .encode(
            x=round_axis(report),
            y=alt.Y("problems:Q", title="training problems"),
            order="order:O",
            color=alt.Color("difficulty:N", sort=[*_CLASSES], scale=scale(_CLASSES), title="difficulty"),
            tooltip=["round:N", "difficulty:N", "problems:Q"],
        )
    )
    columns = ("round", *_CLASSES)
    table = Table(columns, tuple((name, *(f"{f.counts.get(kind, 0):,}" for kind in _CLASSES)) for name, f in found))
    text = "Easy: every trajectory is right. Hard: none is. Medium: in between."
    return chart_of("difficulty", "Difficulty by round", text, drawn, rows, table)


def coverage(report: Report) -> Chart:
    """Return coverage by the difficulty that a problem had in the first round."""
    found = [(one.name, one.difficulty) for one in report.rounds if one.difficulty is not None]
    rows: Rows = [
        {"round": name, "class": kind, "coverage": s.share, "low": s.low, "high": s.high, "problems": s.total}
        for name, figures in found
        for kind, s in figures.coverage.items()
        if s.total
    ]
    base = marks(rows).encode(
        x=round_axis(report),
        color=alt.Color("class:N", title="difficulty in the first round", sort=[*_CLASSES], scale=scale(_CLASSES)),
    )
    drawn = alt.layer(
        base.mark_line(opacity=0.5).encode(y=share_axis("coverage", "solved")),
        base.mark_rule().encode(y="low:Q", y2="high:Q"),
        base.mark_point(filled=True, size=80, opacity=1).encode(
            y="coverage:Q", tooltip=["round:N", "class:N", share_tip("coverage"), "problems:Q"]
        ),
    )
    table = Table(
        ("round", "difficulty in the first round", "solved", "95 % interval", "problems"),
        tuple(
            (r["round"], r["class"], percent(r["coverage"]), interval(r["low"], r["high"]), str(r["problems"]))
            for r in rows
        ),
    )
    text = "Share of the training problems with a right trajectory, by the difficulty that they had in the first round."
    return chart_of("coverage", "Coverage by difficulty", text, drawn, rows, table)


def q_values(one: RoundFigures, number: int) -> Chart:
    """Return the distribution of Q in the training trees of a round."""
    trees = next((trees for trees in one.trees if trees.source == ROLLOUT), None)
    width = 2 / Q_BINS
    rows: Rows = [
        {
            "low": round(-1 + i * width, 3),
            "high": round(-1 + (i + 1) * width, 3),
            "nodes": count,
            "kind": _NODE_KINDS[kind][0],
        }
        for kind, bins in (trees.q if trees is not None else {}).items()
        if kind != "failed"
        for i, count in enumerate(bins)
        if count
    ]
    used = {label: colour for kind, (label, colour) in _NODE_KINDS.items() if kind != "failed"}
    used = {label: colour for label, colour in used.items() if any(row["kind"] == label for row in rows)}
    drawn = (
        marks(rows)
        .mark_bar(opacity=0.85)
        .encode(
            x=alt.X("low:Q", title="Q", bin="binned", scale=alt.Scale(domain=[-1, 1])),
            x2="high:Q",
            y=alt.Y("nodes:Q", title="nodes", stack=True),
            color=alt.Color(
                "kind:N", title=None, sort=[*used], scale=scale(used), legend=alt.Legend(orient="bottom", columns=2)
            ),
            tooltip=["kind:N", "low:Q", "high:Q", "nodes:Q"],
        )
    )
    table = Table(
        ("Q", *used),
        tuple(
            (f"{low:.1f} to {low + width:.1f}", *(str(_nodes(rows, low, kind)) for kind in used))
            for low in sorted({row["low"] for row in rows})
        ),
    )
    return chart_of(
        f"q-{number}", f"Round {one.name}", "Visited nodes that ran, by their Q.", drawn, rows, table, height=150
    )


def failures(report: Report) -> Chart:
    """Return the failed steps of the training searches by reason and round, per 100 nodes."""
    found = [(one.name, t) for one in report.rounds for t in one.trees if t.source == ROLLOUT and t.nodes]
    reasons = most_common((trees.failures for _, trees in found), _REASONS)
    rows: Rows = [
        {"round": name, "reason": reason, "share": count / trees.nodes, "steps": count}
        for name, trees in found
        for reason in reasons
        if (count := trees.failures.get(reason, 0))
    ]
    drawn = (
        marks(rows)
        .mark_bar(opacity=0.85)
        .encode(
            y=alt.Y("reason:N", title=None, sort=reasons, axis=alt.Axis(labelLimit=220)),
            yOffset=alt.YOffset("round:N", sort=round_names(report)),
            x=alt.X("share:Q", title="share of all nodes", axis=alt.Axis(format="%")),
            color=alt.Color("round:N", title="round", sort=round_names(report), scale=round_colours(report)),
            tooltip=["round:N", "reason:N", share_tip("share"), "steps:Q"],
        )
    )
    every = [(one.name, t) for one in report.rounds for t in one.trees]
    table = Table(
        ("round", "search", "reason", "failed steps", "share of its nodes"),
        tuple(
            (name, trees.source, reason, f"{count:,}", percent(count / trees.nodes if trees.nodes else None))
            for name, trees in every
            for reason, count in sorted(trees.failures.items(), key=lambda item: (-item[1], item[0]))[:_REASONS]
        ),
    )
    height = max(140, 14 * len(reasons) * max(1, len({name for name, _ in found})) + 30)
    text = "Steps of the training searches whose code failed, as a share of all nodes."
    return chart_of("failures", "Failed steps by reason", text, drawn, rows, table, height=height)


def stage_cost(report: Report, what: str) -> Chart:
    """Return the tokens or the seconds of every stage, by round."""
    read: Callable[[Any], float | None] = lambda stage: stage.tokens if what == "tokens" else stage.seconds  # noqa: E731
    rows: Rows = [
        {"round": one.name, "stage": stage.stage, "amount": amount, "order": number}
        for one in report.rounds
        for number, stage in enumerate(one.stages)
        if (amount := read(stage)) is not None
    ]
    stages = list(dict.fromkeys(row["stage"] for row in sorted(rows, key=lambda row: row["order"])))
    order = ["rollout", "select", "train-policy", "train-ppm", "evaluate"]
    drawn = (
        marks(rows)
        .mark_bar(opacity=0.85)
        .encode(
            x=round_axis(report),
            y=alt.Y("amount:Q", title=what, axis=alt.Axis(format="~s")),
            order="order:O",
            color=alt.Color("stage:N", sort=order, scale=alt.Scale(domain=order, range=CATEGORIES[:5]), title="stage"),
            tooltip=["round:N", "stage:N", alt.Tooltip("amount:Q", format=",.0f", title=what)],
        )
    )
    table = Table(
        ("round", *stages),
        tuple(
            (one.name, *(whole_number(read(next(s for s in one.stages if s.stage == stage))) for stage in stages))
            for one in report.rounds
        ),
    )
    texts = {
        "tokens": "Tokens generated by rollout and evaluate, and trained on by the two training stages.",
        "seconds": "Wall-clock seconds of each stage, all its attempts together.",
    }
    return chart_of(f"stage-{what}", f"{what.capitalize()} by stage", texts[what], drawn, rows, table)


def _nodes(rows: Rows, low: float, kind: str) -> int:
    return sum(row["nodes"] for row in rows if row["low"] == low and row["kind"] == kind)
