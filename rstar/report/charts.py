"""The charts of the page: Vega-Lite specifications (by Altair), each with a table of the same figures. Pure.

Colours are CSS variables of the page, so that a chart follows its light and dark theme without being drawn again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Final

import altair as alt

from rstar.report.data import ROLLOUT, Report, RoundFigures
from rstar.report.figures import Q_BINS, most_common

CATEGORIES: Final = [f"var(--c{number})" for number in range(1, 9)]
_REASONS: Final = 8
_NODE_KINDS: Final = {
    "right": ("right trajectory", "var(--good)"),
    "wrong": ("wrong trajectory", "var(--bad)"),
    "open": ("trajectory without a verdict", "var(--c6)"),
    "step": ("inner step", "var(--c1)"),
    "failed": ("failed step", "var(--c8)"),
}
_CLASSES: Final = {"easy": "var(--good)", "medium": "var(--c6)", "hard": "var(--bad)"}

Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text. The first column of a row is its heading."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart of the page. ``description`` is read by screen readers; ``spec`` is None where there is nothing to draw."""

    id: str
    title: str
    description: str
    spec: dict[str, Any] | None
    table: Table


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
    base = _marks(rows).encode(
        x=_round_axis(report),
        xOffset=alt.XOffset("method:N", sort=_methods(report)),
        color=_method_colour(report),
        tooltip=["round:N", "method:N", _share_tip("accuracy"), _share_tip("low"), _share_tip("high"), "problems:Q"],
    )
    # Bars carry the intervals; a line per method would suggest that rounds are a measure.
    drawn = alt.layer(
        base.mark_bar(opacity=0.85).encode(y=_share_axis("accuracy", "accuracy", _top(report))),
        base.mark_rule(strokeWidth=2, color="var(--fg)").encode(
            y=alt.Y("low:Q"), y2="high:Q", color=alt.value("var(--fg)")
        ),
    )
    return _chart(
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
    colour = alt.Color("round:N", title="round", sort=_names(report), scale=_round_colours(report))
    x = alt.X("tokens:Q", title="generated tokens per problem (log)", scale=alt.Scale(type="log"))
    base = _marks(rows).encode(x=x, color=colour)
    drawn = alt.layer(
        base.mark_line(opacity=0.5).encode(y=_share_axis("accuracy", "accuracy", _top(report)), order="tokens:Q"),
        base.mark_rule(opacity=0.4).encode(y="low:Q", y2="high:Q"),
        base.mark_point(filled=True, size=90, opacity=1).encode(
            y="accuracy:Q",
            shape=alt.Shape(
                "method:N",
                title="method",
                sort=_methods(report),
                legend=alt.Legend(symbolFillColor="var(--muted)", symbolStrokeColor="var(--muted)"),
            ),
            tooltip=["round:N", "method:N", _share_tip("accuracy"), alt.Tooltip("tokens:Q", format=",.0f")],
        ),
    )
    table = Table(
        ("round", "method", "tokens per problem", "accuracy"),
        tuple((r["round"], r["method"], f"{r['tokens']:,.0f}", percent(r["accuracy"])) for r in rows),
    )
    return _chart(
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
        _marks(rows)
        .mark_line(interpolate="step-after", strokeWidth=2.5)
        .encode(
            x=alt.X("tokens:Q", title="generated tokens of the problem (square root)", scale=alt.Scale(type="sqrt")),
            y=_share_axis("share", "answered right within", _top(report)),
            color=_method_colour(report),
            tooltip=["method:N", alt.Tooltip("tokens:Q", format=",.0f"), _share_tip("share")],
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
    return _chart("within", "Right answers within a token budget", text, drawn, rows, table)


def difficulty(report: Report) -> Chart:
    """Return the number of training problems of each difficulty by round."""
    found = [(one.name, one.difficulty) for one in report.rounds if one.difficulty is not None]
    rows: Rows = [
        {"round": name, "difficulty": kind, "problems": count, "order": number}
        for name, figures in found
        for number, (kind, count) in enumerate(figures.counts.items())
    ]
    drawn = (
        _marks(rows)
        .mark_bar(opacity=0.85)
        .encode(
            x=_round_axis(report),
            y=alt.Y("problems:Q", title="training problems"),
            order="order:O",
            color=alt.Color("difficulty:N", sort=[*_CLASSES], scale=_scale(_CLASSES), title="difficulty"),
            tooltip=["round:N", "difficulty:N", "problems:Q"],
        )
    )
    columns = ("round", *_CLASSES)
    table = Table(columns, tuple((name, *(f"{f.counts.get(kind, 0):,}" for kind in _CLASSES)) for name, f in found))
    text = "Easy: every trajectory is right. Hard: none is. Medium: in between."
    return _chart("difficulty", "Difficulty by round", text, drawn, rows, table)


def coverage(report: Report) -> Chart:
    """Return coverage by the difficulty that a problem had in the first round."""
    found = [(one.name, one.difficulty) for one in report.rounds if one.difficulty is not None]
    rows: Rows = [
        {"round": name, "class": kind, "coverage": s.share, "low": s.low, "high": s.high, "problems": s.total}
        for name, figures in found
        for kind, s in figures.coverage.items()
        if s.total
    ]
    base = _marks(rows).encode(
        x=_round_axis(report),
        color=alt.Color("class:N", title="difficulty in the first round", sort=[*_CLASSES], scale=_scale(_CLASSES)),
    )
    drawn = alt.layer(
        base.mark_line(opacity=0.5).encode(y=_share_axis("coverage", "solved")),
        base.mark_rule().encode(y="low:Q", y2="high:Q"),
        base.mark_point(filled=True, size=80, opacity=1).encode(
            y="coverage:Q", tooltip=["round:N", "class:N", _share_tip("coverage"), "problems:Q"]
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
    return _chart("coverage", "Coverage by difficulty", text, drawn, rows, table)


def pair_accuracy(report: Report) -> Chart:
    """Return the held-out pair accuracy of each round's PPM with its lower bound."""
    found = [(one.name, one.ppm) for one in report.rounds if one.ppm is not None]
    rows: Rows = [
        {"round": name, "accuracy": p.accuracy, "low": p.low, "pairs": p.pairs, "problems": p.problems}
        for name, p in found
        if p.accuracy is not None
    ]
    base = _marks(rows).encode(
        x=_round_axis(report),
        tooltip=["round:N", _share_tip("accuracy"), _share_tip("low"), "pairs:Q", "problems:Q"],
    )
    chance = _marks([{"chance": 0.5}]).mark_rule(strokeDash=[4, 4], color="var(--muted)")
    drawn = alt.layer(
        chance.encode(y="chance:Q"),
        base.mark_rule(strokeWidth=2, color="var(--c1)").encode(y=_share_axis("accuracy", "pair accuracy"), y2="low:Q"),
        base.mark_point(filled=True, size=110, color="var(--c1)", opacity=1).encode(y="accuracy:Q"),
    )
    table = Table(
        (
            "round",
            "pair accuracy",
            "95 % lower bound",
            "untrained head",
            "with whole trajectories",
            "pairs",
            "problems",
        ),
        tuple(
            (
                name,
                percent(p.accuracy),
                percent(p.low),
                percent(p.before),
                percent(p.with_final),
                str(p.pairs),
                str(p.problems),
            )
            for name, p in found
        ),
    )
    text = "Share of the held-out step pairs whose better side scores higher, down to its lower bound; the dashed line is chance."
    return _chart("pair-accuracy", "Pair accuracy of the PPM", text, drawn, rows, table)


def calibration(report: Report) -> Chart:
    """Return the share that was correct against the score, by round and kind."""
    rows: Rows = [
        {
            "round": one.name,
            "kind": b.kind,
            "score": b.mean_score,
            "share": b.share,
            "low": b.share_low,
            "high": b.share_high,
            "count": b.count,
            "bin": f"{b.low:.1f} to {b.high:.1f}",
        }
        for one in report.rounds
        if one.ppm is not None
        for b in one.ppm.calibration
    ]
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    kind = alt.param(
        name="shown_kind", value=kinds[0] if kinds else "", bind=alt.binding_select(options=kinds, name="scores of ")
    )
    ideal = _marks([{"score": -1, "share": 0}, {"score": 1, "share": 1}])
    scale = alt.Scale(domain=[-1, 1])
    base = _marks(rows).transform_filter("datum.kind === shown_kind")
    colour = alt.Color("round:N", title="PPM of round", sort=_names(report), scale=_round_colours(report))
    x = alt.X("score:Q", title="mean score of the bin", scale=scale)
    drawn = alt.layer(
        ideal.mark_line(strokeDash=[4, 4], color="var(--muted)").encode(x=x, y=_share_axis("share", "share correct")),
        base.mark_line(opacity=0.4).encode(x=x, y="share:Q", color=colour),
        base.mark_rule(opacity=0.5).encode(x=x, y="low:Q", y2="high:Q", color=colour),
        base.mark_point(filled=True, opacity=1).encode(
            x=x,
            y="share:Q",
            color=colour,
            size=alt.Size("count:Q", legend=None, scale=alt.Scale(range=[30, 300])),
            tooltip=["round:N", "bin:N", _share_tip("share"), "count:Q"],
        ),
    ).add_params(kind)
    table = Table(
        ("PPM of round", "scores of", "score", "mean score", "share correct", "95 % interval", "count"),
        tuple(
            (
                r["round"],
                r["kind"],
                r["bin"],
                f"{r['score']:.2f}",
                percent(r["share"]),
                interval(r["low"], r["high"]),
                str(r["count"]),
            )
            for r in rows
        ),
    )
    text = "On the dashed line, a score s in [-1, 1] means that a share (s + 1) / 2 is correct. Larger points hold more scores."
    return _chart("calibration", "Calibration of the PPM", text, drawn, rows, table)


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
        _marks(rows)
        .mark_bar(opacity=0.85)
        .encode(
            x=alt.X("low:Q", title="Q", bin="binned", scale=alt.Scale(domain=[-1, 1])),
            x2="high:Q",
            y=alt.Y("nodes:Q", title="nodes", stack=True),
            color=alt.Color(
                "kind:N", title=None, sort=[*used], scale=_scale(used), legend=alt.Legend(orient="bottom", columns=2)
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
    return _chart(
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
        _marks(rows)
        .mark_bar(opacity=0.85)
        .encode(
            y=alt.Y("reason:N", title=None, sort=reasons, axis=alt.Axis(labelLimit=220)),
            yOffset=alt.YOffset("round:N", sort=_names(report)),
            x=alt.X("share:Q", title="share of all nodes", axis=alt.Axis(format="%")),
            color=alt.Color("round:N", title="round", sort=_names(report), scale=_round_colours(report)),
            tooltip=["round:N", "reason:N", _share_tip("share"), "steps:Q"],
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
    return _chart("failures", "Failed steps by reason", text, drawn, rows, table, height=height)


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
        _marks(rows)
        .mark_bar(opacity=0.85)
        .encode(
            x=_round_axis(report),
            y=alt.Y("amount:Q", title=what, axis=alt.Axis(format="~s")),
            order="order:O",
            color=alt.Color("stage:N", sort=order, scale=alt.Scale(domain=order, range=CATEGORIES[:5]), title="stage"),
            tooltip=["round:N", "stage:N", alt.Tooltip("amount:Q", format=",.0f", title=what)],
        )
    )
    table = Table(
        ("round", *stages),
        tuple(
            (one.name, *(_amount(read(next(s for s in one.stages if s.stage == stage))) for stage in stages))
            for one in report.rounds
        ),
    )
    texts = {
        "tokens": "Tokens generated by rollout and evaluate, and trained on by the two training stages.",
        "seconds": "Wall-clock seconds of each stage's last attempt.",
    }
    return _chart(f"stage-{what}", f"{what.capitalize()} by stage", texts[what], drawn, rows, table)


def percent(value: float | None) -> str:
    """Return a share in percent; '-' for None."""
    return "-" if value is None else f"{100 * value:.1f} %"


def interval(low: float, high: float) -> str:
    """Return an interval in percent."""
    return f"{100 * low:.1f} to {100 * high:.1f}"


def _chart(
    name: str,
    title: str,
    description: str,
    drawn: alt.TopLevelMixin,
    rows: Sequence[Any],
    table: Table,
    height: int = 240,
) -> Chart:
    if not rows:
        return Chart(name, title, description, None, table)
    properties: Any = drawn
    spec: dict[str, Any] = properties.properties(width="container", height=height, description=description).to_dict()
    # Altair's defaults are for a page of its own; the theme is the page's (assets/report.js).
    spec.pop("config", None)
    return Chart(name, title, description, spec, table)


def _marks(rows: Rows) -> alt.Chart:
    """Return a chart of rows that has no marks yet."""
    return alt.Chart(alt.Data(values=rows))  # type: ignore[no-untyped-call]


def _names(report: Report) -> list[str]:
    return [one.name for one in report.rounds]


def _methods(report: Report) -> list[str]:
    return list(dict.fromkeys(method.summary.name for one in report.rounds for method in one.methods))


def _round_axis(report: Report) -> alt.X:
    return alt.X("round:N", title=None, sort=_names(report), axis=alt.Axis(labelAngle=0, labelLimit=120))


def _share_axis(name: str, title: str, top: float = 1.0) -> alt.Y:
    return alt.Y(f"{name}:Q", title=title, scale=alt.Scale(domain=[0, top]), axis=alt.Axis(format="%", tickCount=5))


def _top(report: Report) -> float:
    """Return the end of the axes of accuracy: above every interval, a multiple of a tenth."""
    highest = max((method.summary.high for one in report.rounds for method in one.methods), default=1.0)
    return min(1.0, ceil(10 * highest) / 10)


def _share_tip(name: str) -> alt.Tooltip:
    return alt.Tooltip(f"{name}:Q", format=".1%")


def _scale(colours: dict[str, str]) -> alt.Scale:
    return alt.Scale(domain=[*colours], range=[*colours.values()])


def _method_colour(report: Report) -> alt.Color:
    methods = _methods(report)
    colours = [CATEGORIES[number % len(CATEGORIES)] for number in range(len(methods))]
    return alt.Color("method:N", title="method", sort=methods, scale=alt.Scale(domain=methods, range=colours))


def _round_colours(report: Report) -> alt.Scale:
    """Return colours from pale (the first round) to full (the last), for both themes."""
    names = _names(report)
    last = max(1, len(names) - 1)
    parts = [round(45 + 55 * number / last) for number in range(len(names))]
    return alt.Scale(domain=names, range=[f"color-mix(in srgb, var(--c1) {part}%, var(--bg))" for part in parts])


def _paired(paired: Any) -> str:
    if paired is None:
        return "-"
    return f"{paired.better} better, {paired.worse} worse, p = {paired.p:.3g}"


def _tokens_at(points: Sequence[tuple[int, float]], part: float) -> str:
    if not points or not points[-1][1]:
        return "-"
    goal = part * points[-1][1]
    return f"{next(number for number, share in points if share >= goal - 1e-12):,}"


def _nodes(rows: Rows, low: float, kind: str) -> int:
    return sum(row["nodes"] for row in rows if row["low"] == low and row["kind"] == kind)


def _amount(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
