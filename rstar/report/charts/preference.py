"""Charts of the PPM: pair accuracy and calibration."""

from __future__ import annotations

import altair as alt

from rstar.report.charts.chart import (
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
    share_axis,
    share_tip,
)
from rstar.report.data import Report


def pair_accuracy(report: Report) -> Chart:
    """Return the held-out pair accuracy of each round's PPM with its lower bound."""
    found = [(one.name, one.ppm) for one in report.rounds if one.ppm is not None]
    rows: Rows = [
        {"round": name, "accuracy": p.accuracy, "low": p.low, "pairs": p.pairs, "problems": p.problems}
        for name, p in found
        if p.accuracy is not None
    ]
    base = marks(rows).encode(
        x=round_axis(report),
        tooltip=["round:N", share_tip("accuracy"), share_tip("low"), "pairs:Q", "problems:Q"],
    )
    chance = marks([{"chance": 0.5}]).mark_rule(strokeDash=[4, 4], color="var(--muted)")
    drawn = alt.layer(
        chance.encode(y="chance:Q"),
        base.mark_rule(strokeWidth=2, color="var(--c1)").encode(y=share_axis("accuracy", "pair accuracy"), y2="low:Q"),
        base.mark_point(filled=True, size=110, color="var(--c1)", opacity=1).encode(y="accuracy:Q"),
    )
    table = Table(
        (
            "round",
            "pair accuracy",
            "95 % lower bound",
            "untrained head",
            "with whole trajectories",
            "distance of the scores",
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
                "-" if p.gap is None else f"{p.gap:.3f}",
                str(p.pairs),
                str(p.problems),
            )
            for name, p in found
        ),
    )
    text = "Share of the held-out step pairs whose better side scores higher, down to its lower bound; the dashed line is chance."
    return chart_of("pair-accuracy", "Pair accuracy of the PPM", text, drawn, rows, table)


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
    ideal = marks([{"score": -1, "share": 0}, {"score": 1, "share": 1}])
    scale = alt.Scale(domain=[-1, 1])
    base = marks(rows).transform_filter("datum.kind === shown_kind")
    colour = alt.Color("round:N", title="PPM of round", sort=round_names(report), scale=round_colours(report))
    x = alt.X("score:Q", title="mean score of the bin", scale=scale)
    drawn = alt.layer(
        ideal.mark_line(strokeDash=[4, 4], color="var(--muted)").encode(x=x, y=share_axis("share", "share correct")),
        base.mark_line(opacity=0.4).encode(x=x, y="share:Q", color=colour),
        base.mark_rule(opacity=0.5).encode(x=x, y="low:Q", y2="high:Q", color=colour),
        base.mark_point(filled=True, opacity=1).encode(
            x=x,
            y="share:Q",
            color=colour,
            size=alt.Size("count:Q", legend=None, scale=alt.Scale(range=[30, 300])),
            tooltip=["round:N", "bin:N", share_tip("share"), "count:Q"],
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
    return chart_of("calibration", "Calibration of the PPM", text, drawn, rows, table)
