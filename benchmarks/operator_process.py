"""The operator of a benchmark: it measures the time of its own passes, and writes it to a file when it ends by a signal.

``python -m benchmarks.operator_process CONFIGURATION NAMESPACE FIGURES``, with KUBECONFIG set.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rstar_operator.backend import PyTorchJobBackend
from rstar_operator.cache import Cache
from rstar_operator.configuration import load_configuration
from rstar_operator.reconcile import Pass, Reconciler
from rstar_operator.reconcile_evolution import EvolutionReconciler
from rstar_operator.snapshot import RoundSnapshot
from rstar_operator.watching import Watcher

from rstar.cluster.api import Cluster, ConflictError
from rstar.rpc.logs import configure_logs


@dataclass
class Passes:
    """Milliseconds of every pass and of those that wrote nothing, and the number of passes refused as outdated."""

    all: list[float] = field(default_factory=list)
    idle: list[float] = field(default_factory=list)
    outdated: int = 0


class TimedReconciler(Reconciler):
    """A reconciler that measures its passes."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.passes = Passes()

    def reconcile(self, snapshot: RoundSnapshot) -> Pass:
        start = time.perf_counter()
        try:
            made = super().reconcile(snapshot)
        except ConflictError:
            self.passes.outdated += 1
            raise
        taken = (time.perf_counter() - start) * 1e3
        self.passes.all.append(taken)
        if not made.written:
            self.passes.idle.append(taken)
        return made


def main(config: Path, namespace: str, figures: Path) -> None:
    configure_logs("operator", logging.WARNING)
    configuration = load_configuration(config)
    cluster = Cluster.connect(user_agent="rstar-operator")
    cache = Cache()
    reconciler = TimedReconciler(cluster, configuration, PyTorchJobBackend(), cache.put)
    Watcher(
        cluster, reconciler, EvolutionReconciler(cluster, cache.put), cache, (namespace,), configuration.workers
    ).run(liveness=None)
    figures.write_text(json.dumps(vars(reconciler.passes)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
