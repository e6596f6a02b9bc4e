"""Round statuses as tables. Pure rendering."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from rich.table import Table
from rich.text import Text

from rstar.cli.live_view import SYMBOLS
from rstar.cli.progress_text import figures
from rstar.rounds.status import RoundStatus


def rounds_table(statuses: Mapping[str, RoundStatus], missing: Mapping[str, str] = MappingProxyType({})) -> Table:
    """Return one row per round; ``missing`` are rounds without a status, and why none is made of each ('': it will be)."""
    table = Table()
    for column in ("round", "phase", "stages", "now"):
        table.add_column(column)
    for name, status in statuses.items():
        stages = Text("  ").join(
            Text(f"{SYMBOLS[stage.state][0]} {stage.name}", style=SYMBOLS[stage.state][1]) for stage in status.stages
        )
        now = "\n".join(text for text in (status.message, figures(status.progress)) if text)
        table.add_row(name, status.phase, stages, now)
    for name, reason in missing.items():
        table.add_row(name, "Waiting", "", f"not made: {reason}" if reason else "not started")
    return table


def conditions_table(status: RoundStatus) -> Table:
    """Return the conditions of one round."""
    table = Table()
    for column in ("condition", "status", "reason", "message", "since"):
        table.add_column(column, no_wrap=column != "message", overflow="fold")
    for condition in status.conditions:
        since = f"{condition.last_transition_time.astimezone():%Y-%m-%d %H:%M:%S}"
        table.add_row(condition.type, condition.status, condition.reason, condition.message, since)
    return table
