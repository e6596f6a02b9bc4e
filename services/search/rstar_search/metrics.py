"""Prometheus metrics of the search coordinator. No label names a problem, so the number of time series stays small."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from rstar.record import Usage

ACTIVE: Final = Gauge("rstar_search_active", "Searches in progress.")
FINISHED: Final = Counter("rstar_search_finished", "Searches ended, by outcome.", ["outcome"])
SECONDS: Final = Histogram(
    "rstar_search_seconds",
    "Duration of a finished search.",
    buckets=(0.1, 0.3, 1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000),
)
_ROLLOUTS: Final = Counter("rstar_search_rollouts", "Rollouts done.")
_NODES: Final = Counter("rstar_search_nodes", "Distinct candidate steps that entered a tree.")
_TOKENS: Final = Counter(
    "rstar_search_generated_tokens", "Tokens generated for searches, duplicates and failures included."
)
_EXECUTIONS: Final = Counter("rstar_search_executions", "Programs executed for searches.")


class SearchMetrics:
    """Adds the usage of one search to the counters while it runs."""

    def __init__(self) -> None:
        self._counted = Usage()

    def add(self, usage: Usage) -> None:
        """Add the difference between ``usage`` and the usage of the last call."""
        last = self._counted
        _ROLLOUTS.inc(usage.rollouts - last.rollouts)
        _NODES.inc(usage.nodes - last.nodes)
        _TOKENS.inc(usage.tokens - last.tokens)
        _EXECUTIONS.inc(usage.executions - last.executions)
        self._counted = replace(usage)
