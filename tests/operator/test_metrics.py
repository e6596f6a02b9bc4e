"""The operator's metrics count what it serves, and how its passes end."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from prometheus_client import REGISTRY, CollectorRegistry
from rstar_operator.cache import Cache, NamespacedName
from rstar_operator.metrics import register
from rstar_operator.workqueue import WorkQueue

from rstar.cluster.api import EVOLUTIONS, ROUNDS, ClusterError, ConflictError, Json


def body(name: str, phase: str, reason: str, namespace: str = "lab") -> Json:
    head = {"name": name, "namespace": namespace, "uid": name, "resourceVersion": "1"}
    status = {"phase": phase, "conditions": [{"type": "Ready", "reason": reason}]} if phase else {}
    return {"metadata": head, "spec": {"round": 1}, "status": status}


def test_rounds_and_evolutions_are_counted_by_state_whenever_they_are_read() -> None:
    cache, registry = Cache(), CollectorRegistry()
    register(cache, registry)

    def count(name: str, phase: str, reason: str, namespace: str = "lab") -> float | None:
        labels = {"namespace": namespace, "phase": phase, "reason": reason}
        return registry.get_sample_value(f"rstar_operator_{name}", labels)

    for name in ("a", "b"):
        cache.put(ROUNDS, body(name, "Running", "StageRunning"))
    cache.put(ROUNDS, body("c", "Failed", "BadInput", "other"))
    cache.put(ROUNDS, body("d", "", ""))
    cache.put(EVOLUTIONS, body("e", "Succeeded", "AllRoundsDone"))
    assert count("rounds", "Running", "StageRunning") == 2
    assert count("rounds", "Failed", "BadInput", "other") == 1
    assert count("rounds", "Waiting", "NotSeen") == 1
    assert count("evolutions", "Succeeded", "AllRoundsDone") == 1
    cache.remove(ROUNDS, body("a", "Running", "StageRunning"))
    assert count("rounds", "Running", "StageRunning") == 1


def test_progress_coverage_and_accuracy_of_rounds_are_read_from_their_status() -> None:
    cache, registry = Cache(), CollectorRegistry()
    register(cache, registry)
    running, done, broken = (body(name, "Running", "StageRunning") for name in ("a", "b", "c"))
    running["status"] |= {"stage": "rollout", "progress": {"done": 3, "total": 12}}
    methods = [{"name": "greedy", "accuracy": 0.25}, {"name": "mcts", "accuracy": 0.5}]
    stages = [{"name": "rollout", "metrics": {"coverage": 0.75}}, {"name": "evaluate", "metrics": {"methods": methods}}]
    done["status"] = {"phase": "Succeeded", "stages": stages, "progress": {"done": 1, "total": 1}}
    broken["status"] |= {"stage": "select", "progress": {"done": 0, "total": 0}, "stages": [{"name": "rollout"}]}
    for item in (running, done, broken):
        cache.put(ROUNDS, item)

    def figures(name: str, label: str = "round") -> dict[str, float]:
        families = {family.name: family for family in registry.collect()}
        return {sample.labels[label]: sample.value for sample in families[f"rstar_operator_round_{name}"].samples}

    assert figures("progress") == {"a": 0.25}
    assert figures("progress", "stage") == {"rollout": 0.25}
    assert figures("coverage") == {"b": 0.75}
    assert figures("accuracy", "method") == {"greedy": 0.25, "mcts": 0.5}


async def test_passes_are_measured_by_how_they_end_and_errors_by_their_code() -> None:
    def passes(outcome: str) -> float:
        labels = {"kind": "evolution", "outcome": outcome}
        return REGISTRY.get_sample_value("rstar_operator_pass_seconds_count", labels) or 0

    def refused() -> float:
        return REGISTRY.get_sample_value("rstar_operator_api_errors_total", {"code": "403"}) or 0

    before = {outcome: passes(outcome) for outcome in ("ok", "conflict", "failed")}
    errors = refused()
    ends = iter([ConflictError("old", 409), ClusterError("no", 403), None])
    done = asyncio.Event()
    loop = asyncio.get_running_loop()

    def reconcile(key: NamespacedName) -> timedelta | None:
        error = next(ends)
        if error is not None:
            raise error
        loop.call_soon_threadsafe(done.set)
        return None

    queue = WorkQueue(reconcile, 1, "evolution")
    queue.add(("lab", "e"))
    await done.wait()
    await queue.close()
    assert {outcome: passes(outcome) - before[outcome] for outcome in before} == {"ok": 1, "conflict": 1, "failed": 1}
    assert refused() == errors + 1
