"""The report as one HTML page that loads nothing: styles, scripts, charts and trees are inside.

Every text of a store (names, questions, code, outputs) goes through Jinja's escaping or through ``script_json``. A
Content-Security-Policy allows the page's own scripts by their digests and forbids every request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rstar.report.charts import charts
from rstar.report.charts.chart import interval, percent
from rstar.report.data import Artefact, Report, Sample, SampleStep
from rstar.report.embed import script_json, source_hash
from rstar.report.lineage import ancestors
from rstar.report.tree_page import asset
from rstar.trajectory import MARKERS

STAGE_ORDER: Final = ("rollout", "select", "train-policy", "train-ppm", "evaluate")


def render(report: Report, trees: Sequence[Mapping[str, Any]], made: datetime, *, place: str, left_out: int = 0) -> str:
    """Return the page. ``trees``: entries of ``rstar.report.trees``; ``left_out``: more that did not fit the budget.

    ``place`` names the store for the readers of the page.
    """
    style = asset("report.css") + asset("tree.css")
    scripts = [_script(text) for text in (_vega(), asset("tree.js"), asset("report.js"))]
    drawn = charts(report)
    known = {tree["id"] for tree in trees}
    samples = [(sample, tree_id(sample.round, sample.source, sample.problem_id)) for sample in report.samples]
    return (
        _environment()
        .get_template("page.html")
        .render(
            csp=_policy(scripts, style),
            style=Markup(style),
            scripts=[Markup(text) for text in scripts],
            report=report,
            place=place,
            made=made,
            charts=drawn,
            q_charts=[drawn[f"q-{number}"] for number in range(len(report.rounds))],
            specs=Markup(script_json({chart.id: chart.spec for chart in drawn.values() if chart.spec is not None})),
            trees=Markup(script_json(list(trees))),
            shown_trees=len(trees),
            shown_problems=len({tree["problem"]["id"] for tree in trees}),
            all_trees=sum(some.problems for one in report.rounds for some in one.trees),
            left_out=left_out,
            samples=[(sample, found if found in known else "") for sample, found in samples],
            lineage=_lineage(report),
            best=_best(report),
        )
    )


def tree_id(round_name: str, source: str, problem_id: str) -> str:
    """Return the id of a tree in the page."""
    return f"{round_name}/{source}/{problem_id}"


@dataclass(frozen=True, slots=True)
class _Cell:
    """A stage in the picture of the lineage. ``made_from``: the ids of all cells that it was made from, itself too."""

    id: str
    artefact: Artefact
    made_from: str
    inputs: tuple[tuple[str, str, str], ...]
    metrics: tuple[tuple[str, str], ...]


def _lineage(report: Report) -> dict[tuple[str, str], _Cell]:
    """Return the cells by (round, stage)."""
    ids = {one.manifest: f"stage-{number}" for number, one in enumerate(report.lineage)}
    names = {one.manifest: f"{one.stage} of {one.round}" for one in report.lineage}
    cells = {}
    for one in report.lineage:
        inputs = tuple((name, ids.get(key, ""), names.get(key, key)) for name, key in one.inputs.items())
        above = " ".join(ids[key] for key in ancestors(one.manifest, report.lineage))
        cells[one.round, one.stage] = _Cell(ids[one.manifest], one, above, inputs, tuple(_metrics(one.metrics)))
    return cells


def _metrics(metrics: Any) -> list[tuple[str, str]]:
    """Return a manifest's metrics as (name, text); tables of methods and reasons are shown elsewhere."""
    return [
        (name, f"{value:,}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value))
        for name, value in metrics.items()
        if not isinstance(value, (dict, list)) and value is not None
    ]


def _best(report: Report) -> tuple[str, str, float] | None:
    """Return (round, method, accuracy) of the most accurate method of the last evaluated round."""
    evaluated = [one for one in report.rounds if one.methods]
    if not evaluated:
        return None
    best = max(evaluated[-1].methods, key=lambda method: method.summary.accuracy)
    return evaluated[-1].name, best.summary.name, best.summary.accuracy


def _shown_step(step: SampleStep) -> str:
    """Return a step's text as it reads: without the markers of the trajectory's grammar."""
    text = step.text
    for marker in MARKERS:
        text = text.replace(marker, "")
    return text.strip("\n")


def _verdict(sample: Sample) -> str:
    return "not graded yet" if sample.right is None else "right" if sample.right else "wrong"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("rstar.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "step_text": _shown_step, "verdict": _verdict}
    environment.globals |= {"interval": interval, "STAGES": STAGE_ORDER}
    return environment


def _vega() -> str:
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def _script(text: str) -> str:
    """Return a script as it stands in the page. No library contains the end tag; an escape keeps it so."""
    return text.replace("</script", "<\\/script").replace("<!--", "\\x3c!--")


def _policy(scripts: Sequence[str], style: str) -> str:
    """Return the Content-Security-Policy: only these scripts and this style count, and nothing is requested."""
    allowed = " ".join(source_hash(text) for text in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src {source_hash(style)}; base-uri 'none'; form-action 'none'"
    )
