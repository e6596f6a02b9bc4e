"""One pass over one evolution: read, decide, store the status, make the next round. It is safe as ``reconcile`` is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from rstar.cluster.api import EVOLUTIONS, Cluster
from rstar_operator.deciding.decision import RETRY_AFTER
from rstar_operator.deciding.evolution import decide_evolution
from rstar_operator.deciding.evolution_status import evolution_transitions, read_evolution_status
from rstar_operator.reconcile import Pass
from rstar_operator.snapshot import EvolutionSnapshot
from rstar_operator.writing import OnStored, Writer


class EvolutionReconciler:
    """Makes passes over evolutions. Safe to share between threads, with one pass per evolution at a time."""

    def __init__(
        self,
        cluster: Cluster,
        on_stored: OnStored = lambda _kind, _body: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._clock = clock
        self._writer = Writer(cluster, EVOLUTIONS, "evolution", on_stored, clock)

    def reconcile(self, snapshot: EvolutionSnapshot) -> Pass:
        """Make one pass. Raises ``ClusterError`` when the cluster fails, ``ConflictError`` on an old snapshot."""
        body, stored = snapshot.evolution, 0
        before = read_evolution_status(body)
        decision = decide_evolution(snapshot, self._clock())
        if decision.status != before:
            body = self._writer.store(body, decision.status, evolution_transitions(before, decision.status))
            stored += 1
        elif decision.writes:
            body = self._writer.newest(body)
        if not decision.writes:
            pause = RETRY_AFTER if decision.failure is not None else None
            return Pass(body["metadata"]["resourceVersion"], pause, stored)
        failure, written = self._writer.write(body, decision.writes)
        if failure != decision.failure:
            after = decision.status_after(failure)
            body = self._writer.store(body, after, evolution_transitions(decision.status, after))
            stored += 1
        pause = RETRY_AFTER if failure is not None else None
        return Pass(body["metadata"]["resourceVersion"], pause, stored + written)
