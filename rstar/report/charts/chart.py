"""A chart of the page and its parts: the figures as a table, axes, colours.

Colours are CSS variables of the page, so that a chart follows its light and dark theme without being drawn again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import altair as alt

from rstar.report.data import Report

CATEGORIES: Final = [f"var(--c{number})" for number in range(1, 9)]
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


def percent(value: float | None) -> str:
    """Return a share in percent; '-' for None."""
    return "-" if value is None else f"{100 * value:.1f} %"


def interval(low: float, high: float) -> str:
    """Return an interval in percent."""
    return f"{100 * low:.1f} to {100 * high:.1f}"


def chart_of(
    name: str,
    title: str,
    description: str,
    drawn: alt.TopLevelMixin,
    rows: Sequence[Any],
    table: Table,
    height: int = 240,
) -> Chart:
    """Return the chart of ``drawn``; one without a specification where there are no ``rows``. ``height`` in pixels."""
    if not rows:
        return Chart(name, title, description, None, table)
    properties: Any = drawn
    spec: dict[str, Any] = properties.properties(width="container", height=height, description=description).to_dict()
    # Altair's defaults are for a page of its own; the theme is the page's (assets/report.js).
    spec.pop("config", None)
    return Chart(name, title, description, spec, table)


def marks(rows: Rows) -> alt.Chart:
    """Return a chart of rows that has no marks yet."""
    return alt.Chart(alt.Data(values=rows))  # type: ignore[no-untyped-call]


def round_names(report: Report) -> list[str]:
    """Return the names of the rounds, in order."""
    return [one.name for one in report.rounds]


def method_names(report: Report) -> list[str]:
    """Return the names of the methods of all rounds, each once."""
    return list(dict.fromkeys(method.summary.name for one in report.rounds for method in one.methods))


def round_axis(report: Report) -> alt.X:
    """Return the axis of rounds, in order."""
    return alt.X("round:N", title=None, sort=round_names(report), axis=alt.Axis(labelAngle=0, labelLimit=120))


def share_axis(name: str, title: str, top: float = 1.0) -> alt.Y:
    """Return an axis of shares from 0 to ``top``, in percent."""
    return alt.Y(f"{name}:Q", title=title, scale=alt.Scale(domain=[0, top]), axis=alt.Axis(format="%", tickCount=5))


def share_tip(name: str) -> alt.Tooltip:
    """Return the tooltip of a share, in percent."""
    return alt.Tooltip(f"{name}:Q", format=".1%")


def scale(colours: dict[str, str]) -> alt.Scale:
    """Return the scale that gives each name its colour."""
    return alt.Scale(domain=[*colours], range=[*colours.values()])


def method_colour(report: Report) -> alt.Color:
    """Return the colour of each method, the same in every chart."""
    methods = method_names(report)
    colours = [CATEGORIES[number % len(CATEGORIES)] for number in range(len(methods))]
    return alt.Color("method:N", title="method", sort=methods, scale=alt.Scale(domain=methods, range=colours))


def round_colours(report: Report) -> alt.Scale:
    """Return colours from pale (the first round) to full (the last), for both themes."""
    names = round_names(report)
    last = max(1, len(names) - 1)
    parts = [round(45 + 55 * number / last) for number in range(len(names))]
    return alt.Scale(domain=names, range=[f"color-mix(in srgb, var(--c1) {part}%, var(--bg))" for part in parts])


def whole_number(value: float | None) -> str:
    """Return a count with thousands separators; '-' for None."""
    return "-" if value is None else f"{value:,.0f}"
