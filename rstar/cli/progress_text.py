"""A stage's progress as text: the same in the live view, the line report and ``rstar status``.

Pure. Figures that the stage did not report are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FIGURES = (
    ("solved", "{:,.0f} solved"),
    ("correct", "{:,.0f} correct"),
    ("coverage", "coverage {:.1%}"),
    ("loss", "loss {:.4f}"),
    ("accuracy", "accuracy {:.3f}"),
    ("tokens", "{:,.0f} tokens"),
    ("tokens_per_second", "{:,.0f} tokens/s"),
    ("nodes_per_second", "{:,.0f} nodes/s"),
)


def figures(progress: Mapping[str, Any]) -> str:
    """Return ``37/100, 12 solved, 1,200 tokens/s, 0:42 left``."""
    parts = []
    if _number(progress.get("total")):
        parts.append(f"{progress.get('done', 0):,.0f}/{progress['total']:,.0f}")
    parts += [form.format(progress[key]) for key, form in _FIGURES if _number(progress.get(key))]
    if _number(progress.get("eta_seconds")):
        parts.append(f"{duration(progress['eta_seconds'])} left")
    return ", ".join(parts)


def share(progress: Mapping[str, Any]) -> float | None:
    """Return the share of the work that is done, in [0, 1], or None when it is not known."""
    done, total = progress.get("done"), progress.get("total")
    return min(1.0, float(done) / float(total)) if _number(done) and _number(total) and total else None  # type: ignore[arg-type]


def duration(seconds: float) -> str:
    """Return ``1:02:03`` or ``2:03``."""
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
